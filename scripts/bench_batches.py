"""Batches: throughput of K = 0 and of speculation at batch 1, 4 and 8, natively (static).

The embedded models, where the draft agrees as it does, and pythia-160m with a pythia-70m draft at a synthetic
acceptance of 0.8. An item is a group of eight prompts: batch 1 decodes them one after another, batch 4 in
two runs, batch 8 at once, so that all arms do the same work on the same item and are compared on it.
Throughput counts all prefills, each of one prompt alone; `after the prefill` leaves them out, which is what
a batch can be faster at. Rows are held against K = 0 at batch 1, token by token.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from bench_drawing import Line, Panel, line_panels
from benchmarks import (
    PRECISIONS,
    Report,
    Settings,
    dumped,
    interleave,
    load_all,
    prompts_of,
    same_ids,
    same_texts,
    table,
)
from bitdraft.backends.base import EngineSetup
from bitdraft.backends.native import NativeEngine
from bitdraft.config import DecodingConfig, Precision, SamplingConfig
from bitdraft.errors import UserError
from bitdraft.metrics.speed import batch_seconds
from bitdraft.schema.records import Generation
from bitdraft.spec_decode.synthetic import Text, agreement_bits, run_with_oracle
from bitdraft.stats.intervals import ratio_of_rates, ratio_of_sums

SIZES = (1, 4, 8)
ALPHA = 0.8
DRAFT = "draft"
Arm = tuple[int, int]
"""Batch size, K"""
COLUMNS = {
    "pair": ("models", 0),
    "precision": ("precision", 0),
    "batch": ("batch", 0),
    "k": ("K", 0),
    "tok_s": ("tokens/s", 0),
    "over_batch_1": ("/ batch 1, same K", 2),
    "over_k0": ("/ K = 0, same batch", 2),
    "decode_tok_s": ("after the prefill, tokens/s", 0),
    "decode_over_batch_1": ("/ batch 1, same K", 2),
    "decode_over_k0": ("/ K = 0, same batch", 2),
    "same_ids": ("rows as batch 1, K = 0", 0),
    "followed": ("rows as told", 0),
    "n": ("groups", 0),
}


@dataclass(frozen=True)
class Pair:
    target: str
    draft: str
    alpha: float | None
    ks: tuple[int, ...]
    num_tokens: int
    vocab_size: int
    sizes: tuple[int, ...] = SIZES

    @property
    def name(self) -> str:
        stated = f", α = {self.alpha}" if self.alpha is not None else ""
        return f"{self.target} + {self.draft.removeprefix('demo/')}{stated}"


PAIRS = (
    Pair("demo/target", "demo/draft-medium", None, (0, 3), 100, 2048),
    Pair("pythia-160m", "pythia-70m", ALPHA, (0, 2, 4), 48, 50_304),
)


@dataclass(frozen=True)
class GroupRun:
    """What one arm made of one group."""

    rows: list[Generation]
    seconds: float
    decode_s: float

    @property
    def num_tokens(self) -> int:
        return sum(len(row.token_ids) for row in self.rows)

    @property
    def num_decoded(self) -> int:
        """The first token of a row comes from its prefill."""
        return self.num_tokens - len(self.rows)


@dataclass
class Bench:
    """A decoder for each batch size over the same models, so that none is laid out anew between arms.
    `texts` are the target's own at batch 1 by prompt; drafts with oracle tokens followed `followed`, by
    batch size, K and prompt."""

    pair: Pair
    config: DecodingConfig
    decoders: dict[int, NativeEngine]
    texts: dict[int, Text] = field(default_factory=dict)
    followed: dict[tuple[int, int, int], Text] = field(default_factory=dict)

    def begin(self, group: Sequence[tuple[int, list[int]]]) -> None:
        if self.pair.alpha is not None:
            rows = self._run(1, 0, group, [[]] * len(group)).rows
            self.texts = {index: row.token_ids for (index, _), row in zip(group, rows, strict=True)}

    def decode(self, size: int, k: int, group: Sequence[tuple[int, list[int]]]) -> GroupRun:
        if self.pair.alpha is None or k == 0:
            return self._run(size, k, group, [[]] * len(group))
        found: list[GroupRun] = []

        def run(oracle_ids: list[list[int]]) -> list[Generation]:
            found.append(self._run(size, k, group, oracle_ids))
            return found[-1].rows

        texts = [self.texts[index] for index, _ in group]
        bits = [agreement_bits(self.pair.alpha, len(texts[0]), 0, index) for index, _ in group]
        _, followed = run_with_oracle(run, texts, bits, self.pair.vocab_size)
        for (index, _), text in zip(group, followed, strict=True):
            self.followed[size, k, index] = text
        return found[-1]

    def _run(
        self, size: int, k: int, group: Sequence[tuple[int, list[int]]], oracle_ids: Sequence[list[int]]
    ) -> GroupRun:
        decoder, rows = self.decoders[size], []
        seconds = decode_s = 0.0
        for start in range(0, len(group), size):
            prompts = [prompt for _, prompt in group[start : start + size]]
            decoder.prepare_batch(prompts, self.config)
            said, seeds = oracle_ids[start : start + size], [0] * len(prompts)
            found = decoder.decode_batch(self.config, DRAFT if k else None, k, seeds, said)
            end_s = max(row.emissions[-1][0] for row in found)
            seconds += batch_seconds(found)
            decode_s += end_s - min(row.emissions[0][0] for row in found)
            rows += found
        return GroupRun(rows, seconds, decode_s)


def decoders_of(
    pair: Pair, models: tuple[Any, Any], prompts: list[list[int]], config: DecodingConfig
) -> tuple[dict[int, NativeEngine], list[str]]:
    """By batch size, and a note for each that cannot be had."""
    target, draft = models
    capacity = max(map(len, prompts)) + config.max_new_tokens
    decoders, notes = {}, []
    for size in pair.sizes:
        decoder = NativeEngine(
            EngineSetup(
                target,
                {DRAFT: draft},
                SamplingConfig(),
                execution="static",
                capacity=capacity,
            )
        )
        try:
            decoder.prepare_batch(prompts[:size], config)
        except (UserError, torch.OutOfMemoryError) as error:
            notes.append(f"{pair.name}, batch {size} did not run: {error}".splitlines()[0])
            continue
        decoders[size] = decoder
    return decoders, notes


def compare(
    pair: Pair,
    precision: Precision,
    models: tuple[Any, Any],
    prompts: list[list[int]],
    has_time: Callable[[], bool] = lambda: True,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Lines and notes; groups are as large as the largest batch."""
    config = DecodingConfig(max_new_tokens=pair.num_tokens)
    decoders, notes = decoders_of(pair, models, prompts, config)
    bench = Bench(pair, config, decoders)
    numbered, group = list(enumerate(prompts)), max(pair.sizes)
    groups = [numbered[start : start + group] for start in range(0, len(numbered), group)]
    arms: dict[Arm, Callable[[list[tuple[int, list[int]]]], GroupRun]] = {
        (size, k): lambda group, size=size, k=k: bench.decode(size, k, group)  # type: ignore[misc]
        for size in decoders
        for k in pair.ks
    }
    what = f"batches, {pair.name}, {precision}"
    runs = interleave(arms, groups, what, before=bench.begin, num_warmup=1, has_time=has_time)
    return lines_of(pair.name, precision, runs, bench.followed), notes


def lines_of(
    name: str,
    precision: Precision,
    runs: Mapping[Arm, Sequence[GroupRun]],
    followed: Mapping[tuple[int, int, int], Text],
) -> list[dict[str, Any]]:
    base = [row for run in runs[1, 0] for row in run.rows]
    lines = []
    for (size, k), found in runs.items():
        rows = [row for run in found for row in run.rows]
        line: dict[str, Any] = {
            "pair": name,
            "precision": precision,
            "batch": size,
            "k": k,
            "same_ids": same_ids(rows, base),
            "n": len(found),
        }
        texts = [followed.get((size, k, index)) for index in range(len(rows))]
        if any(texts):
            line["followed"] = same_texts(rows, texts)
        for prefix, tokens, seconds in (
            ("", "num_tokens", "seconds"),
            ("decode_", "num_decoded", "decode_s"),
        ):
            own = _columns(found, tokens, seconds)
            line[f"{prefix}tok_s"] = ratio_of_sums(*own).value
            line[f"{prefix}tok_s_figure"] = ratio_of_sums(*own)
            if size > 1:
                line[f"{prefix}over_batch_1"] = ratio_of_rates(*own, *_columns(runs[1, k], tokens, seconds))
            if k:
                line[f"{prefix}over_k0"] = ratio_of_rates(*own, *_columns(runs[size, 0], tokens, seconds))
        lines.append(line)
    return lines


def _columns(runs: Sequence[GroupRun], tokens: str, seconds: str) -> tuple[list[float], list[float]]:
    return [getattr(run, tokens) for run in runs], [getattr(run, seconds) for run in runs]


def run(settings: Settings) -> Report:
    lines: list[dict[str, Any]] = []
    notes: list[str] = []
    for pair in PAIRS:
        if not settings.picks([pair.target]):
            continue
        num_groups, most = (5, 64) if settings.quick else (8, 128)
        prompts = prompts_of(settings, num_groups * max(pair.sizes), most)
        if settings.quick:
            pair = dataclasses.replace(pair, num_tokens=16)  # noqa: PLW2901
        for precision in PRECISIONS:
            target, draft = load_all([pair.target, pair.draft], precision, settings.device)
            found, missing = compare(pair, precision, (target, draft), prompts)
            lines += found
            notes += missing
    text = ["## Batches", table(COLUMNS, lines), *notes]
    record = {"lines": [dumped(line) for line in lines], "notes": notes}
    return Report("batches", record, "\n\n".join(text), picture(lines))


def picture(lines: Sequence[Mapping[str, Any]]) -> bytes:
    panels: dict[tuple[str, str], Panel] = {}
    for line in lines:
        where = line["pair"], line["precision"]
        panel = panels.setdefault(
            where, Panel(", ".join(where), "batch", "tokens/s after the prefill", ticks=SIZES)
        )
        name = "K = 0" if line["k"] == 0 else f"K = {line['k']}"
        known = panel.lines.setdefault(name, Line({}, style=len(panel.lines)))
        known.points[line["batch"]] = line["decode_tok_s_figure"]
    title = "Batches, native static; bars: 95 % interval over groups of eight prompts"
    return line_panels(title, list(panels.values()))
