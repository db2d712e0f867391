"""What else is not the same on the two sides: settings, machine, versions, models. Listed, never refused."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bitdraft.compare.comparable import REFUSED, setting, settings_of
from bitdraft.compare.measured import Measurement
from bitdraft.schema.comparison import Difference, RowComparison
from bitdraft.schema.findings import Finding, Value, reason
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.serving import ServingResult
from bitdraft.stats.drift import DRIFT_WARNING

# what a machine is known by, and what else the fixed work between prompts depends on
_MACHINE = ("cpu", "num_cores", "device", "gpu", "gpu_memory_gb")
_WORK = ("torch", "num_threads", "cpu_capability", "cuda")
# settings that the model's record repeats, that comparability is about, or that nothing measured depends on
_ELSEWHERE = {
    *("model", "revision", "output", "data_root", "plan"),
    *("servers", "dataset", "max_prompt_tokens", "min_text_chars", "max_ppl_increase"),
}
_NEVER_EQUAL = {"time_utc", "preparation_s"}


def same_machine(a: Measurement, b: Measurement) -> bool:
    """By its description: nothing tells two equal machines apart."""
    return all(getattr(a.environment, name) == getattr(b.environment, name) for name in _MACHINE)


def same_work(a: Measurement, b: Measurement) -> bool:
    """Whether the fixed work that is timed between prompts is the same on both sides."""
    return same_machine(a, b) and all(getattr(a.environment, n) == getattr(b.environment, n) for n in _WORK)


def differences(source: str, a: Measurement, b: Measurement) -> list[Difference]:
    """Changed entries alone, as `section.name`."""
    # a sweep that failed before its first event has no environment, which is no difference of machines
    known = has_environment(a) and has_environment(b)
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
        what = entry.key, str(entry.a), str(entry.b)
        known = together.get(what)
        sources = entry.sources if known is None else (*known.sources, *entry.sources)
        together[what] = entry.model_copy(update={"sources": sources})
    return tuple(together.values())


def has_environment(result: Measurement) -> bool:
    """A sweep that failed before its first event has none."""
    return bool(result.environment.model_dump())


def machine_findings(
    pairs: Sequence[tuple[Measurement, Measurement]], rows: Sequence[RowComparison]
) -> list[Finding]:
    """Whether it was the same machine, and how its speed at fixed work changed, where that was timed."""
    known = [(a, b) for a, b in pairs if has_environment(a) and has_environment(b)]
    if not known:
        return []
    changed = _changed(known, _MACHINE)
    found = [reason("compare.another_machine", changed=changed)] if changed else []
    timed = [row for row in rows if row.machine is not None]
    figures: dict[str, Value] = {"same": not changed, "changed": _changed(known, _WORK)}
    if not timed:
        return [*found, reason("compare.no_work_timed", **figures)]
    names = tuple(row.name.short for row in timed)
    speeds = tuple(float(row.machine or 0) for row in timed)
    return [*found, reason("compare.work_timed", names=names, speeds=speeds, **figures)]


def _changed(pairs: Sequence[tuple[Measurement, Measurement]], names: Sequence[str]) -> tuple[str, ...]:
    """`cpu one → other`, each once."""
    found = {
        f"{name} {getattr(a.environment, name)} → {getattr(b.environment, name)}": None
        for name in names
        for a, b in pairs
        if getattr(a.environment, name) != getattr(b.environment, name)
    }
    return tuple(found)


def _alike(name: str, a: Any, b: Any) -> bool:
    """Measured ceilings are never equal: theirs count from the drift on that a warning takes."""
    if name.startswith("environment.ceilings.") and a and b:
        return bool(max(a / b, b / a) <= DRIFT_WARNING)
    return bool(a == b)


def _described(result: Measurement, with_environment: bool) -> Iterator[tuple[str, Any]]:
    for name in settings_of(result):
        if name not in REFUSED and name not in _ELSEWHERE:
            yield f"config.{name}", _scalar(setting(result, name))
    if with_environment:
        yield from _flat("environment", result.environment.model_dump())
    yield from _flat("model", result.model.model_dump())
    if isinstance(result, PrecisionResult):
        for row in result.rows:
            if row.raw.execution is not None:
                yield f"rows.{row.precision}.execution", row.raw.execution
    elif isinstance(result, ServingResult):
        yield from _flat("servers", {one.name: one.model_dump(exclude={"name"}) for one in result.servers})
    else:
        yield from _flat("drafts", {name: draft.model_dump() for name, draft in result.drafts.items()})


def _flat(section: str, record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{section}.{name}", value)
        elif name not in _NEVER_EQUAL:
            yield f"{section}.{name}", _scalar(value)


def _scalar(value: Any) -> Any:
    """Lists and times as text."""
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
