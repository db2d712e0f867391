"""Several prompts decoded at once, for every batch size above 1: K = 0 and every (draft, K) in turn on each
group of prompts, as the sweep does on each prompt.

Groups are consecutive prompts, disjoint; what is left at the end and fills no group is left out. Each prompt
has the seed that it has in the sweep, so that its text is the same one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from bitdraft.backends import Speculation
from bitdraft.backends.native import NativeSpeculation
from bitdraft.config import SpecDecodeConfig
from bitdraft.engine.loop import NonFiniteDecoding
from bitdraft.errors import UserError
from bitdraft.schema.records import Generation
from bitdraft.spec_decode.failures import failure_of
from bitdraft.spec_decode.state import Cell

Arm = tuple[str | None, int]
PLAIN: Arm = (None, 0)
# of K = 0, or of the prompts themselves: they end a batch size
_FAILURES = (NonFiniteDecoding, UserError, RuntimeError, MemoryError)


def groups_of(num_prompts: int, batch_size: int) -> list[list[int]]:
    """Places of the prompts of each group."""
    starts = range(0, num_prompts - batch_size + 1, batch_size)
    return [list(range(start, start + batch_size)) for start in starts]


def check_batches(cell: Cell, decoder: Speculation) -> None:
    """Raises `UserError`, before anything is measured, where models allow one prompt alone."""
    sizes = cell.config.batch_sizes
    if sizes[-1] == 1 or not isinstance(decoder, NativeSpeculation):
        return
    if decoder.fallback_reason is not None:
        shown = ",".join(map(str, sizes))
        raise UserError("batch_sizes", shown, decoder.fallback_reason, "Use --batch-size 1")
    if decoder.mode == "eager":
        cell.emit("note", text="Batch 1 ran eagerly, which was faster; larger batches by the static path.")


def measure_batches(cell: Cell, decoder: NativeSpeculation) -> None:
    """Emits a `batch` for each group, and a `batch_failed` for each arm that is lost at a batch size or,
    without a draft, for the end of one. Where memory is too small for a batch, larger ones are not tried."""
    sizes = cell.config.batch_sizes[1:]
    total = sum(len(groups_of(len(cell.prompts), size)) for size in sizes)
    before = 0
    for place, size in enumerate(sizes):
        groups = groups_of(len(cell.prompts), size)
        batch = _Batch(cell, decoder, [PLAIN, *cell.arms])
        cell.emit("progress", stage="batches", done=before, total=total)
        try:
            batch.warm_up(groups)
            for turn, group in enumerate(groups):
                cell.emit("progress", stage="batches", done=before + turn, total=total)
                batch.measure(group, backwards=turn % 2 == 1)
        except _FAILURES as error:
            if _drop(cell, size, PLAIN, error) == "oom":
                for larger in sizes[place + 1 :]:
                    _drop(cell, larger, PLAIN, MemoryError(f"not tried, because batch {size} had too little"))
                return
        before += len(groups)


def _drop(cell: Cell, size: int, arm: Arm, error: Exception) -> str:
    """Say why an arm is out at a batch size; the status."""
    status, reason = failure_of(error)
    cell.emit("batch_failed", batch_size=size, draft=arm[0], k=arm[1], status=status, reason=reason)
    return status


@dataclass
class _Batch:
    """One batch size, and the arms that still run at it."""

    cell: Cell
    decoder: NativeSpeculation
    arms: list[Arm]

    def warm_up(self, groups: list[list[int]]) -> None:
        """Every arm once, briefly, on the group with the longest prompt, whose caches are large enough for
        all: the first forward of each shape is slow, and so is an allocation."""
        config, prompts = self.cell.config, self.cell.prompts
        longest = max(groups, key=lambda group: max(len(prompts[place]) for place in group))
        self.decoder.prepare_batch([prompts[place] for place in longest], config)
        brief = self.cell.brief()
        for arm in list(self.arms):
            if arm in self.arms:
                self._try(longest, arm, brief)

    def measure(self, group: list[int], *, backwards: bool) -> None:
        config = self.cell.config
        self.decoder.prepare_batch([self.cell.prompts[place] for place in group], config)
        records = []
        for arm in list(reversed(self.arms) if backwards else self.arms):
            runs = self._try(group, arm, config) if arm in self.arms else None
            if runs is not None:
                generations = [run.model_dump(mode="json") for run in runs]
                records.append({"draft": arm[0], "k": arm[1], "generations": generations})
        self.cell.emit("batch", batch_size=len(group), prompts=group, runs=records)

    def _try(self, group: list[int], arm: Arm, config: SpecDecodeConfig) -> list[Generation] | None:
        """One run of an arm. What goes wrong with it takes the arm out, and a draft that isn't finite all
        of its arms; without K = 0 there is nothing to compare with, so that its errors go on."""
        draft, k = arm
        try:
            seeds = [self.cell.seed(draft, k, place) for place in group]
            decode = functools.partial(self.decoder.decode_batch, config, draft, k, seeds)
            if draft is None or not self.cell.texts:
                return decode()
            return self.cell.forced(decode, group)
        except _FAILURES as error:
            not_finite = error.who if isinstance(error, NonFiniteDecoding) else ""
            if draft is None or not_finite == "target":
                raise
            for other in list(self.arms):
                if other == arm or (not_finite and other[0] == draft):
                    self.arms.remove(other)
                    _drop(self.cell, len(group), other, error)
        return None
