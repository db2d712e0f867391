"""What else is not the same on the two sides: settings, machine, versions, models. Listed, never refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bitdraft.compare.arms import AnyResult
from bitdraft.compare.comparable import REFUSED, setting, settings_of
from bitdraft.compare.records import Difference, RowComparison
from bitdraft.precision.verdict import DRIFT_WARNING
from bitdraft.schema.results import PrecisionResult
from bitdraft.tables import joined

# what a machine is known by, and what else the fixed work between prompts depends on
_MACHINE = ("cpu", "num_cores", "device", "gpu", "gpu_memory_gb")
_WORK = ("torch", "num_threads", "cpu_capability", "cuda")
# settings that the model's record repeats, that comparability is about, or that nothing measured depends on
_ELSEWHERE = {
    *("model", "revision", "output", "data_root", "plan"),
    *("dataset", "max_prompt_tokens", "min_text_chars", "max_ppl_increase"),
}
_NEVER_EQUAL = {"time_utc", "preparation_s"}


def same_machine(a: AnyResult, b: AnyResult) -> bool:
    """By its description: nothing tells two equal machines apart."""
    return all(a.environment.get(name) == b.environment.get(name) for name in _MACHINE)


def same_work(a: AnyResult, b: AnyResult) -> bool:
    """Whether the fixed work that is timed between prompts is the same on both sides."""
    return same_machine(a, b) and all(a.environment.get(n) == b.environment.get(n) for n in _WORK)


def differences(source: str, a: AnyResult, b: AnyResult) -> list[Difference]:
    """Changed entries alone, as `section.name`."""
    # a sweep that failed before its first event has no environment, which is no difference of machines
    known = bool(a.environment and b.environment)
    sides = [dict(_described(side, known)) for side in (a, b)]
    names = [*sides[0], *(name for name in sides[1] if name not in sides[0])]
    return [
        Difference(key=name, a=sides[0].get(name), b=sides[1].get(name), sources=(source,))
        for name in names
        if not _alike(name, sides[0].get(name), sides[1].get(name))
    ]


def merged(found: list[Difference]) -> tuple[Difference, ...]:
    """The same difference of several files once."""
    together: dict[tuple[str, str, str], Difference] = {}
    for entry in found:
        place = entry.key, str(entry.a), str(entry.b)
        known = together.get(place)
        sources = entry.sources if known is None else (*known.sources, *entry.sources)
        together[place] = entry.model_copy(update={"sources": sources})
    return tuple(together.values())


def machine_words(pairs: Sequence[tuple[AnyResult, AnyResult]], rows: Sequence[RowComparison]) -> list[str]:
    """Whether it was the same machine, and how its speed at fixed work changed, where that was timed."""
    known = [(a, b) for a, b in pairs if a.environment and b.environment]
    if not known:
        return []
    changed = _changed(known, _MACHINE)
    words = [f"Another machine ({changed}): the ratios compare the machines, too."] if changed else []
    timed = [f"{row.name.short} {row.machine:.2f}×" for row in rows if row.machine is not None]
    if not timed:
        where = "" if changed else "The same machine, by its description. "
        return [*words, f"{where}No fixed work was timed, so how much its own speed changed is unknown."]
    text = f"fixed work, timed between the prompts, ran at these speeds in B over A: {joined(timed)}"
    other = _changed(known, _WORK)
    if changed:
        text = text[0].upper() + text[1:]
    else:
        text = f"The same machine, by its description; {text}"
        if other:
            text += f". With {other} that work is not quite the same"
    return [*words, f"{text}."]


def _changed(pairs: Sequence[tuple[AnyResult, AnyResult]], names: Sequence[str]) -> str:
    found = {
        f"{name} {a.environment.get(name)} → {b.environment.get(name)}": None
        for name in names
        for a, b in pairs
        if a.environment.get(name) != b.environment.get(name)
    }
    return ", ".join(found)


def _alike(name: str, a: Any, b: Any) -> bool:
    """Measured ceilings are never equal: theirs count from the drift on that a warning takes."""
    if name.startswith("environment.ceilings.") and a and b:
        return bool(max(a / b, b / a) <= DRIFT_WARNING)
    return bool(a == b)


def _described(result: AnyResult, with_environment: bool) -> Iterator[tuple[str, Any]]:
    for name in settings_of(result):
        if name not in REFUSED and name not in _ELSEWHERE:
            yield f"config.{name}", _scalar(setting(result, name))
    if with_environment:
        yield from _flat("environment", result.environment)
    yield from _flat("model", result.model)
    if isinstance(result, PrecisionResult):
        for row in result.rows:
            if "execution" in row.raw:
                yield f"rows.{row.precision}.execution", _scalar(row.raw["execution"])
    else:
        yield from _flat("drafts", result.drafts)


def _flat(section: str, record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{section}.{name}", value)
        elif name not in _NEVER_EQUAL:
            yield f"{section}.{name}", _scalar(value)


def _scalar(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
