"""How inputs are damaged: strategies for JSON and bytes, and what has to hold of whatever comes of them."""

from __future__ import annotations

import contextlib
import copy
import math
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from bitdraft.cli.common import line_of
from bitdraft.errors import UserError

ENDINGS: Counter[str] = Counter()
"""Of this process's inputs"""
MOST_S = 30
MOST_GIB = 5.0
LONGEST_LINE = 1200

_ODD_NUMBERS = st.sampled_from([0, -1, 1, 3, 7, 2**31, 2**63, 10**9, 10**30, 0.5, 1e308, math.inf])
_ODD_TEXTS = st.sampled_from(
    ["", "nan", "..", "../x", "/", "fp32", "model", "\ud800", "\x00", "é" * 40, "a b"]
)
ODD_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    _ODD_NUMBERS,
    _ODD_TEXTS,
    st.integers(-3, 300),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from([[], {}, [[]], [None], {"": None}, {"a": {"b": []}}]),
    st.lists(st.integers(-2, 400), max_size=4),
)


def _places(data: Any, draw: st.DrawFn) -> tuple[Any, Any]:
    """A container of the document and one of its keys, wherever: a step further down each time a coin says
    so."""
    container, keys = data, _keys(data)
    while True:
        key = draw(st.sampled_from(keys))
        keys = _keys(container[key])
        if not keys or draw(st.integers(0, 6)) == 3:
            return container, key
        container = container[key]


def _keys(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value)
    return list(range(min(len(value), 50))) if isinstance(value, list) else []


@st.composite
def damaged(draw: st.DrawFn, whole: Any) -> Any:
    """A JSON document with one to three entries replaced, left out, repeated, renamed or put deeper."""
    data = copy.deepcopy(whole)
    for _ in range(draw(st.integers(1, 3))):
        if not _keys(data):
            break
        container, key = _places(data, draw)
        value = container[key]
        action = draw(st.sampled_from(["replace", "replace", "drop", "deeper", "rename", "twice"]))
        if action == "drop":
            del container[key]
        elif action == "deeper":
            container[key] = draw(st.sampled_from([[value], {"value": value}]))
        elif action == "rename" and isinstance(container, dict):
            container[draw(st.text(max_size=6))] = container.pop(key)
        elif action == "twice" and isinstance(container, list):
            container.append(copy.deepcopy(value))
        else:
            container[key] = copy.deepcopy(draw(ODD_VALUES))
    return data


@st.composite
def damaged_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """Cut short, with bytes changed, put in or taken out, in another encoding, or other bytes altogether."""
    action = draw(st.sampled_from(["cut", "change", "insert", "remove", "encode", "other"]))
    place = draw(st.integers(0, max(len(whole) - 1, 0)))
    length = draw(st.integers(1, 40))
    some = draw(st.binary(min_size=1, max_size=40))
    if action == "cut":
        return whole[:place]
    if action == "change":
        return whole[:place] + some + whole[place + len(some) :]
    if action == "insert":
        return whole[:place] + some + whole[place:]
    if action == "remove":
        return whole[:place] + whole[place + length :]
    if action == "encode":
        encoding = draw(st.sampled_from(["utf-8-sig", "utf-16", "utf-32", "utf-16-be", "cp037"]))
        return whole.decode("latin-1").encode(encoding, "replace")
    return some


@contextlib.contextmanager
def limited(seconds: int = MOST_S) -> Iterator[None]:
    """What takes longer is a hang."""

    def ring(*_: object) -> None:
        raise AssertionError(f"hung: not finished in {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _memory_gib(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{field}:")[1].split()[0]) / 2**20


def holds(action: Callable[[], Any]) -> Any:
    """An input is taken, or refused by one line that names what, why and what to do, quickly and in bounded
    memory. What it gave, None where it was refused."""
    found, refused = None, None
    # what other tests left in this process is not what this input needs
    Path("/proc/self/clear_refs").write_text("5")
    before_gib = _memory_gib("VmRSS")
    with limited():
        try:
            found = action()
        except UserError as error:
            refused = error
    ENDINGS["taken" if refused is None else "refused"] += 1
    if refused is not None:
        line = line_of(refused, "MODEL")
        assert "\n" not in line
        assert len(line) <= LONGEST_LINE, line
        assert "Traceback" not in line
        assert refused.problem
        assert refused.remedy
    peak_gib = _memory_gib("VmHWM") - before_gib
    assert peak_gib < MOST_GIB, f"{peak_gib:.1f} GiB of memory"
    return found
