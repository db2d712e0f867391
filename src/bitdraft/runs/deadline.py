"""An alarm clock: what runs when time is up is interrupted as by Ctrl-C, and what was finished is kept."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import threading
from collections.abc import Iterator
from time import monotonic

from bitdraft.errors import Interrupted

AGAIN_S = 1.0


@contextlib.contextmanager
def alarm_after(seconds: float) -> Iterator[None]:
    """Raise `Interrupted` on this thread in so many seconds, unless its work is done before. Does nothing
    without a limit, off the main thread, or where the system has no alarm.

    What is raised within a finaliser or a callback of the garbage collector is lost, so it rings again until
    it is heard."""
    is_main = threading.current_thread() is threading.main_thread()
    if math.isinf(seconds) or not is_main or not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(number: int, _frame: object) -> None:
        if not isinstance(sys.exc_info()[1], Interrupted):  # which is on its way
            raise Interrupted(number)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """No alarm rings meanwhile: what has been measured is written whole. It rings after."""
    if not hasattr(signal, "setitimer"):
        yield
        return
    start_s = monotonic()
    left_s, again_s = signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        if left_s:
            signal.setitimer(signal.ITIMER_REAL, max(left_s - (monotonic() - start_s), 0.01), again_s)
