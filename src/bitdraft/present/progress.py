"""Live progress in a terminal; plain lines where there is none."""

from __future__ import annotations

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
    "divergence": ("KL divergence", 0.9, 1.0),
}
SWEEP_STAGES = {
    "prepare": "preparing models and text",
    "environment": "measuring this machine",
    "load": "loading",
    "warm-up": "warming up",
    "compile": "compiling and warming up",
    "sweep": "sweep: prompts done by all rows",
    "plan": "plan: prompts done",
    "lossless": "explaining differences to K = 0",
    "batches": "larger batches: groups done",
    "memory": "peak memory",
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
    """A bar for the stage that runs now."""

    def __init__(self, console: Console, stages: dict[str, str]) -> None:
        super().__init__(console)
        self._stages = stages
        self._stage = ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._stage = stage
            self._begin(self._stages[stage])
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
        self._progress.update(self._all, completed=finished)
        self._update(done, total)


class SearchProgress(_Live):
    """A bar for the module's stage that runs now, of a search over both modules."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._now = ("", "")

    def __call__(self, what: str, stage: str, done: int, total: int) -> None:
        if (what, stage) != self._now:
            self._now = (what, stage)
            self._begin(f"{what}: {_STAGES[stage][0] if stage in _STAGES else SWEEP_STAGES[stage]}")
        self._update(done, total)
