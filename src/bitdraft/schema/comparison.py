"""The record of a comparison. Every ratio is B over A.

Schema history:
  1  first version
  2  conclusions are `findings` and `counts` instead of `verdict`; `plans` was `skipped`
  3  `rounds`, chances of ratios, `missing`; `unexplained` was `bugs`
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from bitdraft.schema.findings import Conclusions, Finding
from bitdraft.schema.records import Figure, Record

SCHEMA_VERSION = 3

Better = Literal["higher", "lower"]
Standing = Literal["better", "worse", "same", "drift", "unknown"]
"""Of B: significantly better or worse, with all rows looked at together; not told apart from A; no further
from it than the machine itself moved; unknown, for want of an interval."""


class Ratio(Record):
    """One metric of a row on both sides, over the prompts that both have. `ratio` is `b` / `a` with its
    95 % interval, and `chance` its two-sided p-value of 1; its median is that of the prompts' (or groups')
    own ratios, of which B is worse in `num_worse`, and `worse_chance` the one-sided p-value of that: one
    stall of the machine moves a ratio of sums, and few of these."""

    a: float
    b: float
    ratio: Figure
    better: Better
    standing: Standing
    chance: float | None = None
    num_worse: int | None = None
    worse_chance: float | None = None

    @property
    def loss(self) -> float:
        """The share by which B is worse: of throughput lost, of time or perplexity added."""
        return self._loss(self.ratio.value)

    @property
    def typical_loss(self) -> float:
        """The same of the median of the prompts' own ratios."""
        return self._loss(self.ratio.value if self.ratio.median is None else self.ratio.median)

    def _loss(self, value: float) -> float:
        return 1 - value if self.better == "higher" else value - 1


class RowName(Record):
    """What rows are matched by. `source` is the result file's name without its end; a precision row has
    neither draft nor K. Of servers `precision` is the server's name, and `batch_size` how many requests were
    in flight, 0 where they came at a rate."""

    source: str
    text: str
    precision: str
    draft: str | None = None
    k: int | None = None
    batch_size: int = 1

    @property
    def short(self) -> str:
        """Within its file."""
        if self.k is None:
            return self.precision if self.batch_size == 1 else f"{self.precision}, {self.batch_size} at once"
        name = f"{self.draft}, K = {self.k}" if self.k else "K = 0"
        return name if self.batch_size == 1 else f"{name}, batch {self.batch_size}"

    @property
    def full(self) -> str:
        """Among all files."""
        return self.short if self.k is None else f"{self.text}, {self.precision}: {self.short}"


class RowComparison(Record):
    """A row that both sides have. `status_change` is B's (None where nothing changed for better or worse).
    `same_ids`: of how many greedy texts, out of how many, the token ids are the same. `acceptance` is the
    rate on both sides, `unexplained` the number of runs that left the text of K = 0 without a rounding tie.
    `machine`: how fast fixed work was beside the row in B, over A. `notes` say what was left out, and
    `missing` which metrics A's row has that could not be compared."""

    name: RowName
    status_a: str
    status_b: str
    reason_a: str | None = None
    reason_b: str | None = None
    status_change: Literal["better", "worse"] | None = None
    ratios: dict[str, Ratio] = Field(default_factory=dict)
    same_ids: tuple[int, int] | None = None
    acceptance: tuple[float, float] | None = None
    unexplained: tuple[int, int] = (0, 0)
    machine: float | None = None
    missing: tuple[str, ...] = ()
    notes: tuple[Finding, ...] = ()


class Refusal(Record):
    """Why two files are not compared: what of them differs, both values, and what to do. `problem` and
    `remedy` are texts for people, as in an error."""

    source: str
    field: str
    a: str
    b: str
    problem: str
    remedy: str

    @property
    def values(self) -> str:
        """Both, in words."""
        return f"{self.a} in A, {self.b} in B"


class Difference(Record):
    """What else is not the same: not refused, because it may be what is compared. None: not there. `sources`
    are the files that it is true of; there are none for what is true of the folders."""

    key: str
    a: bool | int | float | str | None = None
    b: bool | int | float | str | None = None
    sources: tuple[str, ...] = ()


class SideFile(Record):
    """A result file of one side: what it was measured of, on what, and when."""

    model: str | None = None
    hardware: str | None = None
    time_utc: str | None = None


class Side(Record):
    """A folder, and its files by their paths below it."""

    folder: str
    files: dict[str, SideFile] = Field(default_factory=dict)


class Counts(Record):
    """How many rows there are, of them how many of each standing in throughput and PPL, and how many changed
    their status."""

    rows: int = 0
    throughput: dict[str, int] = Field(default_factory=dict)
    ppl: dict[str, int] = Field(default_factory=dict)
    status: dict[str, int] = Field(default_factory=dict)


class Comparison(Conclusions, Record):
    """`a` and `b` describe the sides; `only_a` and `only_b` are rows, `files_only_*` result files, that the
    other side lacks; `lost` are rows of A that B was asked for and has not; `plans` are left out. `rounds`
    is how often both sides were measured in turn; None where they were measured apart."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["comparison"] = "comparison"
    a: Side
    b: Side
    rows: tuple[RowComparison, ...]
    only_a: tuple[RowName, ...] = ()
    only_b: tuple[RowName, ...] = ()
    lost: tuple[str, ...] = ()
    files_only_a: tuple[str, ...] = ()
    files_only_b: tuple[str, ...] = ()
    refused: tuple[Refusal, ...] = ()
    plans: tuple[str, ...] = ()
    rounds: int | None = None
    differences: tuple[Difference, ...] = ()
    counts: Counts = Counts()
    findings: tuple[Finding, ...] = ()
