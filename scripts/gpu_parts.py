"""The parts of a check on a GPU beside the sweep: K = 0 against `generate`, batches, transformers' assisted
generation. Each says what it had no time for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import bench_batches
import bench_plain
from benchmarks import dumped, has_compiler, interleave, same_ids, table, tokens_per_step
from bitdraft.backends.base import EngineSetup
from bitdraft.backends.transformers import TransformersEngine
from bitdraft.engine.runner import Runner
from bitdraft.metrics.speed import speed_figures, speed_ratio
from bitdraft.schema.records import Generation
from gpu_common import GREEDY, Check, Part

ASSISTED_COLUMNS = {
    "what": ("what", 0),
    "tok_s": ("tokens/s", 0),
    "over_transformers": ("/ transformers, same K", 2),
    "tokens_per_step": ("tokens/step", 2),
    "same_ids": ("ids as native K = 0", 0),
}


def plain(check: Check, reserve_s: float) -> Part:
    """K = 0: native eager and static, `generate`; MBU against the measured copy bandwidth."""
    work = bench_plain.Work(check.target, check.prompts(check.sizes.num_prompts), check.config)
    loaded = check.models["target"]
    wanted = ("native eager", "native static", bench_plain.PEER)
    ways = bench_plain.ways_of(loaded.model, loaded.model, work, compiled=False)
    arms, notes = bench_plain.prepared({way: ways[way] for way in wanted}, work, check.target)
    check.not_run += notes
    return _plain_part(check, work, arms, reserve_s, "K = 0")


def compiled_peer(check: Check, reserve_s: float) -> Part:
    """`generate` with a static cache, compiled as transformers does it by itself on a GPU."""
    work = bench_plain.Work(check.target, check.prompts(check.sizes.num_prompts), check.config)
    loaded = check.models["target"]
    compiled = check.settings.device.type == "cuda" or has_compiler()
    ways = bench_plain.ways_of(loaded.model, loaded.model, work, compiled)
    static = ("generate, static cache", "generate, static cache, compiled")
    wanted = ("native static", bench_plain.PEER, *static)
    chosen = {way: ways[way] for way in wanted if way in ways}
    arms, notes = bench_plain.prepared(chosen, work, check.target)
    check.not_run += notes
    return _plain_part(check, work, arms, reserve_s, "K = 0 against generate with a static cache")


def _plain_part(
    check: Check, work: bench_plain.Work, arms: Mapping[str, Any], reserve_s: float, title: str
) -> Part:
    loaded, precision = check.models["target"], check.sizes.precision
    runs = interleave(
        {(precision, way): run for way, run in arms.items()},
        work.prompts,
        "K = 0",
        num_warmup=1,
        has_time=lambda: check.budget.left_s(reserve_s) > 0,
    )
    streams = bench_plain.Streams(loaded.streamed_bytes or 0, Runner(loaded.model).kv_bytes_per_token)
    lines = bench_plain.lines_of(check.target, runs, {precision: streams}, check.copy_bytes_s)
    note = f"MBU is against the measured copy bandwidth, {check.copy_bytes_s / 1e9:.0f} GB/s."
    text = [f"## {title}", table(bench_plain.COLUMNS, lines), note]
    return Part("\n\n".join(text), [dumped(line) for line in lines])


def batches(check: Check, reserve_s: float) -> Part:
    sizes = check.sizes
    draft = sizes.drafts[0]
    pair = bench_batches.Pair(
        check.target,
        draft,
        bench_batches.ALPHA,
        (0, sizes.batch_k),
        sizes.new_tokens // 2,
        sizes.vocab_size,
        sizes.batches,
    )
    models = check.models["target"].model, check.models[draft].model
    prompts = check.prompts(5 * max(sizes.batches))
    lines, notes = bench_batches.compare(
        pair, sizes.precision, models, prompts, lambda: check.budget.left_s(reserve_s) > 0
    )
    check.not_run += notes
    if lines[0]["n"] < 5:
        check.not_run.append(f"batches: only {lines[0]['n']} of 5 groups, no time for more")
    text = ["## Batches", table(bench_batches.COLUMNS, lines)]
    return Part("\n\n".join(text), [dumped(line) for line in lines])


def assisted(check: Check, reserve_s: float) -> Part:
    """At one K, with a draft that says what it does: random weights hardly ever agree, on either side."""
    sizes, draft, k = check.sizes, check.sizes.drafts[0], check.sizes.assisted_k
    target = check.models["target"].model
    native = check.decoder()
    peer = TransformersEngine(EngineSetup(target, check.draft_models, GREEDY))
    sides: dict[str, Any] = {"native": native, "transformers": peer}
    arms: dict[tuple[str, int], Callable[[list[int]], Generation]] = {
        (side, drafted): lambda _, side=side, drafted=drafted: sides[side].decode(  # type: ignore[misc]
            check.config, draft if drafted else None, drafted, 0
        )
        for side in sides
        for drafted in (0, k)
    }
    runs = interleave(
        arms,
        check.prompts(sizes.num_prompts),
        "assisted",
        before=lambda prompt: [side.prepare(prompt, check.config) for side in sides.values()],
        num_warmup=1,
        has_time=lambda: check.budget.left_s(reserve_s) > 0,
    )
    lines = []
    for (side, drafted), found in runs.items():
        line: dict[str, Any] = {
            "what": f"{side}, {draft}, K = {drafted}" if drafted else f"{side}, K = 0",
            "tok_s": speed_figures(found)["throughput_tok_s"].value,
            "same_ids": same_ids(found, runs["native", 0]),
        }
        if side == "native":
            line["over_transformers"] = speed_ratio(found, runs["transformers", drafted])
        if drafted:
            line["tokens_per_step"] = tokens_per_step(found, drafted)
        lines.append(line)
    text = ["## Assisted generation", table(ASSISTED_COLUMNS, lines)]
    return Part("\n\n".join(text), [dumped(line) for line in lines])
