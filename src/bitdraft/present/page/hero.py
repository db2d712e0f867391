"""The first screen: from a folder's results to one answer, how sure it is, and what to type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bitdraft.metrics.repetition import MOST_NATURAL
from bitdraft.metrics.serving import paces
from bitdraft.present.charts import precision as precision_charts
from bitdraft.present.charts import serving as serving_charts
from bitdraft.present.charts import sweep as sweep_charts
from bitdraft.present.charts.plot import Panel
from bitdraft.present.charts.recommendation import front
from bitdraft.present.page.model import Chart, Code, Hero, Level, Trust
from bitdraft.present.recommendation_files import SNIPPET_TITLES
from bitdraft.present.sentences import Language
from bitdraft.present.words import change_text, counted, pace_in_chinese, pace_text, times_text
from bitdraft.schema.findings import of_code, texts
from bitdraft.schema.io import AnyResult
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Contender, Recommendation
from bitdraft.schema.records import Figure
from bitdraft.schema.serving import ServingResult
from bitdraft.schema.spec_decode import SpecDecodeResult
from bitdraft.stats.drift import DRIFT_LIMIT, DRIFT_WARNING, drift_of, drift_over_time

FEW_PROMPTS = 10


def hero_of(results: Sequence[AnyResult], command: str, language: Language = "en") -> Hero:
    """Of a recommendation where there is one; else of precisions, or of a sweep."""
    first = results[0]
    trust = trust_of(results, language)
    code = Code("Measure again", command)
    if isinstance(first, Recommendation):
        return _of_recommendation(first, results, trust, code)
    if isinstance(first, PrecisionResult):
        return _of_precision(first, trust, code)
    if isinstance(first, ServingResult):
        return _of_servers(first, trust, code)
    return _of_sweep(first, trust, code)


def _of_recommendation(
    result: Recommendation, results: Sequence[AnyResult], trust: Trust, code: Code
) -> Hero:
    answers = [finding.text for finding in result.findings if finding.severity == "answer"]
    best, facts = result.best, []
    before = after = ratio = ""
    if best is not None:
        facts = _facts(best, result)
        plain = next((c for c in result.contenders if c.precision == best.precision and not c.k), None)
        if best.k and plain is not None and plain.throughput_tok_s is not None:
            before = _speed(plain.throughput_tok_s)
        if best.throughput_tok_s is not None:
            after = _speed(best.throughput_tok_s)
        ratio = "" if best.speedup is None else times_text(_said(result, "recommend.speedup", best.speedup))
    if "native" in result.snippets:  # the shortest, and whole; the others stand below
        code = Code(SNIPPET_TITLES["native"], result.snippets["native"])
    panel = _sweep_panel(result, results) or front(result)
    return Hero(
        "What to deploy",
        answers[0] if answers else "No verdict.",
        trust,
        before=before,
        after=after,
        ratio=ratio,
        more=answers[1:],
        facts=facts,
        why=_why(result, "recommend.why"),
        chart=None if panel is None else Chart.of(panel),
        code=code,
    )


def _sweep_panel(result: Recommendation, results: Sequence[AnyResult]) -> Panel | None:
    """Speedups at the chosen precision, with what was predicted of them; where a draft is chosen."""
    if not result.choice.speculate:
        return None
    choice = result.choice
    for sweep in results:
        if (
            isinstance(sweep, SpecDecodeResult)
            and sweep.baseline is not None
            and choice.draft in sweep.labels
        ):
            same = (sweep.config.precision, sweep.draft_precision)
            if same == (choice.precision, choice.draft_precision):
                return sweep_charts.speedup(sweep)
    return None


def _speed(figure: Figure) -> str:
    """Tokens/s, as many digits as say something."""
    return f"{figure.value:.0f}" if figure.value >= 20 else f"{figure.value:.1f}"


def _said(result: AnyResult, code: str, otherwise: Figure) -> Figure:
    """The figure of the answer, which is not chosen for its luck; one setting has one number."""
    found = of_code(result.findings, code)
    return found[0].figure("speedup") if found else otherwise


def _why(result: AnyResult, *codes: str, about: str = "") -> str:
    """The reason that says most: the first of these kinds, and about this, else the first of all."""
    own = [finding for finding in result.findings if finding.severity == "reason" and finding.text]
    for code in codes:
        found = sorted(of_code(own, code), key=lambda finding: finding.subject != about)
        if found:
            return found[0].text
    return own[0].text if own else ""


def _facts(best: Contender, result: Recommendation) -> list[tuple[str, str]]:
    facts = []
    if best.peak_memory_gb is not None:
        name = "peak VRAM" if result.memory_name == "peak_vram_gb" else "peak RAM"
        facts.append((name, f"{best.peak_memory_gb:.2f} GiB"))
    if best.ttft_ms is not None:
        facts.append(("TTFT", f"{best.ttft_ms.value:.0f} ms"))
    if best.ppl_change is not None:
        facts.append(("PPL", change_text(best.ppl_change)))
    return facts


def _of_precision(result: PrecisionResult, trust: Trust, code: Code) -> Hero:
    answers = texts(result.findings, "answer")
    base = next((e for e in result.verdict.comparisons if e.precision == result.verdict.precision), None)
    speeds = {row.precision: row.metrics.get("throughput_tok_s") for row in result.rows}
    before = after = ratio = ""
    if base is not None and (own := speeds.get(base.precision)) and (other := speeds.get(base.reference)):
        before, after, ratio = _speed(other), _speed(own), times_text(base.speedup)
    elif result.verdict.precision and (own := speeds.get(result.verdict.precision)):
        after = _speed(own)
    panel = precision_charts.bars(result)[0]
    return Hero(
        "Which precision",
        answers[0] if answers else "No verdict.",
        trust,
        before=before,
        before_is="" if base is None else base.reference,
        after=after,
        ratio=ratio,
        more=answers[1:],
        why=_why(result, "precision.against", "precision.no_faster"),
        chart=Chart.of(panel),
        code=code,
    )


def _of_sweep(result: SpecDecodeResult, trust: Trust, code: Code) -> Hero:
    answers = texts(result.findings, "answer")
    best, base = result.best, result.baseline
    before = after = ratio = ""
    if best is not None and base is not None and best.k and "speedup" in best.metrics:
        before = _speed(base.metrics["throughput_tok_s"])
        after = _speed(best.metrics["throughput_tok_s"])
        ratio = times_text(_said(result, "spec.speculate", best.metrics["speedup"]))
    panel: Panel | None = None
    if result.config.plan and result.plan:
        panel = sweep_charts.plan_panels(result)[0]
    elif base is not None and result.sweep:
        panel = sweep_charts.throughput(result)
    return Hero(
        "Whether to speculate",
        answers[0] if answers else "No verdict.",
        trust,
        before=before,
        after=after,
        ratio=ratio,
        more=answers[1:],
        why=_why(result, "spec.step", "plan.draft", about=f"{result.verdict.draft}, K = {result.verdict.k}"),
        chart=None if panel is None else Chart.of(panel),
        code=code,
    )


def _of_servers(result: ServingResult, trust: Trust, code: Code) -> Hero:
    """At the smallest load; the speeds of a request."""
    answers = texts(result.findings, "answer")
    rows = {(row.server, row.load): row for row in result.rows if row.status == "ok"}
    before = after = ratio = ""
    load = min((load for _, load in rows), default=0)
    best, base = result.verdict.best.get(str(load)), rows.get((result.config.baseline, load))
    own = rows.get((best or "", load))
    if own is not None and base is not None and own is not base and "speedup" in own.metrics:
        before, after = (_speed(row.metrics["throughput_tok_s"]) for row in (base, own))
        ratio = times_text(_said(result, "serving.pays", own.metrics["speedup"]))
    panels = serving_charts.panels(result)
    return Hero(
        "Which server",
        answers[0] if answers else "No verdict.",
        trust,
        before=before,
        before_is=result.config.baseline,
        after=after,
        ratio=ratio,
        more=answers[1:],
        why=_why(result, "serving.break_even", "serving.texts"),
        chart=Chart.of(panels[-1]) if panels else None,
        code=code,
    )


def trust_of(results: Sequence[AnyResult], language: Language = "en") -> Trust:
    """How the machine kept its pace, how many prompts there were, how far the text repeats itself."""
    noisy = [f.number("factor") for result in results for f in of_code(result.findings, "precision.noisy")]
    drift = max([*noisy, *(found for result in results for found in drifts_of(result))], default=None)
    prompts = max(len(result.text.prompt_ids) for result in results)
    repeats = [f.number("repeated") for result in results for f in of_code(result.findings, "spec.repeats")]
    # a recommendation repeats the warnings of its steps
    warned = results[:1] if isinstance(results[0], Recommendation) else results
    num_warnings = sum(len(result.warnings) for result in warned)
    doubts = int(prompts < FEW_PROMPTS)
    doubts += 0 if drift is None else 2 if drift > DRIFT_LIMIT else int(drift > DRIFT_WARNING)
    doubts += 0 if not repeats else 2 if max(repeats) > 2 * MOST_NATURAL else 1
    doubts = doubts or int(num_warnings > 0)
    level: Level = "good" if not doubts else "fair" if doubts == 1 else "poor"
    title = {"good": "Sound", "fair": "With reservations", "poor": "Handle with care"}[level]
    parts = _in_chinese if language == "zh" else _in_english
    return Trust(level, title, " · ".join(parts(prompts, drift, max(repeats, default=None), num_warnings)))


def _in_english(
    prompts: int, drift: float | None, repeated: float | None, num_warnings: int
) -> Iterator[str]:
    yield counted(prompts, "prompt")
    if drift is not None:
        yield f"the machine's pace changed {pace_text(drift)}"
    if repeated is not None:
        yield f"{100 * repeated:.0f} % of the text repeats itself"
    if num_warnings:
        yield counted(num_warnings, "warning")


def _in_chinese(
    prompts: int, drift: float | None, repeated: float | None, num_warnings: int
) -> Iterator[str]:
    yield f"{prompts} 条提示词"
    if drift is not None:
        yield f"机器速度变化了{pace_in_chinese(drift)}"
    if repeated is not None:
        yield f"文本有 {100 * repeated:.0f} % 重复自身"
    if num_warnings:
        yield f"{num_warnings} 条警告"


def drifts_of(result: AnyResult) -> list[float]:
    """Slowest over fastest of the fixed work that was timed beside what was measured, or of the plain
    server's own steps."""
    if isinstance(result, PrecisionResult):
        times = [row.raw.reference_work_s or () for row in result.rows]
        return [drift_of(times)] if any(times) else []
    found: list[float | None] = []
    if isinstance(result, SpecDecodeResult):
        found = [drift_over_time(result.reference_work_s)]
    if isinstance(result, ServingResult) and not result.imported_from:
        found = list(paces(result.requests, result.config.baseline).values())
    return [one for one in found if one is not None]
