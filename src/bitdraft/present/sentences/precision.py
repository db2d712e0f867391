"""Sentences of precisions."""

from __future__ import annotations

from bitdraft.present.sentences.base import Sentence, clauses
from bitdraft.present.words import change_text, counted, joined, memory_text, pace_text, percent, times_text
from bitdraft.schema.findings import Finding


def _tied(f: Finding) -> str:
    why = {
        "memory": "it takes less memory",
        "reference": "it is the reference",
        "value": "it is the fastest of them by value",
    }[f.word("why")]
    return f"Statistically tied in speed with {joined(f.words('others'))}; {why}."


def _against(f: Finding) -> str:
    change = f.figures.get("ppl_change")
    quality = f"perplexity {change_text(f.figure('ppl_change'))}, " if change is not None else ""
    memory = (
        f"{memory_text(f.word('memory_name'))} {f.number('memory_gb'):.2f} against "
        f"{f.number('reference_memory_gb'):.2f} GiB"
    )
    return f"Against {f.subject}: {times_text(f.figure('ratio'))} the tokens/s, {quality}{memory}."


def _no_faster(f: Finding) -> str:
    limit = " within the quality limit" if f.figures.get("within_limit") else ""
    return f"No other measured precision is faster{limit}."


SENTENCES: dict[str, Sentence] = {
    "precision.rounds": lambda f: (
        "Each precision ran in several processes, in turn: alike ones differ in speed by "
        f"{100 * f.number('deviation'):.1f} %, which is in the intervals."
    ),
    "precision.noisy": lambda f: (
        f"Processes that did the same differ in speed by {f.number('factor'):.1f} times: this machine was "
        "too busy to compare precisions. Measure again on a quiet one."
    ),
    "precision.round_lost": lambda f: (
        f"{f.subject} was not measured ({f.word('status')}: {f.word('why')}): the others count alone."
    ),
    "precision.none_measured": lambda f: "No precision could be measured, so none can be recommended.",
    "precision.none_within_limits": lambda f: (
        "No measured precision keeps within the limits, so none can be recommended."
    ),
    "precision.too_drifted": lambda f: (
        "Speeds of precisions are not compared: the same work changed its speed "
        f"{pace_text(f.number('drift'))} between their processes. Quality and memory hold. Measure on a "
        "quiet machine."
    ),
    "precision.more_rounds": lambda f: (
        "The machine changed its pace, so that each precision was timed "
        f"{f.number('n'):.0f} more times, in turn."
    ),
    "precision.use": lambda f: f"Use {f.subject}.",
    "precision.use_by_speed": lambda f: (
        f"Random weights: quality not measured. By speed and memory alone: {f.subject}."
    ),
    "precision.tied": _tied,
    "precision.so_far": lambda f: f"Measured so far: {joined(f.words('names'))}. Nothing is recommended yet.",
    "precision.only_one": lambda f: "No other precision was measured.",
    "precision.unjudged": lambda f: (
        f"Too little text was scored to judge the quality of {joined(f.words('others'))}."
    ),
    "precision.no_faster": _no_faster,
    "precision.against": _against,
    "precision.out": lambda f: f"{f.subject} is out: {clauses(f)}.",
    "precision.other_reference": lambda f: (
        f"{f.word('asked')} could not be the reference: quality is compared with that of {f.subject}."
    ),
    "precision.not_judged": lambda f: (
        f"Quality could not be judged, because {f.subject}, which it is compared with, has no scores, and no "
        "two others have. No precision is recommended."
    ),
    "precision.stored": lambda f: (
        f"The checkpoint is stored in {f.subject}: fp32 widens the arithmetic, not the weights, and a third "
        "precision rounds the weights as well."
    ),
    "precision.drift": lambda f: (
        f"The machine's speed changed {pace_text(f.number('drift'))} between precisions (fixed "
        "work, timed between the prompts). Speed differences below that say nothing: measure again on a "
        "quiet machine."
    ),
    "precision.wide_interval": lambda f: (
        f"{f.subject}: throughput varies widely between prompts: its interval is "
        f"{100 * f.number('width'):.0f} % of it wide."
    ),
    "precision.kl_missing": lambda f: f"{f.subject}: no KL divergence ({f.word('why')}).",
    "quality.unjudged": lambda f: (
        f"{counted(f.number('n'), 'block')} of scored text are too few to judge its quality (score more "
        "with --ppl-max-tokens, or a longer text)"
    ),
    "quality.worse": lambda f: (
        f"its perplexity may be {percent(f.number('increase'))} higher than {f.subject}'s, more than the "
        f"limit of {percent(f.number('limit'))}"
    ),
}
