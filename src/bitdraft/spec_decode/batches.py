"""Several prompts decoded at once, for every batch size above 1: K = 0 and every (draft, K) in turn on each
group of prompts, as the sweep does on each prompt.

Groups are consecutive prompts, disjoint; what is left at the end and fills no group is left out. Each prompt
has the seed that it has in the sweep, so that its text is the same one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from bitdraft.backends import Engine
from bitdraft.config import SpecDecodeConfig
from bitdraft.engine.loop import NonFiniteDecoding
from bitdraft.errors import UserError
from bitdraft.schema.records import Generation
from bitdraft.spec_decode.failures import failure_of
from bitdraft.spec_decode.worker import Worker

Own = tuple[str | None, int]
BASELINE: Own = (None, 0)
# of K = 0, or of the prompts themselves: they end a batch size
_FAILURES = (NonFiniteDecoding, UserError, RuntimeError, MemoryError)


def groups_of(num_prompts: int, batch_size: int) -> list[list[int]]:
    """Places of the prompts of each group."""
    starts = range(0, num_prompts - batch_size + 1, batch_size)
    return [list(range(start, start + batch_size)) for start in starts]


def check_batches(worker: Worker, engine: Engine) -> None:
    """Raises `UserError`, before anything is measured, where models allow one prompt alone."""
    sizes = worker.config.batch_sizes
    if sizes[-1] == 1 or not engine.capabilities.batches:
        return
    reason = engine.fallback_reason or engine.no_batches_reason
    if reason is not None:
        shown = ",".join(map(str, sizes))
        raise UserError("batch_sizes", shown, reason, "Use --batch-size 1")
    if engine.execution(None)["execution"] == "eager":
        worker.note("spec.batches_static")


def measure_batches(worker: Worker, engine: Engine) -> None:
    """Emits a `batch` for each group, and a `batch_failed` for each (draft, K) that is lost at a batch size
    or, without a draft, for the end of one. Where memory is too small for a batch, larger ones are not
    tried."""
    sizes = worker.config.batch_sizes[1:]
    lost = {(e["batch_size"], e["draft"], e["k"]) for e in worker.earlier("batch_failed")}
    total = sum(len(groups_of(len(worker.prompts), size)) for size in sizes)
    before = 0
    for index, size in enumerate(sizes):
        groups = groups_of(len(worker.prompts), size)
        first = sum(event["batch_size"] == size for event in worker.earlier("batch"))
        if (size, None, 0) not in lost and first < len(groups):
            active = [one for one in (BASELINE, *worker.active) if (size, *one) not in lost]
            batch = _Batch(worker, engine, active)
            worker.emit("progress", stage="batches", done=before + first, total=total)
            try:
                batch.warm_up(groups)
                for turn, group in enumerate(groups[first:], first):
                    worker.emit("progress", stage="batches", done=before + turn, total=total)
                    batch.measure(group, backwards=turn % 2 == 1)
            except _FAILURES as error:
                if _drop(worker, size, BASELINE, error) == "oom":
                    for larger in sizes[index + 1 :]:
                        why = MemoryError(f"not tried, because batch {size} had too little")
                        _drop(worker, larger, BASELINE, why)
                    return
        before += len(groups)


def _drop(worker: Worker, size: int, own: Own, error: Exception) -> str:
    """Say why a (draft, K) is out at a batch size; the status."""
    status, reason = failure_of(error)
    worker.emit("batch_failed", batch_size=size, draft=own[0], k=own[1], status=status, reason=reason)
    return status


@dataclass
class _Batch:
    """One batch size, and the (draft, K) that still run at it."""

    worker: Worker
    engine: Engine
    active: list[Own]

    def warm_up(self, groups: list[list[int]]) -> None:
        """Every (draft, K) once, briefly, on the group with the longest prompt, whose caches are large enough
        for all: the first forward of each shape is slow, and so is an allocation."""
        config, prompts = self.worker.config, self.worker.prompts
        longest = max(groups, key=lambda group: max(len(prompts[index]) for index in group))
        self.engine.prepare_batch([prompts[index] for index in longest], config)
        brief = self.worker.brief()
        with self.worker.emit.slow():
            for own in list(self.active):
                if own in self.active:
                    self._try(longest, own, brief)

    def measure(self, group: list[int], *, backwards: bool) -> None:
        config = self.worker.config
        self.engine.prepare_batch([self.worker.prompts[index] for index in group], config)
        records = []
        for own in list(reversed(self.active) if backwards else self.active):
            runs = self._try(group, own, config) if own in self.active else None
            if runs is not None:
                generations = [run.model_dump(mode="json") for run in runs]
                records.append({"draft": own[0], "k": own[1], "generations": generations})
        strayed = self.worker.take_strayed()
        self.worker.emit("batch", batch_size=len(group), prompts=group, runs=records, num_strayed=strayed)

    def _try(self, group: list[int], own: Own, config: SpecDecodeConfig) -> list[Generation] | None:
        """One run of a (draft, K). What goes wrong with it takes it out, and a draft that isn't finite all
        of its K; without the baseline there is nothing to compare with, so that its errors go on."""
        draft, k = own
        try:
            seeds = [self.worker.seed(draft, k, index) for index in group]
            decode = functools.partial(self.engine.decode_batch, config, draft, k, seeds)
            if draft is None or not self.worker.texts:
                return decode()
            return self.worker.with_oracle(decode, group)
        except _FAILURES as error:
            not_finite = error.who if isinstance(error, NonFiniteDecoding) else ""
            if draft is None or not_finite == "target":
                raise
            for other in list(self.active):
                if other == own or (not_finite and other[0] == draft):
                    self.active.remove(other)
                    _drop(self.worker, len(group), other, error)
        return None
