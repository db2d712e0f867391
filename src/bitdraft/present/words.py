"""Numbers and names as text, for sentences and tables alike."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bitdraft.metrics.quality import LARGEST
from bitdraft.schema.environment import Environment
from bitdraft.schema.records import Figure


def times_text(ratio: Figure) -> str:
    """`1.50× [1.40, 1.60]`, without brackets where there is no interval."""
    if ratio.low is None or ratio.high is None:
        return f"{ratio.value:.2f}×"
    return f"{ratio.value:.2f}× [{ratio.low:.2f}, {ratio.high:.2f}]"


def joined(parts: Sequence[object]) -> str:
    """`1, 2 and 3`"""
    *others, last = map(str, parts)
    return f"{', '.join(others)} and {last}" if others else last


def counted(number: int | float, one: str, several: str | None = None) -> str:
    """`1 block`, `3 blocks`"""
    return f"{number:.0f} {one if number == 1 else several or f'{one}s'}"


def too_few(number: int | float, one: str, several: str | None = None) -> str:
    """`1 prompt is too few`, `3 prompts are too few`"""
    return f"{counted(number, one, several)} {'is' if number == 1 else 'are'} too few"


def fixed(value: float, digits: int, *, signed: bool = False) -> str:
    """`12.30`; what has more than nine digits in front of its point as `4.1e+12`, and at last `> 1e300`."""
    if abs(value) >= LARGEST * (1 - 1e-9):
        return f"{'<' if value < 0 else '>'} {math.copysign(LARGEST, value):.0e}".replace("e+", "e")
    sign = "+" if signed else ""
    return f"{value:{sign}.3g}" if abs(value) >= 1e9 else f"{value:{sign}.{digits}f}"


def percent(share: float, *, signed: bool = False) -> str:
    """`+0.050 %`; three digits where two would show nothing."""
    return f"{fixed(100 * share, 3 if abs(share) < 0.001 else 2, signed=signed)} %"


def change_text(change: Figure) -> str:
    """A share with its interval, as `+0.05 % [+0.04 %, +0.06 %]`."""
    text = percent(change.value, signed=True)
    if change.low is None or change.high is None:
        return text
    return f"{text} [{percent(change.low, signed=True)}, {percent(change.high, signed=True)}]"


def pace_text(drift: float) -> str:
    """How far a machine's pace changed: `by 28 %`, `6-fold`."""
    return f"by {100 * (drift - 1):.0f} %" if drift < 2 else f"{drift:.0f}-fold"


def pace_in_chinese(drift: float) -> str:
    """The same, behind 变化了"""
    return f" {100 * (drift - 1):.0f} %" if drift < 2 else f"到 {drift:.0f} 倍"


def memory_text(name: str) -> str:
    """`peak VRAM` or `peak RAM`"""
    return "peak VRAM" if name == "peak_vram_gb" else "peak RAM"


def some(names: Sequence[str], most: int = 6) -> str:
    """A sweep has many rows: the first few say which are meant."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return "; ".join(names[:most]) + more


STANDINGS = {
    "chosen": "chosen",
    "ahead": "ahead",
    "indistinguishable": "tied",
    "slower": "slower",
    "open": "open",
    "predicted": "predicted",
    "out": "out",
}
"""Of a contender, what a table says"""
METRIC_TITLES = {
    "throughput_tok_s": "tokens/s",
    "tpot_ms": "TPOT",
    "ttft_ms": "TTFT",
    "speedup": "speedup over plain decoding",
    "tokens_per_step": "tokens per step",
    "peak_vram_gb": "peak VRAM",
    "peak_ram_gb": "peak RAM",
    "ppl": "PPL",
    "bits_per_byte": "bits per byte",
}
_IN_PERCENT = ("ppl", "bits_per_byte")


def ratio_text(name: str, ratio: Figure) -> str:
    """`0.931× [0.902, 0.958]`, without brackets where there is no interval; of what hardly ever changes by as
    much, the change: `+0.012 % [+0.001, +0.023]`."""
    ends = [ratio.value] if ratio.low is None or ratio.high is None else [ratio.value, ratio.low, ratio.high]
    if name in _IN_PERCENT:
        value, *interval = (f"{100 * (end - 1):+.3f}" for end in ends)
        value += " %"
    else:
        value, *interval = (f"{end:.3f}" for end in ends)
        value += "×"
    return f"{value} [{', '.join(interval)}]" if interval else value


def machine_text(environment: Environment) -> str:
    """`AMD EPYC (AVX2), 2 threads`, or the GPU."""
    if environment.gpu or not environment.cpu:
        return environment.hardware or "unknown machine"
    able = f" ({environment.cpu_capability})" if environment.cpu_capability else ""
    threads = f", {environment.num_threads} threads" if environment.num_threads else ""
    return f"{environment.cpu}{able}{threads}"
