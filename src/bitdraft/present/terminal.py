"""What a person sees in the terminal: a table that fits, and below it, last, what it says."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from bitdraft.present.charts.sweep import subject
from bitdraft.present.comparison_table import ENDS, HINT, comparison_tables, differences_table
from bitdraft.present.pairs_table import pairs_table
from bitdraft.present.precision_table import precision_table
from bitdraft.present.recommendation_files import SNIPPET_TITLES, SPEEDS, recommendation_table, shown
from bitdraft.present.schedule_table import schedule_table
from bitdraft.present.sentences import Language, with_sentences
from bitdraft.present.serving_table import serving_table
from bitdraft.present.sweep_table import VERSUS_1, best_rows, fastest, plan_table, sweep_table
from bitdraft.present.table import GLYPHS, Cell, Column, Table, interval_hint
from bitdraft.present.translate import translated
from bitdraft.present.words import joined
from bitdraft.schema.comparison import Comparison
from bitdraft.schema.findings import of_code
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.serving import ServingResult
from bitdraft.schema.spec_decode import SpecDecodeResult

_STYLES = {
    "best": "bold green",
    "good": "green",
    "tied": "cyan",
    "bad": "red",
    "better": "bold green",
    "worse": "bold red",
    "drift": "yellow",
    "quiet": "dim",
    "": "",
}
_ENDLESS = 1000
_MOST_ROWS = 9
_MOST_WARNINGS = 2
_MOST_REASONS = 3
_FAILED = ("row.failed", "precision.out", "spec.failed", "plan.out", "batch.failed", "serving.failed")
# what a verdict owes its reader beside it
_OWED = ("spec.not_lossless", "schedule.time", "serving.break_even", "serving.texts")


def print_table(
    console: Console, table: Table, *, with_intervals: bool, spread_of: str = "", language: Language = "en"
) -> None:
    """As many of its columns as there is room for; those that are not shown are named below it. Intervals of
    all columns, or of one."""
    hidden: list[str] = []
    # it is a sentence, and stands below
    table = table.without(["Reason"])
    order = sorted((c for c in table.columns if c.rank), key=lambda c: -c.rank)
    made = _rich(table, with_intervals, spread_of, language)
    for column in order:
        # as wide as it wants to be
        wanted = Measurement.get(console, console.options.update_width(_ENDLESS), made).maximum
        if wanted <= console.width:
            continue
        hidden.append(column.title)
        made = _rich(table.without(hidden), with_intervals, spread_of, language)
    console.print(made)
    if hidden:
        _quiet(console, _no_room(hidden, language))


def _no_room(hidden: Sequence[str], language: Language) -> str:
    if language == "zh":
        return f"此处放不下：{'、'.join(translated(title, language) for title in hidden)}（文件中有全部）"
    return f"No room here for {joined(hidden)}: the files have all."


def _rich(table: Table, with_intervals: bool, spread_of: str, language: Language) -> RichTable:
    made = RichTable(title=Text(table.title), title_justify="left", title_style="bold")
    for index, column in enumerate(table.columns):
        made.add_column(
            Text(translated(column.title, language)),
            justify="right" if index in table.numeric else "left",
            no_wrap=index > 0,
        )
    for place, row in enumerate(table.rows):
        if place in table.groups:
            made.add_section()
        pairs = zip(table.columns, row, strict=True)
        made.add_row(
            *(_shown(c, cell, with_intervals or c.title == spread_of, language) for c, cell in pairs)
        )
    return made


def _shown(column: Column, cell: Cell, with_interval: bool, language: Language) -> Text:
    shown = translated(column.text(cell), language)
    text = Text(f"{GLYPHS.get(cell.mark, '')}{shown}", style=_STYLES[cell.mark])
    spread = column.spread(cell) if with_interval else ""
    return text.append(f" {spread}", style="dim not bold") if spread else text


def show_precision(
    console: Console, result: PrecisionResult, *, verbose: bool = False, language: Language = "en"
) -> None:
    """A row a precision; then the verdict."""
    result = with_sentences(result, language) if language != "en" else result
    table = precision_table(result)
    titled = Table(f"{result.model.name} · {result.environment.device}", table.columns, table.rows)
    print_table(console, titled, with_intervals=verbose, spread_of="ΔPPL %", language=language)
    hint = "★ best of a column, with what is statistically tied with it"
    _quiet(
        console, f"{hint}; {interval_hint(table)}" if verbose else f"{hint}; -v shows intervals and reasons"
    )
    show_verdict(console, result, verbose=verbose, language=language)


def show_spec_decode(
    console: Console, result: SpecDecodeResult, *, verbose: bool = False, language: Language = "en"
) -> None:
    """Plain decoding and what is best of each draft, or every (draft, K); or the plan; then the verdict."""
    result = with_sentences(result, language) if language != "en" else result
    title = f"{subject(result)} · {result.text.dataset} · {result.config.precision}"
    if result.config.plan:
        table, more = plan_table(result), ""
        star = "★ the best K of a draft"
    else:
        rows = [row for row in result.rows if row.batch_size == 1]
        few = rows if verbose or len(rows) <= _MOST_ROWS else best_rows(result)
        table = sweep_table(result, few, title)
        star = "★ recommended, with what is statistically tied with it"
        more = f"the best of each draft, all {len(rows)} rows with -v" if len(few) < len(rows) else ""
    if table.rows:
        titled = Table(title, table.columns, table.rows, groups=table.groups)
        print_table(console, titled, with_intervals=verbose, spread_of="Speedup", language=language)
        is_marked = any(cell.mark == "best" for row in table.rows for cell in row)
        hints = [translated(hint, language) for hint in (star if is_marked else "", more) if hint]
        if hints:
            _quiet(console, "; ".join(hints))
    if result.batches:
        table = sweep_table(result, fastest(result.batches), "Several prompts at once")
        print_table(console, table, with_intervals=verbose, spread_of="Speedup", language=language)
        _quiet(console, f"each draft's fastest K at that size; {VERSUS_1}")
    if result.schedule:
        table = schedule_table(result)
        print_table(console, table, with_intervals=True, spread_of="Speedup", language=language)
        _quiet(console, "K = 0: speculation is not shown to pay there")
    if result.pairs:
        print_table(console, pairs_table(result), with_intervals=verbose, language=language)
    show_verdict(console, result, verbose=verbose, language=language)


def show_recommendation(
    console: Console, result: Recommendation, *, verbose: bool = False, language: Language = "en"
) -> None:
    """What was considered, then the choice; with all details also as code."""
    result = with_sentences(result, language) if language != "en" else result
    rows = shown(result)
    if not verbose:
        rows = [row for row in rows if row.standing not in ("predicted", "out")] or rows
        rows = rows[:_MOST_ROWS]
    table = recommendation_table(result, rows)
    if rows:
        print_table(console, table, with_intervals=verbose, spread_of="Speedup", language=language)
    left = len(result.contenders) - len(rows)
    if verbose:
        _quiet(console, SPEEDS)
    elif left:
        _quiet(console, f"{left} more that are predicted, slower or out: -v, or recommendation.csv")
    if verbose:
        for name, text in result.snippets.items():
            console.print(f"\n{SNIPPET_TITLES[name]}:", style="bold")
            # lines of code stay whole, so that they can be copied
            console.print(text.rstrip(), soft_wrap=True, highlight=False, markup=False)
    show_verdict(console, result, verbose=verbose, language=language)


def show_serving(
    console: Console, result: ServingResult, *, verbose: bool = False, language: Language = "en"
) -> None:
    """A row a server and load; then the verdict."""
    result = with_sentences(result, language) if language != "en" else result
    table = serving_table(result)
    title = f"{result.model.name} · {', '.join(dict.fromkeys(one.engine for one in result.servers))}"
    titled = Table(title, table.columns, table.rows, groups=table.groups)
    print_table(console, titled, with_intervals=verbose, spread_of="Speedup", language=language)
    show_verdict(console, result, verbose=verbose, language=language)


def show_comparison(console: Console, comparison: Comparison, *, language: Language = "en") -> None:
    """A table a file, what else is not the same, and last the verdict."""
    comparison = with_sentences(comparison, language) if language != "en" else comparison
    for table in comparison_tables(comparison):
        print_table(console, table, with_intervals=False, spread_of="Tok/s ×", language=language)
    _quiet(console, f"{HINT}; {ENDS}")
    other = differences_table(comparison)
    if other is not None:
        print_table(console, other, with_intervals=False, language=language)
    _lines(console, comparison.reasons, "· ")
    console.print(comparison.summary, style="bold", highlight=False, markup=False)


def show_verdict(
    console: Console,
    result: PrecisionResult | SpecDecodeResult | Recommendation | ServingResult,
    *,
    verbose: bool,
    language: Language = "en",
) -> None:
    """Reasons where all is asked for; what takes trust from the result; and last what it says."""
    console.print()
    if verbose:
        _lines(console, result.reasons, "· ")
        _lines(console, [f"Skipped {text}." for text in result.skipped], "! ", "yellow")
    else:
        # why there is no answer is part of it, and what failed is never passed over
        own = [f.text for f in result.findings if f.severity == "reason" and f.text]
        owed = [f.text for f in result.findings if f.code in (*_FAILED, *_OWED)]
        notes = own if result.best is None else owed
        _lines(console, notes[:_MOST_REASONS], "· ")
        _say_more(console, len(notes) - _MOST_REASONS, "note")
        title = "原因：" if language == "zh" else "Why: "
        why = [f"{title}{finding.text}" for finding in of_code(result.findings, "recommend.why")]
        _lines(console, why, "")
        if result.skipped:
            first, *more = result.skipped
            _quiet(console, f"Skipped {first}{f', and {len(more)} more (-v)' if more else ''}.")
    warnings = result.warnings if verbose else result.warnings[:_MOST_WARNINGS]
    _lines(console, warnings, "! ", "yellow")
    _say_more(console, len(result.warnings) - len(warnings), "warning")
    style = "bold" if result.best is None else "bold green"
    console.print(result.summary or "No verdict.", style=style, highlight=False, markup=False)


def failures(result: PrecisionResult | SpecDecodeResult | Recommendation | ServingResult) -> list[str]:
    """Sentences of what failed."""
    return [found.text for found in result.findings if found.code in (*_FAILED, "spec.ended_early")]


def _say_more(console: Console, left: int, what: str) -> None:
    if left > 0:
        _quiet(console, f"{left} more {what}{'s' if left > 1 else ''}: -v, or the page")


def _lines(console: Console, texts: Iterable[str], mark: str, style: str = "") -> None:
    for text in texts:
        console.print(f"{mark}{text}", style=style, highlight=False, markup=False)


def _quiet(console: Console, text: str) -> None:
    console.print(text, style="dim", highlight=False, markup=False)
