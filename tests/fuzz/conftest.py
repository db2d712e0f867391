"""How many inputs were tried, and how they ended, over all processes."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from fuzzing import ENDINGS

_ALL: Counter[str] = Counter()


def pytest_sessionfinish(session: pytest.Session) -> None:
    of_worker = getattr(session.config, "workeroutput", None)
    if of_worker is not None:
        of_worker["endings"] = dict(ENDINGS)
    else:
        _ALL.update(ENDINGS)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _ALL.update(getattr(node, "workeroutput", {}).get("endings", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if _ALL:
        said = ", ".join(f"{number} {name}" for name, number in _ALL.most_common())
        num = _ALL["taken"] + _ALL["refused"]
        terminalreporter.write_line(f"{num} damaged inputs: {said}")
