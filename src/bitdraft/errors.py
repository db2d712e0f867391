"""The exceptions of bitdraft.

BitdraftError
├── UserError          a request that cannot be carried out as given: field, value, problem, remedy
├── EngineDied         an engine in a process of its own that didn't start, or ended (external.base)
├── Unsupported        what a device, a checkpoint or a package can't do: a row of its own says why
└── NonFiniteNumbers   a model gave numbers that are not finite
    ├── NonFiniteDecoding   while it decoded     (engine.loop)
    └── NonFiniteLogits     while it was scored  (engine.scoring)
KeyboardInterrupt
└── Interrupted        a signal asked the run to end; what is finished is kept
"""

from __future__ import annotations

import re
import signal


class BitdraftError(Exception):
    """What all errors of this package have in common."""


class UserError(BitdraftError):
    """A request that cannot be carried out as given.

    `field` names what the user set, `value` what it was set to, `problem` what is wrong with it and
    `remedy` what to do instead. `result` is what was measured before the error, where something was.
    The command line prints one line and exits with 2.
    """

    def __init__(self, field: str, value: object, problem: str, remedy: str) -> None:
        self.field, self.value, self.problem, self.remedy = field, value, problem, remedy
        self.result: object = None
        super().__init__(f"{field}: {value!s}: {problem}. {remedy}.")

    def as_dict(self) -> dict[str, str]:
        """The four parts as JSON has them, for another process."""
        return {
            "field": self.field,
            "value": str(self.value),
            "problem": self.problem,
            "remedy": self.remedy,
        }


class Unsupported(BitdraftError, NotImplementedError):
    """What a device, a checkpoint or a package can't do, where other formats can: a row with the reason."""


class NonFiniteNumbers(BitdraftError):
    """A model gave numbers that are not finite."""


class Interrupted(KeyboardInterrupt):
    """A signal asked the run to end. `result` is what was finished before, `folder` where it is kept."""

    def __init__(self, signal_number: int, result: object = None, folder: object = None) -> None:
        super().__init__(f"signal {signal_number}")
        self.signal_number, self.result, self.folder = signal_number, result, folder


def signal_of(interrupt: KeyboardInterrupt) -> int:
    """Which signal asked for it: that of Ctrl-C, unless it says."""
    return interrupt.signal_number if isinstance(interrupt, Interrupted) else signal.SIGINT


_NUMBER = re.compile(r"\[Errno -?\d+\] ")


def one_line(error: BaseException, limit: int = 300) -> str:
    """The first non-empty line of an exception's text, or its type where it has none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return _NUMBER.sub("", lines[0])[:limit] if lines else type(error).__name__
