"""What the parts of `scripts/bench` share: settings, models, prompts, the order of arms, the memory's
measured read bandwidth, tables.

Every comparison is interleaved: on one item (a prompt, a group of prompts) all arms run directly after one
another in one process, in reversed order on every other item, so that a drift of the machine hits all alike.
Ratios are of sums over items paired by index, with 95 % intervals (`bitdraft.stats`).
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from bitdraft.config import ModelConfig, Precision, TextConfig
from bitdraft.engine.cpu.products import can_pack, pack, packed_product
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.datasets import load_dataset
from bitdraft.inputs.models import LoadedModel, load_model
from bitdraft.inputs.prompts import Encoder, select_prompts
from bitdraft.inputs.tokenizers import load_tokenizer, text_encoder
from bitdraft.inputs.variants import Variant
from bitdraft.metrics.acceptance import speculation_figures
from bitdraft.probes.clock import now, synchronize
from bitdraft.schema.records import Figure, Generation

EMBEDDED = "demo/target"
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
NUM_WARMUP = 2
STDLIB_TEXTS = 20
Item = TypeVar("Item")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Settings:
    """What was asked for. `compiled` compiles where `quick` would leave it out; `models` narrows a part to
    some of its models."""

    device: torch.device
    quick: bool = False
    data_root: Path | None = None
    compiled: bool = False
    models: tuple[str, ...] = ()

    def picks(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if not self.models or name in self.models]

    def may_compile(self, model: str) -> bool:
        """A C++ compiler is there, and a quick run compiles nothing above the embedded target."""
        return has_compiler() and (self.compiled or not self.quick or model == EMBEDDED)


@dataclass
class Report:
    """What a part found: a record for the JSON line, a Markdown section, a picture."""

    name: str
    record: Any
    markdown: str
    picture: bytes | None = None


def has_compiler() -> bool:
    names = (os.environ.get("CXX", ""), "g++", "clang++", "cl")
    return any(name and shutil.which(name) for name in names)


def load(name: str, precision: Precision, device: torch.device) -> LoadedModel:
    """An embedded model, or a shape with random weights."""
    config = ModelConfig(model=name, random_weights=not name.startswith("demo/"))
    return load_model(Variant(find_checkpoint(config), precision), device, config)


def load_all(names: Sequence[str], precision: Precision, device: torch.device) -> list[Any]:
    return [load(name, precision, device).model for name in names]


def prompts_of(settings: Settings, num_prompts: int, max_tokens: int) -> list[list[int]]:
    """From WikiText-2 where its folder is given, else from the standard library, cut by the embedded
    tokenizer, whose ids every model here has. The library's few texts are cut into as many pieces as it
    takes."""
    pieces = 1 if settings.data_root else -(-num_prompts // STDLIB_TEXTS)
    text = TextConfig(
        dataset="wikitext" if settings.data_root else "stdlib",
        data_root=settings.data_root,
        num_prompts=num_prompts if pieces == 1 else STDLIB_TEXTS,
        max_prompt_tokens=max_tokens * pieces,
    )
    model = ModelConfig()
    encode = text_encoder(load_tokenizer(find_checkpoint(model), model))
    texts = [prompt.token_ids for prompt in select_prompts(load_dataset(text), text, Encoder(encode))]
    prompts = [
        list(ids[start : start + max_tokens]) for ids in texts for start in range(0, len(ids), max_tokens)
    ]
    assert len(prompts) >= num_prompts, f"{len(prompts)} prompts where {num_prompts} are needed"
    return prompts[:num_prompts]


def interleave(
    arms: Mapping[Any, Callable[[Item], Found]],
    items: Sequence[Item],
    what: str,
    before: Callable[[Item], object] = lambda _: None,
    after: Callable[[int, Item], object] = lambda *_: None,
    *,
    num_warmup: int = NUM_WARMUP,
    has_time: Callable[[], bool] = lambda: True,
) -> dict[Any, list[Found]]:
    """What every arm returns for every item. The first items are run once more before, for warm-up, and
    `after` is called with −1 in place of the item's index there. Behind the first item, none is begun when
    there is no time."""
    found: dict[Any, list[Found]] = {name: [] for name in arms}
    num_warmup = min(num_warmup, len(items))
    for place, item in enumerate([*items[:num_warmup], *items]):
        if place > num_warmup and not has_time():
            break
        say(f"{what}: item {place + 1} of {num_warmup + len(items)}")
        before(item)
        for name in arms if place % 2 else reversed(arms):
            found[name].append(arms[name](item))
        after(place - num_warmup if place >= num_warmup else -1, item)
    for runs in found.values():
        del runs[:num_warmup]
    return found


def say(text: str) -> None:
    """Progress, beside the report."""
    print(text, file=sys.stderr, flush=True)


@dataclass
class ReadBandwidth:
    """The memory's read bandwidth at the time of the run: 256 MiB of float32 (1 GiB on CUDA) read between any
    two items by a sum and by a matrix-vector product (on a CPU by oneDNN's packed one, too), three times each
    behind one that is not counted. Which is the fastest differs between processors and numbers of threads,
    so the ceiling is the largest of the medians."""

    device: torch.device
    samples: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        side = 2**14 if self.device.type == "cuda" else 2**13
        self._matrix = torch.ones(side, side, device=self.device)
        self._vector = torch.ones(side, device=self.device)
        may_pack = self.device.type == "cpu" and can_pack(torch.float32)
        self._packed = pack(self._matrix) if may_pack else None

    @torch.inference_mode()
    def sample(self, *_: object) -> None:
        reads: dict[str, Callable[[], object]] = {
            "sum": self._matrix.sum,
            "product": lambda: self._matrix.mv(self._vector),
        }
        packed = self._packed
        if packed is not None:
            reads["packed product"] = lambda: packed_product(self._vector[None], packed)
        for name, read in reads.items():
            for place in range(4):
                synchronize(self.device)
                start_s = now()
                read()
                synchronize(self.device)
                if place:
                    self.samples.setdefault(name, []).append(4 * self._matrix.numel() / (now() - start_s))

    @property
    def bytes_s(self) -> float:
        return max(map(statistics.median, self.samples.values()))


def same_ids(runs: Sequence[Generation], base: Sequence[Generation]) -> str:
    return same_texts(runs, [run.token_ids for run in base])


def same_texts(runs: Sequence[Generation], texts: Sequence[Sequence[int] | None]) -> str:
    """How many runs have the token ids of the text at their place."""
    same = sum(run.token_ids == text for run, text in zip(runs, texts, strict=True))
    return f"{same}/{len(texts)}"


def tokens_per_step(runs: Sequence[Generation], k: int) -> float:
    """Of a draft at one K."""
    return speculation_figures([(run,) for run in runs], k)["tokens_per_step"].value


def ratio_text(figure: Figure | None) -> str:
    """`1.50 [1.40, 1.60]`; nothing for none."""
    if figure is None:
        return ""
    if figure.low is None or figure.high is None:
        return f"{figure.value:.2f}"
    return f"{figure.value:.2f} [{figure.low:.2f}, {figure.high:.2f}]"


def dumped(line: Mapping[str, Any]) -> dict[str, Any]:
    """For JSON: figures as what they hold."""
    return {key: value.model_dump() if isinstance(value, Figure) else value for key, value in line.items()}


def cell_text(value: Any, digits: int = 2) -> str:
    if value is None:
        return ""
    if isinstance(value, Figure):
        return ratio_text(value)
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def table(columns: Mapping[str, tuple[str, int]], lines: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: `columns` are (title, digits) by the key of a line; those that no line has are left out."""
    filled = {key for line in lines for key, value in line.items() if value is not None}
    used = {key: column for key, column in columns.items() if key in filled}
    texts = [any(isinstance(line.get(key), str) for line in lines) for key in used]
    rows = [[title for title, _ in used.values()], ["---" if text else "---:" for text in texts]]
    rows += [[cell_text(line.get(key), digits) for key, (_, digits) in used.items()] for line in lines]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
