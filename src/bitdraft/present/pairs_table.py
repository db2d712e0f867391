"""Formats of target and draft, every pair: how often they agree, and what a step then brings."""

from __future__ import annotations

from bitdraft.present.table import Cell, Column, Table, Value, csv_text, percent
from bitdraft.schema.spec_decode import FormatPair, SpecDecodeResult

NOTE = (
    "Agreement: share of the target's own greedy tokens that the draft would have drafted, from one pass of "
    "each draft over each target's texts. Tokens a step at K are exact for these texts (replay)."
)
_MOST_KS = 6


def pairs_table(result: SpecDecodeResult) -> Table:
    """A row a pair, a part a draft; tokens a step at up to six K."""
    has_caches = any(pair.kv_cache != "auto" for pair in result.pairs)
    asked = list(result.config.k)
    ks = asked if len(asked) <= _MOST_KS else asked[:: -(-len(asked) // _MOST_KS)]
    columns = [
        Column("Draft", "draft"),
        Column("Target", "target"),
        *([Column("Cache", "kv_cache")] if has_caches else []),
        Column("Draft in", "draft_precision"),
        Column("Agreement %", "agreement", 2, percent),
        *(Column(f"K = {k}", f"tokens_per_step_k{k}", 2, rank=place + 1) for place, k in enumerate(ks)),
    ]
    rows, groups = [], set()
    for index, pair in enumerate(result.pairs):
        if not index or pair.draft != result.pairs[index - 1].draft:
            groups.add(index)
        names = [pair.draft, pair.target, *([pair.kv_cache] if has_caches else []), pair.draft_precision]
        cells = [Cell(name) for name in names]
        rows.append([*cells, Cell(pair.agreement), *(Cell(pair.tokens_per_step[k]) for k in ks)])
    return Table("Formats of target and draft", columns, rows, NOTE, groups=frozenset(groups))


def pairs_csv(result: SpecDecodeResult) -> str:
    """A line a pair, with every K."""
    return csv_text([_line(pair) for pair in result.pairs])


def _line(pair: FormatPair) -> dict[str, Value]:
    names: dict[str, Value] = {
        name: getattr(pair, name) for name in ("draft", "target", "kv_cache", "draft_precision", "agreement")
    }
    return names | {f"tokens_per_step_k{k}": value for k, value in pair.tokens_per_step.items()}
