"""The child's side: read a job from standard input, run it, write events as JSON lines.

Events go to the original standard output; whatever the job prints goes to standard error, so that
a library's chatter cannot damage them.

Standard input is the line to the parent. While the parent lives it stays open; when it closes, or when this
process ends in any way, a guardian process ends the whole process group, compile workers included. The
guardian is forked before anything is loaded, so that no hung driver or long operation keeps it from acting.
Where there is no fork, a thread watches instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import threading
from typing import IO

from bitdraft.runs.cell import Event
from bitdraft.runs.executors.base import Emit, run_function

HEARTBEAT_S = 2.0


def main() -> int:
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        return 1  # the parent died while it wrote
    _end_with_the_parent(sys.stdin.fileno())
    events = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    job = json.loads(line)
    del line
    emit = Emit(lambda event: _write(events, event))
    threading.Thread(target=_beat, args=(emit,), daemon=True).start()
    run_function(job["target"], job["payload"], emit)
    return 0


def _write(events: IO[str], event: Event) -> None:
    events.write(json.dumps(event) + "\n")
    events.flush()


def _beat(emit: Emit) -> None:
    """A sign of life every two seconds, where the cell says that it can give none itself."""
    wake = threading.Event()
    while not wake.wait(HEARTBEAT_S):
        if emit.is_slow:
            with contextlib.suppress(OSError, ValueError):
                emit("heartbeat")


def _end_with_the_parent(line_to_parent: int) -> None:
    """From here on this process group does not outlive the parent."""
    if not hasattr(os, "fork"):
        threading.Thread(target=_watch, args=(line_to_parent,), daemon=True).start()
        return
    if os.getpgrp() != os.getpid():
        return  # started by hand: the group is not ours to end
    alive_read, alive_write = os.pipe()
    if os.fork() == 0:
        os.close(alive_write)
        _guard(line_to_parent, alive_read)
    os.close(alive_read)
    os.set_inheritable(alive_write, False)  # closed by this process's end, and by nothing else
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, line_to_parent)
    os.close(nothing)


def _guard(line_to_parent: int, alive: int) -> None:
    """Wait for the parent's or the child's end, then end the group, this process included."""
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (1, 2):
        os.dup2(nothing, fd)  # so that the parent sees the child's output end
    select.select([line_to_parent, alive], [], [])
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _watch(line_to_parent: int) -> None:
    while os.read(line_to_parent, 4096):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
