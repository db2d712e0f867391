"""A recommendation in sentences that the intervals support. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bitdraft.config import MOST_K, RecommendConfig
from bitdraft.precision.verdict import DRIFT_WARNING
from bitdraft.recommend.choose import Choice, contenders, ratio
from bitdraft.recommend.found import Found
from bitdraft.recommend.options import PLAIN, Option, reference_of
from bitdraft.tables import joined, pair_name, times_text


def unexamined(found: Found, measured: Sequence[Option], config: RecommendConfig) -> str | None:
    """Why nothing is known of speculation, where no contender was measured."""
    if measured:
        return None
    hopeful = contenders(found.predictions(), "", config)
    if hopeful:
        return (
            f"Whether to speculate is open: nothing was measured. The best that is predicted, "
            f"{hopeful[0].name}, would bring {hopeful[0].speedup:.2f}× the tokens/s of plain decoding."
        )
    return None if found.plans else "Whether to speculate is open: no draft was examined."


def sweep_warnings(found: Found) -> list[str]:
    warnings = []
    for pair, sweep in found.sweeps.items():
        warnings += [f"At {pair_name(pair)}: {text}" for text in sweep.warnings]
    for pair, pace in found.paces().items():
        if not 1 / DRIFT_WARNING <= pace <= DRIFT_WARNING:
            change = f"{100 * abs(1 - 1 / pace):.0f} % {'slower' if pace > 1 else 'faster'}"
            warnings.append(
                f"At {pair_name(pair)}: plain decoding was {change} in the sweep than when precisions were "
                "measured. Speedups hold, they are of one sweep; tokens/s of different stages are compared "
                "at one pace."
            )
    return warnings


def summary(
    choice: Choice,
    verdict: dict[str, Any],
    options: tuple[Sequence[Option], Sequence[Option]],
    found: Found,
    config: RecommendConfig,
) -> str:
    """`options` are plain decoding's and the measured drafts'."""
    plain, measured = options
    option = choice.option
    if option is None:
        cut = any("was not measured" in text for text in found.skipped)
        return str(verdict["summary"]) + (" Not all that was asked for was measured." if cut else "")
    parts = [f"Deploy {option.name}: {option.throughput:.0f} tokens/s."]
    if option.draft != PLAIN:
        speedup = times_text(option.metrics["speedup"])
        parts.append(f"Speculation brings {speedup} the tokens/s of plain decoding at {option.precision}.")
    elif choice.unsure:
        parts.append(choice.unsure)
    else:
        parts.append(_why_not(measured, found, config))
    assert found.precision is not None
    reference = reference_of(found.precision)
    base = next((one for one in plain if one.precision == reference), None)
    if base is not None and base.precision != option.precision:
        total = times_text(ratio(option, base, config.seed))
        parts.append(f"Against plain decoding at {reference}: {total}.")
    if choice.tied:
        names = joined([one.name for one in sorted(choice.tied, key=lambda one: -one.throughput)])
        parts.append(f"In speed, {names} cannot be told from it.")
    return " ".join(parts)


def _why_not(measured: Sequence[Option], found: Found, config: RecommendConfig) -> str:
    if measured:
        best = max(measured, key=lambda one: (one.problem is None, one.metrics["speedup"].value))
        if best.problem is None:  # at another precision than the one that was chosen first
            return f"Do not speculate: {best.name} is not faster than this beyond doubt."
        return f"Do not speculate: the best that was measured, {best.name}, is out: {best.problem}."
    predictions = found.predictions()
    if predictions:
        best_p = max(predictions, key=lambda one: one.speedup)
        return (
            f"Do not speculate: the best that is predicted, {best_p.name}, would bring {best_p.speedup:.2f}× "
            f"the tokens/s of plain decoding; more than {config.min_speedup:.2f}× is asked for."
        )
    return "No draft could be measured."


def reasons(
    choice: Choice,
    verdict: dict[str, Any],
    measured: Sequence[Option],
    found: Found,
    config: RecommendConfig,
) -> list[str]:
    reasons = [f"Precision first: {verdict['summary']}", *verdict["reasons"]]
    for pair, sweep in found.sweeps.items():
        reasons.append(f"At {pair_name(pair)}, by speed alone: {sweep.verdict['summary']}")
        lossless = [text for text in sweep.verdict["reasons"] if "gave the token ids of K = 0" in text]
        reasons += [f"At {pair_name(pair)}: {text}" for text in lossless]
    reasons += [f"{one.name} is out: {one.problem}." for one in measured if one.problem is not None]
    option = choice.option
    if option is not None and option.k == max(config.k) < MOST_K:
        reasons.append(f"K = {option.k} is the largest that was asked for: a larger one may be faster still.")
    if option is not None:
        rivals = [one for one in measured if one.problem is None and one.precision != option.precision]
        if rivals:
            best = max(rivals, key=lambda one: one.throughput)
            reasons.append(
                f"{best.name} brought {best.throughput:.0f} tokens/s. Precisions run one after another, so "
                "differences between them that are below the machine's drift are not counted."
            )
    return reasons
