"""llama.cpp's server, built of the same source: tokens per step as `serve-bench` reads them of it, beside
what our own sweep over llama.cpp measures of the same files, prompts and K; and certificates of it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import bitdraft
import peers_llama_cpp
from bench_llama_cpp import server
from bitdraft.config import ModelConfig
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.gguf.files import gguf_of
from bitdraft.schema.serving import ServingResult
from bitdraft.schema.spec_decode import SpecDecodeResult
from peers_common import TARGET, Agreement, numbers

DRAFT = "demo/draft-medium"
FORMAT = "gguf-f32"
KS = (1, 2, 4)
NUM_PROMPTS, NUM_TOKENS, PROMPT_TOKENS = 12, 96, 96
DRAWN_PROMPTS, NUM_DRAWS = 4, 200

install = peers_llama_cpp.install


def version() -> str:
    return f"llama-server of {peers_llama_cpp.PACKAGE}"


def agree() -> list[Agreement]:
    target, draft = (
        gguf_of(find_checkpoint(config), FORMAT, config)
        for config in (ModelConfig(model=name) for name in (TARGET, DRAFT))
    )
    with tempfile.TemporaryDirectory() as folder, _servers(target, draft) as urls:
        read = bitdraft.bench_servers(
            [f"{name}={url}" for name, url in urls.items()],
            tokenizer=TARGET,
            num_prompts=NUM_PROMPTS,
            max_new_tokens=NUM_TOKENS,
            max_prompt_tokens=PROMPT_TOKENS,
            speculative_tokens=tuple(f"k{k}={k}" for k in KS),
            output=Path(folder) / "servers",
        )
        pair = [f"plain={urls['plain']}", f"other={urls['k4']}"]
        shared: dict[str, Any] = {
            "tokenizer": TARGET,
            "max_prompt_tokens": PROMPT_TOKENS,
            "max_new_tokens": NUM_TOKENS,
        }
        greedy = bitdraft.certify_server(pair, num_prompts=NUM_PROMPTS, server_precision="fp32", **shared)
        drawn = bitdraft.certify_server(
            pair, num_prompts=DRAWN_PROMPTS, temperature=0.8, num_draws=NUM_DRAWS, **shared
        )
        swept = bitdraft.evaluate_spec_decode(
            TARGET,
            precision=FORMAT,
            drafts=(DRAFT,),
            draft_precision=FORMAT,
            k=KS,
            num_prompts=NUM_PROMPTS,
            max_new_tokens=NUM_TOKENS,
            max_prompt_tokens=PROMPT_TOKENS,
            output=Path(folder) / "sweep",
        )
    unexplained = [one for one in greedy.divergences if one.kind == "unexplained"]
    total = greedy.num_prompts
    return [
        *_acceptance(read, swept),
        Agreement("certificate: texts of plain decoding", f"{total} texts", f"{greedy.num_same} the same",
            float(len(unexplained)), allowed="near-ties"),
        Agreement("certificate: distributions of drawn answers", f"{DRAWN_PROMPTS} prompts",
            "the same" if drawn.is_lossless else "others", float(not drawn.is_lossless),
            allowed=f"by {NUM_DRAWS} draws, p > 0.01"),
    ]  # fmt: skip


@contextlib.contextmanager
def _servers(target: Path, draft: Path) -> Iterator[dict[str, str]]:
    """Without a draft, and one for each K."""
    with contextlib.ExitStack() as stack:
        plain = stack.enter_context(server(target, None, 0, ()))
        others = {f"k{k}": stack.enter_context(server(target, draft, k, ())) for k in KS}
        yield {name: str(one.base_url).rstrip("/") for name, one in {"plain": plain, **others}.items()}


def _acceptance(read: ServingResult, swept: SpecDecodeResult) -> Sequence[Agreement]:
    rows = {row.server: row for row in read.rows}
    found = []
    for row in (row for row in swept.rows if row.k):
        ours, theirs = row.metrics, rows[f"k{row.k}"].metrics
        for name in ("tokens_per_step", "acceptance_rate"):
            figure = f"K = {row.k}: {name.replace('_', ' ')}"
            found.append(numbers(figure, ours[name].value, theirs[name].value, 1e-9))
    return found
