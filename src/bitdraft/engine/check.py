"""A short look at every model before it is measured: is it causal, and does its cache hold what was fed?

A model that sees the future, or whose layers leave the cache aside, gives numbers like any other; they mean
nothing. Three forwards over a few tokens tell.

Shapes: T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from bitdraft.engine.token_model import TokenModel
from bitdraft.errors import UserError

MOST_TOKENS = 12
# root mean square of a difference over that of the logits: far above what rounding does, which is 1e-6 in
# fp32 and below 0.05 in 16 bits, and far below what another context does
_TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.float16: 0.25, torch.bfloat16: 0.25}
_REMEDY = "Choose a decoder-only model that transformers' generate decodes"


@torch.inference_mode()
def check_model(runner: TokenModel, token_ids: Sequence[int], name: str, field: str = "model") -> None:
    """Raise `UserError` for a model whose logits depend on what follows, or for which a forward over its
    cache gives other logits than one without. Numbers that are not finite are no matter of this check."""
    largest = runner.num_embeddings - 1
    ids = [min(token_id, largest) for token_id in token_ids[:MOST_TOKENS]]
    ids = ids if len(ids) > 2 else ids * 3
    half = len(ids) // 2
    plain_TV = _plain(runner, ids)
    # the same shapes, so that rounding is the same
    turned = ids[:half] + [_another(token_id, ids) for token_id in ids[half:]]
    allowed = _TOLERANCE.get(runner.dtype, 0.25)
    if _differ(_plain(runner, turned)[:half], plain_TV[:half], allowed):
        problem = "its logits change with the tokens that follow: it sees the future"
        raise UserError(field, name, problem, _REMEDY)
    runner.start(len(ids))
    parts = [ids[:half], ids[half:-1], ids[-1:]]
    found = [runner.forward(runner.to_device(part), len(part))[0].clone() for part in parts if part]
    runner.keep(0)
    if _differ(torch.cat(found), plain_TV, allowed):
        problem = "its cache does not hold what was fed: forwards over it give other logits than without it"
        raise UserError(field, name, problem, _REMEDY)


def _plain(runner: TokenModel, ids: Sequence[int]) -> torch.Tensor:
    """T × V, without a cache."""
    logits_TV: torch.Tensor = runner.without_cache(runner.to_device(ids))[0]
    return logits_TV


def _another(token_id: int, ids: Sequence[int]) -> int:
    """One of the text's own ids, so that it is one that the model knows."""
    return next((other for other in ids if other != token_id), max(token_id - 1, 0))


def _differ(found_TV: torch.Tensor, expected_TV: torch.Tensor, allowed: float) -> bool:
    found, expected = found_TV.double(), expected_TV.double()
    if not (found.isfinite().all() and expected.isfinite().all()):
        return False
    centred = expected - expected.mean(-1, keepdim=True)
    spread = centred.square().mean().sqrt()
    return bool((found - expected).square().mean().sqrt() > allowed * spread)
