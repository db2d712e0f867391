"""Throughput, latencies, bandwidth and ratios, from `Generation` records. Definitions: docs/metrics.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from bitdraft.schema.records import Figure, Generation
from bitdraft.stats.intervals import Floats, figure_of_sums, median_figure, ratio_of_rates, ratio_of_sums

Item = Sequence[Generation]
"""What was decoded at once: one prompt, or a group of them"""
Rounds = Sequence[Sequence[Generation]]
"""The same prompts, decoded once a round"""


def request_seconds(generation: Generation) -> float:
    """Submission to last emission, s."""
    return generation.emissions[-1][0] - generation.submit_s


def batch_seconds(generations: Sequence[Generation]) -> float:
    """Of prompts that were decoded at once: submission to the last emission of any, s."""
    return max(g.emissions[-1][0] for g in generations) - min(g.submit_s for g in generations)


def ttft_ms(generation: Generation) -> float:
    return 1000 * (generation.emissions[0][0] - generation.submit_s)


def decode_span(generation: Generation) -> tuple[float, int]:
    """(seconds, tokens) after the first emission."""
    (first_s, first_tokens), (last_s, _) = generation.emissions[0], generation.emissions[-1]
    return last_s - first_s, len(generation.token_ids) - first_tokens


def inter_token_ms(generation: Generation) -> list[float]:
    """Gaps between emissions, ms; a gap that carries several tokens is one sample."""
    times = [time_s for time_s, _ in generation.emissions]
    return [1000 * (after - before) for before, after in pairwise(times)]


def speed_figures(generations: Sequence[Generation], more: Rounds = ()) -> dict[str, Figure]:
    """Throughput, TTFT and, where more than one emission was seen, TPOT and inter-token latency; with `more`
    rounds of the same prompts, of each prompt over all of them."""
    rounds = [generations, *more]
    figures = {
        "throughput_tok_s": ratio_of_sums(
            *tokens_and_seconds_by_prompt(rounds), clusters=clusters_of(generations)
        ),
        "ttft_ms": median_figure(_medians(rounds, ttft_ms)),
    }
    spans = np.array([[decode_span(g) for g in runs] for runs in rounds]).sum(0)
    seen = [index for index, g in enumerate(generations) if len(g.emissions) > 1]
    if seen:
        span_s, span_tokens = spans[seen].T
        gaps = [[gap for runs in rounds for gap in inter_token_ms(runs[index])] for index in seen]
        pooled = np.concatenate(gaps)
        clusters = clusters_of([generations[index] for index in seen])
        figures["tpot_ms"] = ratio_of_sums(span_s * 1000, span_tokens, clusters=clusters)
        figures["decode_tok_s"] = ratio_of_sums(span_tokens, span_s, clusters=clusters)
        figures["itl_ms"] = median_figure([float(np.median(g)) for g in gaps])
        for percent in (50, 95, 99):
            value = float(np.percentile(pooled, percent))
            figures[f"itl_p{percent}_ms"] = Figure(value=value, n=pooled.size)
    return figures


def clusters_of(generations: Sequence[Generation]) -> list[str]:
    """What prompts share: an article, a book, a category."""
    return [generation.cluster for generation in generations]


def clusters_of_items(items: Sequence[Item]) -> list[str]:
    """The same of items; groups of several prompts share nothing that is known."""
    return [item[0].cluster if len(item) == 1 else "" for item in items]


def _medians(rounds: Rounds, measure: Callable[[Generation], float]) -> Floats:
    """A prompt's over its rounds."""
    return np.median([[measure(g) for g in runs] for runs in rounds], axis=0)


def tokens_and_seconds(item: Item) -> tuple[int, float]:
    """Output tokens of what was decoded at once, and the time from its submission to its last emission, s."""
    return sum(len(run.token_ids) for run in item), batch_seconds(item)


def tokens_after_first(item: Item) -> tuple[int, float]:
    """(tokens, seconds) behind the first emission of the item, in which every row has a part."""
    first_s = min(run.emissions[0][0] for run in item)
    last_s = max(run.emissions[-1][0] for run in item)
    return sum(len(run.token_ids) - run.emissions[0][1] for run in item), last_s - first_s


def span_ms_and_tokens(item: Item) -> tuple[float, int]:
    """Milliseconds and tokens after the first emission, summed over the item's rows; those that ended with
    their first one are left out."""
    spans = [decode_span(run) for run in item if len(run.emissions) > 1]
    return 1000 * sum(seconds for seconds, _ in spans), sum(tokens for _, tokens in spans)


def item_figures(items: Sequence[Item]) -> dict[str, Figure]:
    """Throughput and, where anything came after the first tokens, TPOT, of items that were decoded at
    once."""
    tokens, seconds = zip(*map(tokens_and_seconds, items), strict=True)
    figures = {"throughput_tok_s": ratio_of_sums(tokens, seconds)}
    spans = [span for span in map(span_ms_and_tokens, items) if span[1] > 0]
    if spans:
        span_ms, span_tokens = zip(*spans, strict=True)
        figures["tpot_ms"] = ratio_of_sums(span_ms, span_tokens)
    return figures


def ratio_over(
    name: str,
    items: Sequence[Item],
    base: Sequence[Sequence[Item]],
    *,
    after_first: bool = False,
) -> dict[str, Figure]:
    """{name: throughput over that of the base}, items paired; `base` holds for each item what is set against
    it: one item, or several that ran one after another. With `after_first` only what comes behind the first
    tokens counts. Empty where some side took no time."""
    measure = tokens_after_first if after_first else tokens_and_seconds
    own = [measure(item) for item in items]
    other = []
    for several in base:
        pairs = [measure(item) for item in several]
        other.append((sum(tokens for tokens, _ in pairs), sum(seconds for _, seconds in pairs)))
    if not own or not all(seconds > 0 for _, seconds in (*own, *other)):
        return {}
    work, seconds = zip(*own, strict=True)
    base_work, base_seconds = zip(*other, strict=True)
    clusters = clusters_of_items(items)
    return {name: ratio_of_rates(work, seconds, base_work, base_seconds, clusters=clusters)}


def decode_bytes(generation: Generation, weight_bytes: int, kv_bytes_per_token: int) -> float:
    """Bytes that plain decode steps stream: weights once a step, and keys and values of a cache that
    grows by a token a step."""
    _, num_steps = decode_span(generation)
    mean_context = generation.prompt_tokens + (num_steps + 1) / 2
    return num_steps * (weight_bytes + kv_bytes_per_token * mean_context)


def speculation_bytes(
    generation: Generation, target: tuple[int, int], draft: tuple[int, int] | None
) -> float:
    """Bytes that speculative steps stream: the target's weights and cache once a verification, the
    draft's once a drafted token. Each pair is (weight bytes, key-value bytes per token); prompt lookup
    streams nothing of its own."""
    _, num_tokens = decode_span(generation)
    context = generation.prompt_tokens + (num_tokens + 1) / 2
    total = len(generation.steps) * (target[0] + target[1] * context)
    if draft is not None:
        total += sum(step.num_drafted for step in generation.steps) * (draft[0] + draft[1] * context)
    return total


def bandwidth_utilisation(
    generations: Sequence[Generation], streamed_bytes: Sequence[float], copy_bytes_s: float
) -> Figure | None:
    """Bytes that the steps must stream / time they took / measured copy bandwidth."""
    seconds = [decode_span(generation)[0] for generation in generations]
    ideal_s = [num_bytes / copy_bytes_s for num_bytes in streamed_bytes]
    if sum(seconds) <= 0:
        return None
    return ratio_of_sums(ideal_s, seconds, clusters=clusters_of(generations))


def speed_ratio(generations: Sequence[Generation], base: Sequence[Generation]) -> Figure:
    """Throughput of the first over that of the second, prompts paired by index."""
    assert len(generations) == len(base)
    return product_of_speeds([[generations]], [[base]])


def product_of_speeds(over: Sequence[Rounds], under: Sequence[Rounds]) -> Figure:
    """The throughputs (tokens/s) of `over` multiplied, divided by those of `under`: a ratio of speedups, say,
    of which every part was measured and has its own noise. Prompts are paired by index, those that all
    have."""
    parts = [*over, *under]
    num_prompts = min(len(runs) for part in parts for runs in part)
    totals = [tokens_and_seconds_by_prompt(part, num_prompts) for part in parts]

    def product(sums: Floats) -> Floats:
        rates = sums[: len(parts)] / sums[len(parts) :]
        return np.asarray(rates[: len(over)].prod(0) / rates[len(over) :].prod(0))

    columns = [tokens for tokens, _ in totals] + [seconds for _, seconds in totals]
    return figure_of_sums(columns, product, clusters=clusters_of(parts[0][0][:num_prompts]))


def tokens_and_seconds_by_prompt(rounds: Rounds, num_prompts: int | None = None) -> tuple[Floats, Floats]:
    """Output tokens and request seconds of the first prompts, each over all rounds."""
    used = [runs[:num_prompts] for runs in rounds]
    tokens = np.array([[len(g.token_ids) for g in runs] for runs in used], float)
    seconds = np.array([[request_seconds(g) for g in runs] for runs in used])
    return tokens.sum(0), seconds.sum(0)


def decode_speed_ratio(generations: Sequence[Generation], base: Sequence[Generation]) -> Figure | None:
    """The same for the time after the first emission alone; None where nothing came after it."""
    spans, base_spans = ([decode_span(g) for g in side] for side in (generations, base))
    if not all(seconds > 0 for seconds, _ in [*spans, *base_spans]):
        return None
    return ratio_of_rates(
        [tokens for _, tokens in spans],
        [seconds for seconds, _ in spans],
        [tokens for _, tokens in base_spans],
        [seconds for seconds, _ in base_spans],
        clusters=clusters_of(generations),
    )
