"""CUDA graphs of a step: its two graphs captured once for each K and span, and replayed without the host.

The graphs are apart so that their times can be told by events between them; nothing synchronises there.
Capturing runs a half a few times, so what a step changes is saved before and put back after it. A half
that can't be captured (too little memory, an operation that asks the host) is called as it is.

Without a GPU the tests hold the same code with a stand-in for the capture.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bitdraft.errors import one_line
from bitdraft.probes.clock import now

Capture = Callable[[Callable[[], Any]], tuple[Callable[[], None], Any]]
"""function → (replay, its results), which each replay fills anew"""
_WARM_UPS = 2


@dataclass(frozen=True)
class StepGraphs:
    """Replays of a step's draft and of its verification, which leaves the step's log in `log`."""

    draft: Callable[[], None]
    verify: Callable[[], None]
    log: torch.Tensor


class Graphs:
    """By key; `capture_s` is the time that capturing took, `failure` why the last one failed, if one did."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._found: dict[Hashable, StepGraphs | None] = {}
        self.capture_s = 0.0
        self.failure: str | None = None

    def __len__(self) -> int:
        return sum(graphs is not None for graphs in self._found.values())

    def clear(self) -> None:
        """Forget all: they hold addresses of buffers."""
        self._found.clear()

    def take(
        self,
        key: Hashable,
        draft: Callable[[], Any],
        verify: Callable[[Any], torch.Tensor],
        changed: Sequence[torch.Tensor],
    ) -> StepGraphs | None:
        """`verify` is given what `draft` returns; `changed` is what both change."""
        if key not in self._found:
            start_s = now()
            saved = [tensor.clone() for tensor in changed]
            try:
                self._found[key] = self._capture_both(draft, verify)
            except RuntimeError as error:  # CUDA's errors, out of memory among them
                self._found[key], self.failure = None, one_line(error)
            for tensor, before in zip(changed, saved, strict=True):
                tensor.copy_(before)
            self.capture_s += now() - start_s
        return self._found[key]

    def _capture_both(self, draft: Callable[[], Any], verify: Callable[[Any], torch.Tensor]) -> StepGraphs:
        replay_draft, proposal = self._capture(draft)
        replay_draft()  # so that the verification finds token ids in what it reads
        replay_verify, log = self._capture(lambda: verify(proposal))
        return StepGraphs(replay_draft, replay_verify, log)


def cuda_capture() -> Capture:
    """Captures that share one pool of memory."""
    pool: Any = torch.cuda.graph_pool_handle()

    def capture(function: Callable[[], Any]) -> tuple[Callable[[], None], Any]:
        stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function()
        torch.cuda.current_stream().wait_stream(stream)
        graph: Any = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool):
            results = function()
        return graph.replay, results

    return capture
