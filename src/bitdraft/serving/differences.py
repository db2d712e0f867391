"""What a difference of two servers' answers is: of texts by probabilities, of draws by permutation. Pure."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from bitdraft.schema.serving import DrawnPrompt, TextDivergence

NUM_SHUFFLES = 2000


class Likely(NamedTuple):
    """A token of an answer, and what stood beside it: texts and log-probabilities, its own among them."""

    text: str
    top: Mapping[str, float]


def judge(
    texts: tuple[str, str], own: Sequence[str], likely: Sequence[Likely], tie_lead: float, prompt: int = 0
) -> TextDivergence:
    """What a difference of two texts, the plain server's and the other's, is: `own` are further texts of the
    plain server's, `likely` its tokens with their probabilities."""
    plain, other = texts
    place = common(plain, other)
    gap = gap_at(plain, other, place, likely)
    if any(common(plain, text) <= place and text != plain for text in own):
        kind = "engine noise"
    elif gap is not None and gap <= tie_lead:
        kind = "near-tie"
    else:
        kind = "unexplained"
    return TextDivergence(
        prompt=prompt,
        num_chars=place,
        expected=plain[place : place + 20],
        found=other[place : place + 20],
        gap=gap,
        kind=kind,
    )


def common(one: str, other: str) -> int:
    """Length of what both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def gap_at(plain: str, other: str, place: int, likely: Sequence[Likely]) -> float | None:
    """By how many nats the plain server has the other's next token behind its own, at the token in which the
    texts part. None where it tells none of it."""
    start = 0
    for token in likely:
        end = start + len(token.text)
        if plain[start:end] != token.text:
            return None  # this answer is not the one that was compared
        if end > place:
            rest = other[start:]
            fitting = [
                log_prob
                for text, log_prob in token.top.items()
                if text and text != token.text and rest.startswith(text)
            ]
            own = token.top.get(token.text)
            return max(0.0, own - max(fitting)) if own is not None and fitting else None
        start = end
    return None


def tokens_of(found: Any) -> list[Likely]:
    """Of a response with log-probabilities: as vLLM's completions have them, or chats and llama.cpp."""
    choices = found.get("choices") if isinstance(found, Mapping) else None
    told = choices[0].get("logprobs") if choices else None
    if not isinstance(told, Mapping):
        return []
    if isinstance(told.get("content"), list):
        return [
            Likely(
                str(one["token"]),
                {str(e["token"]): float(e["logprob"]) for e in one.get("top_logprobs") or ()},
            )
            for one in told["content"]
        ]
    tokens, top = told.get("tokens") or [], told.get("top_logprobs") or []
    return [
        Likely(str(token), {str(key): float(value) for key, value in (beside or {}).items()})
        for token, beside in zip(tokens, top, strict=False)
    ]


def compare_draws(
    prompt: int, one: Sequence[str], other: Sequence[str], chance: random.Random
) -> DrawnPrompt:
    """Total variation between two samples, and by permutation how often chance sets them as far apart."""
    distance = _distance(one, other)
    pooled, count = [*one, *other], 0
    for _ in range(NUM_SHUFFLES):
        chance.shuffle(pooled)
        count += _distance(pooled[: len(one)], pooled[len(one) :]) >= distance - 1e-12
    return DrawnPrompt(
        prompt=prompt,
        num_outcomes=len(set(pooled)),
        distance=distance,
        p_value=(count + 1) / (NUM_SHUFFLES + 1),
    )


def _distance(one: Sequence[str], other: Sequence[str]) -> float:
    a, b = Counter(one), Counter(other)
    return sum(abs(a[key] / len(one) - b[key] / len(other)) for key in a.keys() | b.keys()) / 2
