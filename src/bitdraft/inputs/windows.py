"""How a text is cut into windows for perplexity: five protocols that other work uses.

A window is a list of token ids of which those from `first_scored` on are scored, each from the
tokens before it in the window. Which protocol is whose, and what each is for: docs/metrics.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bitdraft.config import PplProtocol
from bitdraft.errors import UserError
from bitdraft.inputs.datasets import Dataset
from bitdraft.inputs.prompts import CHARS_PER_TOKEN, Encode
from bitdraft.schema.precision import ProtocolCard

MAX_CONTEXT = 2048  # of a window, where it isn't said: of long contexts one forward would take too much

_WINDOWS: dict[str, int] = {"gptq": 2048, "llama.cpp": 512, "documents": 1024}

NUM_DOCUMENTS = 20

DOCUMENT_CHARS = 200

SETTLED = 64  # tokens behind which what follows a text changes nothing


@dataclass(frozen=True)
class Window:
    token_ids: tuple[int, ...]
    first_scored: int
    document: int = 0

    @property
    def num_scored(self) -> int:
        return len(self.token_ids) - self.first_scored


@dataclass(frozen=True)
class ScoringPlan:
    """Windows, the card that a perplexity means nothing without, and the size of the scored text
    (None where a protocol leaves holes in it)."""

    windows: tuple[Window, ...]
    card: ProtocolCard
    num_words: int | None = None
    num_bytes: int | None = None

    @property
    def normaliser(self) -> str:
        """What the mean is taken over: `tokens` or `documents`."""
        return self.card.normaliser

    @property
    def document_lengths(self) -> list[int] | None:
        if self.normaliser != "documents":
            return None
        return [window.num_scored for window in self.windows]


def sliding_windows(token_ids: Sequence[int], context: int, stride: int, first: int = 1) -> Iterator[Window]:
    """Windows of `context` tokens that advance by `stride`; every token from index `first` on is scored
    once."""
    assert 0 < stride < context
    scored_to, start = first, 0
    while scored_to < len(token_ids):
        end = min(start + context, len(token_ids))
        yield Window(tuple(token_ids[start:end]), scored_to - start)
        scored_to, start = end, start + stride


def disjoint_windows(token_ids: Sequence[int], size: int, first_scored: int) -> Iterator[Window]:
    """Full windows of `size` tokens side by side; a shorter rest is dropped."""
    for start in range(0, len(token_ids) - size + 1, size):
        yield Window(tuple(token_ids[start : start + size]), first_scored)


def rolling_windows(token_ids: Sequence[int], prefix: int, size: int, document: int) -> Iterator[Window]:
    """Every token of a document scored once, `size` a window: the first behind `prefix`, full ones
    behind the token before, a shorter last one behind as many as fill the window. A window feeds
    `size` tokens."""
    for start in range(0, len(token_ids), size):
        scored = token_ids[start : start + size]
        before = token_ids[start + len(scored) - size - 1 : start] if start else [prefix]
        yield Window((*before, *scored), len(before), document)


def truncate(windows: Sequence[Window], max_scored: int | None) -> tuple[Window, ...]:
    """The first windows, the last of them cut, so that at most `max_scored` tokens are scored."""
    if max_scored is None:
        return tuple(windows)
    kept, left = [], max_scored
    for window in windows:
        if left <= 0:
            break
        surplus = max(0, window.num_scored - left)
        kept.append(
            Window(window.token_ids[: len(window.token_ids) - surplus], window.first_scored, window.document)
        )
        left -= window.num_scored
    return tuple(kept)


def count_words(text: str, protocol: PplProtocol) -> int:
    """Split at white space. lm-evaluation-harness also counts the nothing before and behind it, where a text
    begins or ends with some (lm_eval, tasks/wikitext/preprocess_wikitext.py)."""
    return len(re.split(r"\s+", text)) if protocol == "lm-eval" else len(text.split())


@dataclass(frozen=True)
class _Source:
    """`most` is how many tokens of a text can be of use, None for all of them."""

    dataset: Dataset
    encode: Encode
    context: int
    prefix: int | None
    front: tuple[int, ...] = ()
    most: int | None = None

    def joined_ids(self) -> tuple[list[int], bool]:
        """Of the concatenated text, and whether that is all of it."""
        return encode_first(self.encode, self.dataset.joined(), self.most)


@dataclass(frozen=True)
class _Cut:
    """`documents` are the whole texts that are scored; none where not all of them is."""

    windows: list[Window]
    card: dict[str, Any]
    documents: tuple[str, ...] = ()
    is_whole: bool = True


def encode_first(encode: Encode, text: str, most: int | None) -> tuple[list[int], bool]:
    """(the first `most` token ids of a text, whether those are all): of a long text only as much as that
    takes is tokenised. A tokenizer splits a text's beginning alike whatever follows, but near its end."""
    if most is None:
        return encode(text), True
    num_chars = CHARS_PER_TOKEN * (most + SETTLED)
    while num_chars < len(text):
        ids = encode(text[:num_chars])
        if len(ids) >= most + SETTLED:
            return ids[:most], False
        num_chars *= 2
    ids = encode(text)
    return ids[:most], len(ids) <= most


def _sliding(source: _Source) -> _Cut:
    stride = max(1, source.context // 2)
    ids, is_whole = source.joined_ids()
    first = max(1, len(source.front))
    windows = list(sliding_windows([*source.front, *ids], source.context, stride, first))
    card = {"window": source.context, "stride": stride, "normaliser": "tokens"}
    return _Cut(windows, card, (source.dataset.joined(),) if is_whole else (), is_whole)


def _documents(source: _Source) -> _Cut:
    size = source.context
    texts = [row for row in source.dataset.rows if len(row) > DOCUMENT_CHARS][:NUM_DOCUMENTS]
    cuts = [[*source.front, *encode_first(source.encode, text, size)[0]][:size] for text in texts]
    windows = [Window(tuple(ids), 1, index) for index, ids in enumerate(cuts) if len(ids) > 1]
    return _Cut(windows, {"window": size, "stride": None, "normaliser": "documents"})


def _lm_eval(source: _Source) -> _Cut:
    if source.prefix is None:
        remedy = "Choose another --ppl-protocol"
        raise UserError("ppl_protocol", "lm-eval", "the tokenizer has no BOS or EOS token as prefix", remedy)
    documents = tuple(row for row in source.dataset.rows if row.strip())
    windows: list[Window] = []
    left, is_whole = source.most, True
    for index, text in enumerate(documents):
        if left is not None and left <= 0:
            is_whole = False
            break
        ids, is_all = encode_first(source.encode, text, left)
        windows += rolling_windows(ids, source.prefix, source.context, index)
        left, is_whole = None if left is None else left - len(ids), is_whole and is_all
    card = {"window": source.context, "stride": source.context, "normaliser": "tokens"}
    return _Cut(windows, card | {"prefix_token": source.prefix}, documents if is_whole else (), is_whole)


def _gptq(source: _Source) -> _Cut:
    size = source.context
    ids, is_whole = source.joined_ids()
    windows = list(disjoint_windows([*source.front, *ids], size, 1))
    return _Cut(windows, {"window": size, "stride": size, "normaliser": "tokens"}, is_whole=is_whole)


def _llama_cpp(source: _Source) -> _Cut:
    size = source.context
    ids, is_whole = source.joined_ids()
    windows = list(disjoint_windows(ids, size, size // 2 + 1))
    if source.front:
        # as llama-perplexity does, in place of each window's first token, which is not scored
        windows = [
            Window((*source.front, *w.token_ids[len(source.front) :]), w.first_scored) for w in windows
        ]
    return _Cut(windows, {"window": size, "stride": size, "normaliser": "tokens"}, is_whole=is_whole)


_CUTTERS: dict[PplProtocol, Callable[[_Source], _Cut]] = {
    "sliding": _sliding,
    "documents": _documents,
    "lm-eval": _lm_eval,
    "gptq": _gptq,
    "llama.cpp": _llama_cpp,
}


def window_size(protocol: PplProtocol, context: int, window: int | None) -> int:
    """Tokens of a window. The documents of the protocol of that name are cut by themselves."""
    if window is None:
        return min(context, _WINDOWS.get(protocol, MAX_CONTEXT))
    if window > context:
        problem = f"exceeds the model's context of {context} tokens"
        raise UserError("ppl_window", window, problem, f"Use --ppl-window {context} or less")
    return window


def plan_scoring(
    dataset: Dataset,
    encode: Encode,
    protocol: PplProtocol,
    *,
    context: int,
    prefix: int | None = None,
    front: tuple[int, ...] = (),
    max_scored: int | None = None,
    window: int | None = None,
) -> ScoringPlan:
    """Cut a dataset into windows by a protocol. `context` is the model's limit in tokens, `prefix`
    the tokenizer's BOS (or EOS) id, `front` what it puts in front of a text, `window` the tokens of a
    window where it isn't the protocol's own. Too short a text, or too long a window, is a `UserError`."""
    size = window_size(protocol, context, window)
    # every protocol scores at least every other token that it reads, and whole windows
    most = None if max_scored is None else 2 * max_scored + 2 * size
    cut = _CUTTERS[protocol](_Source(dataset, encode, size, prefix, front, most))
    windows = truncate(cut.windows, max_scored)
    num_scored = sum(one.num_scored for one in windows)
    if num_scored < 2:
        problem = f"too short for the {protocol} protocol (no whole window to score)"
        other = "" if protocol == "sliding" else " or --ppl-protocol sliding"
        raise UserError("dataset", dataset.name, problem, f"Choose a longer text{other}")
    truncated = not cut.is_whole or num_scored < sum(one.num_scored for one in cut.windows)
    card = ProtocolCard(
        protocol=protocol,
        dataset=dataset.name,
        source=dataset.source,
        revision=dataset.revision,
        dataset_sha256=dataset.sha256,
        detokenised=False,
        max_scored_tokens=max_scored,
        truncated=truncated,
        num_windows=len(windows),
        num_documents=len({one.document for one in windows}),
        num_scored_tokens=num_scored,
        bos=() if protocol == "lm-eval" else front,
        **cut.card,
    )
    if truncated or not cut.documents:
        return ScoringPlan(windows, card)
    num_words = sum(count_words(text, protocol) for text in cut.documents)
    num_bytes = sum(len(text.encode()) for text in cut.documents)
    return ScoringPlan(windows, card, num_words, num_bytes)
