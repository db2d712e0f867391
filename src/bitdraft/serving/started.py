"""The servers of a run, those that it starts itself among them."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bitdraft.errors import UserError
from bitdraft.servers.launch import Declaration, Launched, NotStarted, launched

OnWait = Callable[[str, float], None]
"""(server, seconds that it was waited for)"""


@dataclass
class Group:
    """`servers` are NAME=URL of all. `lost` says by name why some that were started never answered."""

    servers: tuple[str, ...] = ()
    running: list[Launched] = field(default_factory=list)
    lost: dict[str, str] = field(default_factory=dict)

    @property
    def died(self) -> dict[str, str]:
        """The last words of those that have ended since, by name."""
        return {one.name: one.last_words for one in self.running if one.has_died}


@contextlib.contextmanager
def log_folder(folder: Path | None) -> Iterator[Path]:
    """Where logs are kept: in the run's folder, or nowhere."""
    if folder is not None:
        yield folder / "servers"
        return
    with tempfile.TemporaryDirectory(prefix="bitdraft-servers-") as found:
        yield Path(found)


@contextlib.contextmanager
def started(
    declared: Sequence[Declaration], running: Sequence[str], folder: Path | None, on_wait: OnWait
) -> Iterator[Group]:
    """Those that are declared, side by side, before those that run already (NAME=URL). One that doesn't
    start is lost alone; raises `UserError` where none is left."""
    with contextlib.ExitStack() as stack:
        group = Group()
        logs = stack.enter_context(log_folder(folder))
        for one in declared:
            on_wait(one.name, 0.0)
            try:
                server = stack.enter_context(
                    launched(one, logs, lambda waited_s, name=one.name: on_wait(name, waited_s))  # type: ignore[misc]
                )
            except NotStarted as error:
                group.lost[one.name] = str(error)
                group.servers += (f"{one.name}={error.url}",)
                continue
            group.running.append(server)
            group.servers += (f"{one.name}={server.url}",)
        if not group.running and not running:
            name, why = next(iter(group.lost.items()))
            raise UserError("launch", name, why, "Mend its command")
        group.servers += tuple(running)
        yield group
