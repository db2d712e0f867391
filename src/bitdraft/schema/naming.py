"""Names of what is measured, as tables, findings and files say them. Nothing reads them back."""

from __future__ import annotations

Pair = tuple[str, str | None]
"""The target's precision, and the drafts' where that is another"""


def draft_name(draft: str | None, k: int, draft_precision: str | None = None) -> str:
    """`small in bf16, K = 3`, without a precision where it is the target's; `plain decoding` without a
    draft."""
    if draft is None:
        return "plain decoding"
    return f"{draft}{f' in {draft_precision}' if draft_precision else ''}, K = {k}"


def way_name(precision: str, draft: str | None, k: int, draft_precision: str | None = None) -> str:
    """`bf16 with small, K = 3` or `bf16, plain decoding`"""
    joint = ", " if draft is None else " with "
    return f"{precision}{joint}{draft_name(draft, k, draft_precision)}"


def pair_name(pair: Pair) -> str:
    """`fp32`, or `fp32 with drafts in bf16`"""
    precision, other = pair
    return precision if other is None else f"{precision} with drafts in {other}"


def pair_folder(pair: Pair) -> str:
    """The same as part of a folder's name."""
    precision, other = pair
    return precision if other is None else f"{precision}-drafts-{other}"
