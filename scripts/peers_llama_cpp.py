"""llama.cpp, compiled from the source distribution of llama-cpp-python, which holds all of it.

Its `llama-perplexity` scores the embedded target in fp32 and in quantisations of it, and writes every logit
to a file. Our figures are of these logits: kernels are then the same, and what is compared is how figures are
made of them. It keeps the base's logits in 16 bits, so that divergences of single positions below 1e-4 are
rounding; they bind nobody.
"""

from __future__ import annotations

import math
import os
import re
import sys
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from bitdraft.backends import load_model, token_model
from bitdraft.config import ModelConfig
from bitdraft.engine.scoring import kl_of_logits, kl_of_windows, log_prob_of
from bitdraft.engine.token_model import TokenModel
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.datasets import Dataset
from bitdraft.inputs.gguf.writer import write_gguf
from bitdraft.inputs.tokenizers import load_tokenizer, text_encoder
from bitdraft.inputs.variants import Variant
from bitdraft.inputs.windows import ScoringPlan, plan_scoring
from bitdraft.metrics.quality import block_lengths, paired_figures, perplexity, score_blocks
from peers_common import (
    PEERS,
    TARGET,
    Agreement,
    blocks_of,
    call,
    folder_of,
    model_of,
    numbers,
    scored_text,
    scores_of,
    windows_of,
)

PACKAGE = "llama-cpp-python==0.3.36"
HOME = PEERS / "llama.cpp"
TOOLS = ("llama-perplexity", "llama-quantize", "llama-bench", "llama-server")
FORMATS = ("f16", "q8_0", "q4_0", "q4_K_M")
OWN_FORMATS = ("q8_0", "q4_K_M")
CONTEXT = 512
MOST_TRIES = 10
_ESTIMATE = r"Final estimate: PPL = ([0-9.]+)"
_PRINTED = {
    "mean KLD": r"Mean +KLD: +([0-9.e-]+)",
    "maximum KLD": r"Maximum KLD: +([0-9.e-]+)",
    "99 % KLD": r"99.0% +KLD: +([0-9.e-]+)",
    "median KLD": r"Median +KLD: +([0-9.e-]+)",
    "PPL ratio": r"PPL\(Q\)/PPL\(base\) +: +([0-9.]+)",
    "same top p, %": r"Same top p: +([0-9.]+)",
    "RMS Δp, %": r"RMS Δp +: +([0-9.]+)",
}
TOLERANCE, KL_TOLERANCE, SAME_TOLERANCE = 1e-4, 0.02, 1e-3
STORED = 1e-4
"""Of single positions, divergences below this are those of the 16 bits in which llama.cpp keeps the base's
logits: it prints negative ones as well"""


def install() -> None:
    """The tools alone; ten minutes on two cores."""
    if all(tool(name).exists() for name in TOOLS):
        return
    source = next(HOME.glob("llama_cpp_python-*/vendor/llama.cpp"), None)
    if source is None:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", "llama-cpp-python"]
        call([*pip, PACKAGE, "--dest", HOME])
        (archive,) = HOME.glob("llama_cpp_python-*.tar.gz")
        call(["tar", "-xzf", archive, "-C", HOME])
        source = next(HOME.glob("llama_cpp_python-*/vendor/llama.cpp"))
    call([
        *("cmake", "-S", source, "-B", HOME / "build", "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON"),
        *("-DLLAMA_CURL=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_TESTS=OFF"),
        *("-DLLAMA_BUILD_SERVER=ON", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF"),
    ])  # fmt: skip
    call(["cmake", "--build", HOME / "build", "-j", os.cpu_count() or 1, "--target", *TOOLS])


def tool(name: str) -> Path:
    """One of llama.cpp's programs."""
    return HOME / "build" / "bin" / name


def version() -> str:
    return f"llama.cpp of {PACKAGE}"


def agree() -> list[Agreement]:
    models = HOME / "models"
    models.mkdir(exist_ok=True)
    text = models / "text.txt"
    text.write_text(scored_text(), encoding="utf-8")
    folder = folder_of(TARGET)
    write_gguf(folder, [folder / "model.safetensors"], models / "f32.gguf")
    whole = _Scored.of(models / "f32.gguf", text)
    found = _perplexity(whole, text)
    for name in FORMATS:
        quantised = models / f"{name}.gguf"
        call([tool("llama-quantize"), models / "f32.gguf", quantised, name])
        scored = _Scored.of(quantised, text)
        found += _divergences(whole, scored, name)
        if name in OWN_FORMATS:
            found += _own_figures(whole, scored, text)
    return found


@dataclass(frozen=True)
class _Scored:
    """What llama-perplexity printed of a model on a text, and the file of all its logits."""

    model: Path
    text: Path
    printed: str

    @classmethod
    def of(cls, model: Path, text: Path) -> _Scored:
        """Repacking weights crashes on processors with AMX in this version, so it is switched off."""
        command = [*cls._command(model, text), "--kl-divergence-base", _logits(model)]
        return cls(model, text, _whole(command, _ESTIMATE))

    @staticmethod
    def _command(model: Path, text: Path) -> list[object]:
        return [tool("llama-perplexity"), "-m", model, "-f", text, "-c", CONTEXT, "--no-repack"]

    def against(self, base: Path) -> str:
        """What it prints of the divergence from another model's logits."""
        command = self._command(self.model, self.text)
        command += ["--kl-divergence-base", _logits(base), "--kl-divergence"]
        return _whole(command, *_PRINTED.values())

    @cached_property
    def logits(self) -> tuple[torch.Tensor, torch.Tensor]:
        """(log-probabilities, targets) of the scored positions: W windows × T tokens × V, W × T."""
        return _read_logits(_logits(self.model))


def _whole(command: list[object], *patterns: str) -> str:
    """What a command prints. Its log now and then loses lines when the program ends: then again."""
    for _ in range(MOST_TRIES):
        printed = call(command)
        if all(re.search(pattern, printed) for pattern in patterns):
            return printed
    raise SystemExit(f"llama-perplexity printed less than {', '.join(patterns)} in {MOST_TRIES} tries")


def _logits(model: Path) -> Path:
    return model.with_suffix(".logits")


def _read_logits(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """A file's header is three numbers (context, vocabulary, windows) and all ids; then for every scored
    position a scale and the least log-probability, and 16 bits a token (llama.cpp, tools/perplexity)."""
    content = path.read_bytes()
    assert content[:8] == b"_logits_"
    context, num_tokens, num_windows = map(int, np.frombuffer(content, "<i4", 3, 8))
    ids_WN = np.frombuffer(content, "<i4", num_windows * context, 20).reshape(num_windows, context)
    width = 2 * ((num_tokens + 1) // 2) + 4
    rows = np.frombuffer(content, "<u2", offset=20 + 4 * ids_WN.size).reshape(num_windows, -1, width)
    ends = rows[..., :4].copy().view("<f4").astype(np.float64)
    log_p_WTV = ends[..., :1] * rows[..., 4 : 4 + num_tokens] + ends[..., 1:]
    num_scored = rows.shape[1]
    targets_WT = ids_WN[:, context - num_scored :].astype(np.int64)
    return torch.from_numpy(log_p_WTV), torch.from_numpy(targets_WT)


def _perplexity(whole: _Scored, text: Path) -> list[Agreement]:
    """Of the fp32 weights: our windows, our forward, our figure."""
    plan = _plan(text)
    ours = perplexity(blocks_of(model_of(TARGET), plan)).value
    theirs = _printed(whole.printed, _ESTIMATE)
    num_windows = len(re.findall(r"\[\d+\]", whole.printed))
    return [
        Agreement(
            "windows", str(len(plan.windows)), str(num_windows), float(abs(len(plan.windows) - num_windows))
        ),
        numbers("PPL, f32", ours, theirs, TOLERANCE),
    ]


def _plan(text: Path) -> ScoringPlan:
    config = ModelConfig(model=TARGET)
    tokenizer = load_tokenizer(find_checkpoint(config), config)
    dataset = Dataset("text", (text.read_text(encoding="utf-8"),), ("text",), "test")
    return plan_scoring(dataset, text_encoder(tokenizer), "llama.cpp", context=2048)


def _own_figures(base: _Scored, candidate: _Scored, text: Path) -> list[Agreement]:
    """Ours of the same two files, by our windows, over llama.cpp as a token model."""
    plan, whole, small = _plan(text), _runner(base.model), _runner(candidate.model)
    kl = torch.cat([own for _, own in sorted(kl_of_windows(whole, small, windows_of(plan), 256))])
    log_prob, top1 = scores_of(small, plan)
    lengths = block_lengths(log_prob.size, None)
    blocks = score_blocks(log_prob, top1, lengths, reference=scores_of(whole, plan))
    printed, name = candidate.against(base.model), f"{candidate.model.stem}, our forwards over llama.cpp"
    same = 100 * paired_figures(blocks)["top1_agreement"].value
    own_ppl, their_ppl = perplexity(blocks).value, _printed(candidate.printed, _ESTIMATE)
    their_kl, their_same = (_printed(printed, _PRINTED[key]) for key in ("mean KLD", "same top p, %"))
    return [
        numbers(f"PPL, {name}", own_ppl, their_ppl, TOLERANCE),
        numbers(f"mean KLD, {name}", float(kl.mean()), their_kl, KL_TOLERANCE, digits=4, last_digit=1e-6),
        numbers(f"same top p, %, {name}", same, their_same, SAME_TOLERANCE, last_digit=1e-3),
    ]


def _runner(path: Path) -> TokenModel:
    config = ModelConfig(model=str(path))
    checkpoint = find_checkpoint(config)
    return token_model(
        load_model(Variant(checkpoint, checkpoint.stored_dtype), torch.device("cpu"), config).model
    )


def _divergences(base: _Scored, candidate: _Scored, name: str) -> list[Agreement]:
    """The table of llama-perplexity and ours, of the same logits."""
    printed = candidate.against(base.model)
    (log_p_WTV, targets_WT), (log_q_WTV, _) = base.logits, candidate.logits
    kl_N = torch.cat([kl_of_logits(p, q) for p, q in zip(log_p_WTV, log_q_WTV, strict=True)])
    sides = []
    for log_WTV in (log_q_WTV, log_p_WTV):
        scores = [log_prob_of(one.double(), ids) for one, ids in zip(log_WTV, targets_WT, strict=True)]
        sides.append((torch.cat(scores).numpy(), log_WTV.argmax(-1).flatten().numpy()))
    blocks = score_blocks(*sides[0], block_lengths(len(kl_N), None), reference=sides[1])
    paired = paired_figures(blocks)
    rows = {
        "mean KLD": float(kl_N.mean()),
        "maximum KLD": float(kl_N.max()),
        "99 % KLD": float(kl_N.quantile(0.99)),
        "median KLD": float(kl_N.median()),
        "PPL ratio": math.exp(paired["delta_ln_ppl"].value),
        "same top p, %": 100 * paired["top1_agreement"].value,
        "RMS Δp, %": 100 * paired["delta_p_rms"].value,
    }
    found = []
    for figure, ours in rows.items():
        theirs = _printed(printed, _PRINTED[figure])
        is_single = figure in ("maximum KLD", "99 % KLD", "median KLD")
        one = numbers(
            f"{figure}, {name}",
            ours,
            theirs,
            TOLERANCE if figure == "PPL ratio" else KL_TOLERANCE,
            digits=4 if "KLD" in figure else 6,
            last_digit=1e-3 if "%" in figure and "KLD" not in figure else 1e-6,
        )
        found.append(replace(one, is_information=is_single and theirs < STORED))
    return found


def _printed(text: str, pattern: str) -> float:
    found = re.search(pattern, text)
    assert found is not None, f"llama-perplexity no longer prints {pattern}"
    return float(found[1])
