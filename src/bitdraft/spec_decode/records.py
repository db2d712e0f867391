"""What a sweep's child process has sent so far, and what the numbers are made of: runs, costs, chains."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bitdraft.config import SpecDecodeConfig
from bitdraft.schema.records import Divergence, Generation, Status
from bitdraft.spec_decode.replay import Chain, lookup_chain, model_chain
from bitdraft.spec_decode.theory import Costs, gather_costs

Event = Mapping[str, Any]


@dataclass
class Records:
    """Filled by `take`, event by event."""

    config: SpecDecodeConfig
    labels: Sequence[str]
    environment: dict[str, Any] = field(default_factory=dict)
    models: dict[str, Any] = field(default_factory=dict)
    prompts: list[Event] = field(default_factory=list)
    failures: dict[tuple[str, int], tuple[Status, str]] = field(default_factory=dict)
    divergences: dict[tuple[str, int], list[Divergence]] = field(default_factory=dict)
    memory: dict[str | None, dict[str, int]] = field(default_factory=dict)
    batches: list[Event] = field(default_factory=list)
    batch_failures: dict[tuple[int, str | None, int], tuple[Status, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    traceback: str = ""

    def take(self, event: Event) -> None:
        kind = event["event"]
        if kind == "environment":
            self.environment = event["environment"]
        elif kind == "models":
            self.models = {"target": event["target"], "drafts": event["drafts"]}
        elif kind == "execution":
            for label, found in event["by_model"].items():
                record = self.models["drafts"][label] if label else self.models["target"]
                record |= found
        elif kind == "prompt":
            self.prompts.append(event)
        elif kind == "failed":
            self.failures[event["draft"], event["k"]] = (event["status"], event["reason"])
        elif kind == "batch":
            self.batches.append(event)
        elif kind == "batch_failed":
            arm = event["batch_size"], event["draft"], event["k"]
            self.batch_failures[arm] = (event["status"], event["reason"])
        elif kind == "divergence":
            found = Divergence.model_validate(event["divergence"])
            self.divergences.setdefault((event["draft"], event["k"]), []).append(found)
        elif kind == "note" and event["text"] not in self.notes:
            self.notes.append(event["text"])

    def end_batches(self, num_prompts: int, status: Status, reason: str) -> bool:
        """The run ended early: was it in a larger batch? If so, what isn't finished says why."""
        if len(self.prompts) < num_prompts:
            return False
        done = Counter(event["batch_size"] for event in self.batches)
        lost = [size for size, draft, _ in self.batch_failures if draft is None]
        open_sizes = [b for b in self.config.batch_sizes[1:] if b not in lost and done[b] < num_prompts // b]
        for place, size in enumerate(open_sizes):
            why = f"not tried, because batch {open_sizes[0]} ended: {reason}" if place else reason
            self.batch_failures[size, None, 0] = (status, why)
        return bool(open_sizes)

    @property
    def first(self) -> int:
        """Index of the first output token that a verification produces: transformers' first one
        includes the prefill."""
        return 1 if self.config.backend == "native" else 0

    def baselines(self) -> list[Generation]:
        return [Generation.model_validate(event["baseline"]) for event in self.prompts]

    def generations(self, draft: str, k: int) -> list[Generation]:
        return [
            Generation.model_validate(run["generation"])
            for event in self.prompts
            for run in event["runs"]
            if (run["draft"], run["k"]) == (draft, k)
        ]

    def costs(self) -> Costs | None:
        samples = [event["costs"] for event in self.prompts if event.get("costs")]
        return gather_costs(samples) if samples else None

    def outputs(self) -> list[Sequence[int]]:
        """The target's own text for each prompt."""
        return [e["token_ids"] if self.config.plan else e["baseline"]["token_ids"] for e in self.prompts]

    def chains(self, draft: str) -> list[Chain]:
        """One for each prompt; none where a prompt's agreement is missing."""
        chains = []
        for event, output in zip(self.prompts, self.outputs(), strict=True):
            found = event["agreement"].get(draft)
            if found is None:
                return []
            limit = self.config.max_new_tokens
            if "proposals" in found:
                chains.append(lookup_chain(found["proposals"], output, self.first, limit))
            else:
                chains.append(model_chain(found["keeps"], self.first, limit))
        return chains

    def alpha(self, draft: str) -> float | None:
        """The chance that a drafted token is kept: agreement with greedy text, or the overlap Σ min(p, q)
        when sampling. None for prompt lookup, which drafts only at some places."""
        found = [event["agreement"][draft] for event in self.prompts]  # of drafts with chains
        if "proposals" in found[0]:
            return None
        key = "overlaps" if "overlaps" in found[0] else "keeps"
        return float(np.mean(np.concatenate([entry[key][self.first :] for entry in found])))
