"""Peak memory, a phase at a time, in a process of its own: a peak is its phase's and no later one's."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

_PHASES = """
import json, torch
from bitdraft.probes.memory import begin_phase, peak_memory_bytes
cpu, peaks = torch.device("cpu"), []
kept = torch.ones(2**24)
for num_numbers in (2**26, 2**20, 2**25):
    has_end = begin_phase(cpu)
    torch.ones(num_numbers)
    peaks.append(peak_memory_bytes(cpu)["peak_ram"])
print(json.dumps([has_end, peaks]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks of phases are Linux's")
def test_a_peak_is_its_phases_own() -> None:
    """Phases that take 256, 4 and 128 MiB beside 64 MiB that stay."""
    done = subprocess.run([sys.executable, "-c", _PHASES], capture_output=True, text=True, check=True)
    has_end, (large, small, middle) = json.loads(done.stdout)
    assert has_end
    assert large - small == pytest.approx(252 * 2**20, abs=16 * 2**20)
    assert middle - small == pytest.approx(124 * 2**20, abs=16 * 2**20)
