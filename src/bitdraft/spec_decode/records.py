"""What a sweep's cells have emitted so far, parsed once, and what the numbers are made of: runs, costs,
chains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bitdraft.config import CAPABILITIES, SpecDecodeConfig
from bitdraft.runs.cell import Event
from bitdraft.schema.environment import Environment, ModelRecord
from bitdraft.schema.findings import Finding, warning
from bitdraft.schema.records import Divergence, Generation, Status
from bitdraft.schema.spec_decode import Configuration
from bitdraft.spec_decode.replay import Chain, lookup_chain, model_chain
from bitdraft.spec_decode.theory import Costs, CostSample, StepCost, gather_costs

Key = tuple[str | None, int]
"""(draft, K); the baseline is (None, 0)"""
BASELINE: Key = (None, 0)
Reason = tuple[Status, str]


@dataclass(frozen=True)
class Agreement:
    """Where a draft agrees with a prompt's text: `keeps` and what explains them, or for prompt lookup what it
    `proposals` before each token."""

    keeps: Sequence[float] = ()
    leads: Sequence[float] = ()
    overlaps: Sequence[float] = ()
    proposals: Sequence[Sequence[int]] | None = None


@dataclass(frozen=True)
class PromptRecord:
    """One prompt: its runs by (draft, K), or of a plan the target's text; and what the replay needs."""

    text: tuple[int, ...]
    runs: Mapping[Key, Generation]
    agreement: Mapping[str, Agreement]
    costs: CostSample | None
    kv_bytes: Mapping[str, int]
    prefill_s: float = 0.0
    draft_prefill_s: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, event: Event) -> PromptRecord:
        """From a `prompt` event."""
        runs: dict[Key, Generation] = {}
        if "baseline" in event:
            runs[BASELINE] = Generation.model_validate(event["baseline"])
        for run in event.get("runs", ()):
            runs[run["draft"], run["k"]] = Generation.model_validate(run["generation"])
        text = runs[BASELINE].token_ids if runs else tuple(event["token_ids"])
        return cls(
            text=text,
            runs=runs,
            agreement={label: Agreement(**found) for label, found in event["agreement"].items()},
            costs=CostSample.of(event["costs"]) if event.get("costs") else None,
            kv_bytes=event.get("kv_bytes") or {},
            prefill_s=event.get("prefill_s", 0.0),
            draft_prefill_s=event.get("draft_prefill_s") or {},
        )


@dataclass(frozen=True)
class GroupRecord:
    """Prompts that were decoded at once, by their places, and their runs by (draft, K)."""

    prompts: tuple[int, ...]
    runs: Mapping[Key, tuple[Generation, ...]]

    @classmethod
    def of(cls, event: Event) -> GroupRecord:
        """From a `batch` event."""
        runs = {
            (run["draft"], run["k"]): tuple(map(Generation.model_validate, run["generations"]))
            for run in event["runs"]
        }
        return cls(tuple(event["prompts"]), runs)


@dataclass(frozen=True)
class GridPoint:
    """Costs of a batch of rows behind a context, round by round, and the seconds that measuring them took."""

    batch_size: int
    context: int
    costs: CostSample
    seconds: float


RETRIED, PLAIN = "deployed.retried", "plain decoding"


def of_engines_retried(events: Sequence[Event]) -> list[Event]:
    """What stays of a sweep over engines of their own where its lost (draft, K) are measured again: all runs,
    and a note of what is measured later than the others. When a prompt is over, and what the replay says of
    it, depends on which (draft, K) there are."""
    lost = [event for event in events if event["event"] in ("failed", "failure")]
    if not lost:
        return list(events)
    gone = {"failed", "failure", "done", "prompt_over", "agreement"}
    names = dict.fromkeys(f"{e['draft']}, K = {e['k']}" if e["event"] == "failed" else PLAIN for e in lost)
    notes = [{"event": "note", "code": RETRIED, "subject": name, "figures": {}} for name in names]
    return [*(event for event in events if event["event"] not in gone), *notes]


@dataclass
class Records:
    """Filled by `take`, event by event."""

    config: SpecDecodeConfig
    labels: Sequence[str]
    environment: Environment = field(default_factory=Environment)
    target: ModelRecord = field(default_factory=ModelRecord)
    drafts: dict[str, ModelRecord] = field(default_factory=dict)
    prompts: list[PromptRecord] = field(default_factory=list)
    groups: dict[int, list[GroupRecord]] = field(default_factory=dict)
    failures: dict[Configuration, Reason] = field(default_factory=dict)
    divergences: dict[Key, list[Divergence]] = field(default_factory=dict)
    memory: dict[str | None, dict[str, int]] = field(default_factory=dict)
    grid: list[GridPoint] = field(default_factory=list)
    grid_failed: list[tuple[int, int, str]] = field(default_factory=list)
    partial: dict[int, dict[Key, Generation]] = field(default_factory=dict)
    notes: list[Finding] = field(default_factory=list)
    reference_work_s: list[float] = field(default_factory=list)
    num_strayed: int = 0
    detail: str = ""

    def take(self, event: Event) -> None:
        """Add one event of the sweep's cell; of a kind that is not for it nothing is added."""
        self.num_strayed += event.get("num_strayed", 0)
        take = getattr(self, f"_take_{event['event']}", None)
        if take is not None:
            take(event)

    def _take_environment(self, event: Event) -> None:
        self.environment = Environment.model_validate(event["environment"])

    def _take_models(self, event: Event) -> None:
        self.target = ModelRecord.model_validate(event["target"])
        self.drafts |= {d: ModelRecord.model_validate(found) for d, found in event["drafts"].items()}

    def _take_execution(self, event: Event) -> None:
        for label, found in event["by_model"].items():
            if not label:
                self.target = self.target.model_copy(update=found)
            elif label in self.drafts:
                self.drafts[label] = self.drafts[label].model_copy(update=found)

    def _take_reference_work(self, event: Event) -> None:
        self.reference_work_s.append(event["seconds"])

    def _take_prompt(self, event: Event) -> None:
        self.prompts.append(PromptRecord.of(event))
        if "reference_work_s" in event:
            self.reference_work_s.append(event["reference_work_s"])

    def _take_run(self, event: Event) -> None:
        """One of an engine in a process of its own."""
        runs = self.partial.setdefault(event["index"], {})
        runs[event["draft"], event["k"]] = Generation.model_validate(event["generation"])

    def _take_prompt_over(self, event: Event) -> None:
        """All such runs of a prompt have come."""
        runs = self.partial.pop(event["index"])
        self.prompts.append(PromptRecord(runs[BASELINE].token_ids, runs, {}, None, {}))

    def _take_agreement(self, event: Event) -> None:
        """The replay of such a prompt."""
        found = {label: Agreement(**own) for label, own in event["agreement"].items()}
        self.prompts[event["index"]] = replace(self.prompts[event["index"]], agreement=found)

    def _take_memory(self, event: Event) -> None:
        self.memory[event["draft"]] = event["peak_bytes"]

    def _take_grid(self, event: Event) -> None:
        sample = CostSample.of(event)
        self.grid.append(GridPoint(event["batch_size"], event["context"], sample, event["seconds"]))

    def _take_grid_failed(self, event: Event) -> None:
        self.grid_failed.append((event["batch_size"], event["context"], event["reason"]))

    def _take_failed(self, event: Event) -> None:
        self.failures[Configuration(event["draft"], event["k"])] = (event["status"], event["reason"])

    def _take_batch(self, event: Event) -> None:
        self.groups.setdefault(event["batch_size"], []).append(GroupRecord.of(event))

    def _take_batch_failed(self, event: Event) -> None:
        own = Configuration(event["draft"], event["k"], event["batch_size"])
        self.failures[own] = (event["status"], event["reason"])

    def _take_divergence(self, event: Event) -> None:
        found = Divergence.model_validate(event["divergence"])
        self.divergences.setdefault((event["draft"], event["k"]), []).append(found)

    def _take_note(self, event: Event) -> None:
        note = warning(event["code"], event["subject"], **event["figures"])
        if note not in self.notes:
            self.notes.append(note)

    def end_early(self, num_prompts: int, status: Status, why: str) -> None:
        """The sweep's cell ended before its end: what isn't finished says why. Without any prompt every row
        has failed; behind the last prompt it was a larger batch."""
        if not self.prompts:
            for own in self.config.configurations(self.labels):
                self.failures.setdefault(Configuration(*own), (status, why))
            return
        if len(self.prompts) < num_prompts:
            done = len(self.prompts)
            self.notes.append(warning("spec.ended_early", done=done, of=num_prompts, why=why))
            return
        sizes = [b for b in self.config.batch_sizes[1:] if not self._is_over(b, num_prompts)]
        for index, size in enumerate(sizes):
            reason = f"not tried, because batch {sizes[0]} ended: {why}" if index else why
            self.failures[Configuration(None, 0, size)] = (status, reason)

    def _is_over(self, size: int, num_prompts: int) -> bool:
        lost = Configuration(None, 0, size) in self.failures
        return lost or len(self.groups.get(size, ())) >= num_prompts // size

    @property
    def first(self) -> int:
        """Index of the first output token that a verification produces: where the prefill is not apart, the
        first one includes it."""
        return 1 if CAPABILITIES[self.config.backend].prefill_apart else 0

    def baselines(self) -> list[Generation]:
        """K = 0 at batch 1, a run a prompt."""
        return [prompt.runs[BASELINE] for prompt in self.prompts]

    def items(self, own: Configuration) -> list[tuple[tuple[int, ...], tuple[Generation, ...]]]:
        """What a configuration ran: places of the prompts that were decoded at once, and their runs."""
        key = own.draft, own.k
        if own.batch_size == 1:
            found = [(index, prompt.runs.get(key)) for index, prompt in enumerate(self.prompts)]
            return [((index,), (run,)) for index, run in found if run is not None]
        groups = self.groups.get(own.batch_size, ())
        return [(group.prompts, group.runs[key]) for group in groups if key in group.runs]

    def runs(self, draft: str | None, k: int) -> list[Generation]:
        """At batch 1, a run a prompt."""
        return [run for _, (run,) in self.items(Configuration(draft, k))]

    def sizes(self) -> list[int]:
        """Batch sizes above 1 that were tried."""
        lost = {own.batch_size for own in self.failures if own.batch_size > 1}
        return sorted(lost | set(self.groups))

    def cost_samples(self) -> list[CostSample]:
        """A sample a prompt, where costs were measured."""
        return [prompt.costs for prompt in self.prompts if prompt.costs is not None]

    def costs(self) -> Costs | None:
        """Medians over prompts; None where there are none."""
        samples = self.cost_samples()
        return replace(gather_costs(samples), steps=self._steps()) if samples else None

    def _steps(self) -> StepCost:
        """What a step of fewer than K tokens costs, by how the target was run."""
        execution = self.target.execution or "eager"
        if execution == "eager":
            return "as drafted"
        return "always whole" if "graphs" in execution else "whole"

    def outputs(self) -> list[tuple[int, ...]]:
        """The target's own text for each prompt."""
        return [prompt.text for prompt in self.prompts]

    def chains(self, draft: str) -> list[Chain]:
        """One for each prompt; none where a prompt's agreement is missing."""
        chains = []
        limit = self.config.max_new_tokens
        for prompt in self.prompts:
            found = prompt.agreement.get(draft)
            if found is None:
                return []
            if found.proposals is not None:
                chains.append(lookup_chain(found.proposals, prompt.text, self.first, limit))
            else:
                chains.append(model_chain(found.keeps, self.first, limit))
        return chains

    def alpha(self, draft: str) -> float | None:
        """The chance that a drafted token is kept: agreement with greedy text, or the overlap Σ min(p, q)
        when sampling. None for prompt lookup, which drafts only at some places, and where nothing was
        verified."""
        found = [prompt.agreement[draft] for prompt in self.prompts]  # of drafts with chains
        if found[0].proposals is not None:
            return None
        values = np.concatenate([np.asarray(one.overlaps or one.keeps)[self.first :] for one in found])
        return float(values.mean()) if values.size else None

    def unfinished(self) -> list[tuple[int, int, int, str]]:
        """(size, groups done, groups in all, why) of the batch sizes that ended after some of their
        groups."""
        return [
            (own.batch_size, len(self.groups[own.batch_size]), len(self.prompts) // own.batch_size, why)
            for own, (_, why) in self.failures.items()
            if own.draft is None and self.groups.get(own.batch_size)
        ]

    def lost_drafts(self) -> dict[str, Reason]:
        """Of a plan: the drafts that could not be planned for."""
        return {own.draft: why for own, why in self.failures.items() if own.draft is not None}
