"""What `bitdraft recommend` ends with: what to deploy, and all that was considered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from bitdraft.config.runs import RecommendConfig
from bitdraft.schema.environment import ModelRecord
from bitdraft.schema.findings import Finding
from bitdraft.schema.records import Figure, Record, Seconds, Sparse
from bitdraft.schema.results import Result

Standing = Literal["chosen", "ahead", "indistinguishable", "slower", "open", "predicted", "out"]


class Contender(Record):
    """One way to run the model: a precision, and a draft at a K (None and 0 for plain decoding). Figures
    are None where it was only predicted (`predicted_speedup`, over plain decoding at this precision).
    `standing`: `chosen`, or `ahead` where the search is not finished; `indistinguishable` from it in
    speed; `slower`; `open` where nothing was chosen, or where it was faster and is not shown to bring what is
    asked; `predicted`, not measured; `out`. `problems` say why it is out, or what is not shown. `is_pareto`:
    none is better in one of speed, quality and memory and no worse in the others, by value."""

    precision: str
    draft: str | None = None
    k: int = 0
    draft_precision: str | None = None
    standing: Standing
    problems: tuple[Finding, ...] = ()
    throughput_tok_s: Figure | None = None
    speedup: Figure | None = None
    predicted_speedup: float | None = None
    ttft_ms: Figure | None = None
    peak_memory_gb: float | None = None
    ppl_change: Figure | None = None
    is_pareto: bool = False

    @property
    def reason(self) -> str | None:
        """Why it is out, or not shown to pay, in words."""
        return "; ".join(problem.text for problem in self.problems) or None


class Choice(Record):
    """What to deploy. `speculate` is None where it is unknown, `precision` where nothing can be
    recommended."""

    precision: str | None = None
    speculate: bool | None = None
    draft: str | None = None
    k: int | None = None
    draft_precision: str | None = None


class Limits(Sparse):
    """Those that were set."""

    max_ppl_increase: float | None = None
    max_vram_gb: float | None = None
    max_ttft_ms: float | None = None
    min_speedup: float | None = None

    def given(self) -> dict[str, float]:
        """By name."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in found.items() if value is not None}


class Stage(Record):
    """What was done, and how long it took."""

    stage: str
    what: str
    seconds: Seconds


class Recommendation(Result):
    """What to deploy, and all that was considered. `snippets` are ready to run, by tool (`transformers`,
    `vllm`, `native`). `memory_name` is `peak_vram_gb` or `peak_ram_gb`."""

    kind: Literal["recommendation"] = "recommendation"
    config: RecommendConfig
    choice: Choice = Choice()
    limits: Limits = Limits()
    memory_name: str = "peak_ram_gb"
    contenders: tuple[Contender, ...] = ()
    stages: tuple[Stage, ...] = ()
    snippets: dict[str, str] = Field(default_factory=dict)

    @property
    def best(self) -> Contender | None:
        """What was chosen; None where nothing can be recommended."""
        return next((one for one in self.contenders if one.standing == "chosen"), None)

    def rows_of_figures(self) -> Iterator[tuple[dict[str, Any], Mapping[str, Figure]]]:
        """See `Result`. What was only predicted has none."""
        for one in self.contenders:
            names = ("throughput_tok_s", "speedup", "ttft_ms", "ppl_change")
            figures = {name: getattr(one, name) for name in names}
            row = {"precision": one.precision, "draft": one.draft, "k": one.k}
            yield row, {name: figure for name, figure in figures.items() if figure is not None}

    @property
    def drafts(self) -> dict[str, ModelRecord]:
        """None of its own: they are in the results of its stages."""
        return {}
