"""An alarm clock: what runs when time is up is interrupted as by Ctrl-C, and what was finished is kept."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Iterator

from bitdraft.errors import Interrupted


@contextlib.contextmanager
def alarm_after(seconds: float) -> Iterator[None]:
    """Raise `Interrupted` on this thread in so many seconds, unless its work is done before. Does nothing
    without a limit, off the main thread, or where the system has no alarm."""
    is_main = threading.current_thread() is threading.main_thread()
    if math.isinf(seconds) or not is_main or not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(number: int, _frame: object) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
