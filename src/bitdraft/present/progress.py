"""Live progress in a terminal; plain lines where there is none."""

from __future__ import annotations

from time import monotonic
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

# What each stage is called, and the share of a precision's time it begins and ends at (a rough guess).
_STAGES = {
    "prepare": ("preparing model and text", 0.0, 0.0),
    "environment": ("measuring this machine", 0.0, 0.0),
    "load": ("loading", 0.0, 0.1),
    "quality": ("perplexity", 0.1, 0.5),
    "speed": ("speed", 0.5, 0.9),
    "energy": ("energy", 0.9, 0.93),
    "divergence": ("KL divergence", 0.93, 1.0),
}
# the same of a sweep
SWEEP_STAGES = {
    "prepare": ("preparing models and text", 0.0, 0.02),
    "environment": ("measuring this machine", 0.02, 0.05),
    "load": ("loading", 0.05, 0.08),
    "warm-up": ("warming up", 0.08, 0.15),
    "compile": ("compiling and warming up", 0.08, 0.15),
    "sweep": ("sweep: prompts done by all rows", 0.15, 0.85),
    "runs": ("sweep: requests done", 0.15, 0.85),
    "replay": ("replay: prompts done", 0.88, 0.95),
    "plan": ("plan: prompts done", 0.15, 1.0),
    "grid": ("grid: batch sizes and contexts done", 0.6, 1.0),
    "lossless": ("explaining differences to plain decoding", 0.85, 0.88),
    "pairs": ("formats of target and draft", 0.86, 0.9),
    "batches": ("larger batches: groups done", 0.88, 0.95),
    "memory": ("peak memory", 0.95, 1.0),
}


def _bars(console: Console) -> Progress:
    """Drawn four times a second: more would take time from what is measured."""
    return Progress(
        TextColumn("{task.description:<32}"),
        BarColumn(bar_width=32),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        refresh_per_second=4,
    )


class _Live:
    """A bar for what runs now; a plain line where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: TaskID | None = None
        self._progress = _bars(console)

    def __enter__(self) -> Self:
        if self.console.is_terminal:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def _begin(self, name: str) -> None:
        if not self.console.is_terminal:
            self.console.print(f"{name} …", style="dim", highlight=False)
            return
        if self._bar is not None:
            self._progress.remove_task(self._bar)
        self._bar = self._progress.add_task(name, total=1)

    def _update(self, done: int, total: int) -> None:
        if self._bar is not None:
            self._progress.update(self._bar, completed=done, total=total)


class StageProgress(_Live):
    """A bar for the stage of a sweep that runs now, and one for all of it."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._stage, self._reached = "", 0.0
        self._all = self._progress.add_task("all of it", total=1)

    def __call__(self, stage: str, done: int, total: int) -> None:
        name, start, end = SWEEP_STAGES[stage]
        if stage != self._stage:
            self._stage = stage
            self._begin(name)
        # models are loaded once more for a replay
        self._reached = max(self._reached, start + (end - start) * done / total)
        self._progress.update(self._all, completed=self._reached)
        self._update(done, total)


class LoadProgress(_Live):
    """A bar for the load that servers are under now."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._load: str | None = None

    def __call__(self, load: str, stage: str, done: int, total: int) -> None:
        if load != self._load:
            self._load = load
            self._begin(load or "asking the servers")
        self._update(done, total)


class LiveProgress(_Live):
    """A bar for what runs now and one for all precisions."""

    def __init__(self, console: Console, num_precisions: int) -> None:
        super().__init__(console)
        self._seen: list[str] = []
        self._stage = ("", "")
        self._all = self._progress.add_task("all precisions", total=num_precisions)

    def __call__(self, precision: str, stage: str, done: int, total: int) -> None:
        if (precision, stage) != self._stage:
            self._stage = (precision, stage)
            if precision and precision not in self._seen:
                self._seen.append(precision)
            self._begin(f"{precision} {_STAGES[stage][0]}".strip())
        _, start, end = _STAGES[stage]
        finished = max(0, len(self._seen) - 1) + start + (end - start) * done / total
        # rounds of processes are not known before
        self._progress.update(self._all, completed=finished, total=max(self._num(), len(self._seen)))
        self._update(done, total)

    def _num(self) -> float:
        return self._progress.tasks[self._all].total or 1.0


class SearchProgress(_Live):
    """A bar for what runs now of a search over both modules, and one for all of it: of its budget, or of the
    stages that are sure to come (how many plans and sweeps there are is decided on the way)."""

    def __init__(self, console: Console, budget_s: float | None) -> None:
        super().__init__(console)
        self._now = ("", "")
        self._kinds: list[str] = []
        self._budget_s, self._start_s = budget_s, monotonic()
        self._all = self._progress.add_task("", total=budget_s or len(_KINDS))

    def __call__(self, what: str, stage: str, done: int, total: int) -> None:
        if (what, stage) != self._now:
            self._now = (what, stage)
            name = (_STAGES if stage in _STAGES else SWEEP_STAGES)[stage][0]
            self._begin(f"{what}: {name}")
            kind = what.split(maxsplit=1)[0]
            if kind in _KINDS and kind not in self._kinds:
                self._kinds.append(kind)
        place = max(1, len(self._kinds))
        title = f"stage {place} of {len(_KINDS)}: {_KINDS.get(self._kinds[-1]) if self._kinds else ''}"
        spent_s = monotonic() - self._start_s
        finished = place - 1 if self._budget_s is None else min(spent_s, self._budget_s)
        self._progress.update(self._all, completed=finished, description=title)
        self._update(done, total)


_KINDS = {"precision": "precisions", "plan": "plans", "contenders": "what is predicted to pay"}
