"""What a container leaves of a machine, read from control groups made by hand."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
import torch

from bitdraft.probes import container
from bitdraft.probes.container import cpu_quota, crowding_of, memory_limit_bytes
from bitdraft.probes.environment import describe

GIB = 2**30


def groups(root: Path, own: str, **files: str) -> tuple[Path, Path]:
    """(root, what /proc/self/cgroup says); `a__b` is the file `b` of the folder `a`."""
    for name, content in files.items():
        *folders, file = name.split("__")
        path = root.joinpath(*folders, file.replace("_DOT_", "."))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    place = root / "own"
    place.write_text(own)
    return root, place


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu_DOT_max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu_DOT_max": "max 100000\n"}, None),
        (
            "0::/pod/task\n",
            {"pod__cpu_DOT_max": "50000 100000\n", "pod__task__cpu_DOT_max": "max 100000\n"},
            0.5,
        ),
        ("0::/pod\n", {"cpu_DOT_max": "100000 100000\n", "pod__cpu_DOT_max": "400000 100000\n"}, 1.0),
        (
            "3:cpu,cpuacct:/docker/1\n",
            {
                "cpu__docker__1__cpu_DOT_cfs_quota_us": "250000\n",
                "cpu__docker__1__cpu_DOT_cfs_period_us": "100000\n",
            },
            2.5,
        ),
        ("3:cpu:/\n", {"cpu__cpu_DOT_cfs_quota_us": "-1\n", "cpu__cpu_DOT_cfs_period_us": "100000\n"}, None),
        ("nonsense", {}, None),
        ("0::/\n", {"cpu_DOT_max": "many\n"}, None),
    ],
)
def test_the_narrowest_quota_counts(
    tmp_path: Path, own: str, files: dict[str, str], quota: float | None
) -> None:
    assert cpu_quota(*groups(tmp_path, own, **files)) == quota


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("0::/\n", {"memory_DOT_max": f"{GIB}\n"}, GIB),
        ("0::/pod/task\n", {"pod__memory_DOT_max": f"{GIB}\n", "pod__task__memory_DOT_max": "max\n"}, GIB),
        ("4:memory:/a\n", {"memory__a__memory_DOT_limit_in_bytes": f"{GIB}\n"}, GIB),
        ("4:memory:/\n", {"memory__memory_DOT_limit_in_bytes": "9223372036854771712\n"}, None),
        ("0::/\n", {}, None),
    ],
)
def test_the_memory_is_the_groups_where_that_is_less(
    tmp_path: Path, own: str, files: dict[str, str], limit: int | None
) -> None:
    expected = psutil.virtual_memory().total if limit is None else limit
    assert memory_limit_bytes(*groups(tmp_path, own, **files)) == expected


def test_usable_processors_are_bound_and_within_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    for quota, usable in ((None, 4), (1.5, 1.5), (16.0, 4)):
        monkeypatch.setattr(container, "cpu_quota", lambda quota=quota: quota)
        assert container.usable_cpus() == usable


def test_more_threads_than_processors_is_a_warning() -> None:
    here = describe(torch.device("cpu"))
    for threads, cpus, warns in (
        (8, 1.0, True),
        (2, 1.5, False),
        (2, 2.0, False),
        (3, 1.5, True),
        (0, 1.0, False),
    ):
        found = crowding_of(here.model_copy(update={"num_threads": threads, "usable_cpus": cpus}))
        assert bool(found) == warns
        assert not found or found[0].code == "run.threads"
