"""Where cells run: in a process each on this machine, on a Ray cluster, or in this very process."""

from __future__ import annotations

from bitdraft.config.running import RunOptions
from bitdraft.runs.executors.base import Executor
from bitdraft.runs.executors.local import Local


def make_executor(options: RunOptions) -> Executor:
    """The one that the options name; Ray is imported only where it is asked for."""
    if options.executor == "ray":
        from bitdraft.runs.executors.ray import RayCluster

        return RayCluster(options.ray_address, options.cell_timeout_s)
    return Local(options.devices, options.cell_timeout_s)
