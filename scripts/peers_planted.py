"""Differences that are there by construction are found, with the right sign and size; and none where there is
none.

The whole of `precision` and `spec-decode` runs, from the cells to the verdict, in this process. What is named
bf16 in a planted run is the fp32 model with a change; its divergences are held against transformers' own
logits in double precision.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import torch

import bitdraft
from bitdraft.backends import ENGINES, EngineSetup
from bitdraft.backends.native import NativeEngine
from bitdraft.config import DecodingConfig, ModelConfig, PrecisionConfig, make_config
from bitdraft.inputs.models import LoadedModel, load_model
from bitdraft.inputs.variants import Variant
from bitdraft.inputs.windows import Window
from bitdraft.precision.evaluate import prepare
from bitdraft.runs.executors.inline import Inline
from bitdraft.schema.environment import Ceilings
from bitdraft.schema.precision import PrecisionResult, PrecisionRow
from bitdraft.schema.records import Generation
from bitdraft.schema.spec_decode import SpecDecodeResult
from peers_common import Agreement, model_of, numbers

MODEL = "demo/draft-medium"
Change = Callable[[Any, list[Window]], None]
"""Of a model; what it may use are the windows that will be scored"""
SCORED: dict[str, Any] = {
    "ppl_max_tokens": 1600,
    "kl_max_tokens": 1600,
    "num_prompts": 5,
    "max_new_tokens": 8,
}
PLANTED = "bf16"
OF_SWEEP: dict[str, Any] = {
    "num_prompts": 8,
    "max_new_tokens": 101,  # after the first, whole steps of 2 and of 5 tokens
    "k": [1, 4],
    "precision": "fp32",
    "device": "cpu",
}


def version() -> str:
    return "Planted differences"


def agree() -> list[Agreement]:
    return [*of_quality(), *of_overflow(), *of_drafts(), *of_an_engine(), *of_a_slowed_machine()]


@contextmanager
def _in_this_process(load: Callable[..., LoadedModel]) -> Iterator[None]:
    """Cells run here, with a loader of their own."""
    with (
        patch("bitdraft.runs.conduct.make_executor", lambda _: Inline()),
        patch("bitdraft.precision.cells.measure_ceilings", lambda *_: Ceilings(copy_gb_s=10.0)),
        patch("bitdraft.spec_decode.cells.measure_ceilings", lambda *_: Ceilings(copy_gb_s=10.0)),
        patch("bitdraft.precision.cells.load_model", load),
        patch("bitdraft.spec_decode.worker.load_model", load),
    ):
        yield


# quality


def _nothing(_: Any, __: list[Window]) -> None:
    pass


def _through_bf16(model: Any, _: list[Window]) -> None:
    for parameter in model.parameters():
        parameter.copy_(parameter.to(torch.bfloat16))


def _one_layer(model: Any, _: list[Window]) -> None:
    model.gpt_neox.layers[1].mlp.dense_4h_to_h.weight.mul_(1.3)


def _quantiser(step: float) -> Change:
    """Rounds every matrix to a grid: an error of variance step² / 12 in units of the matrix's spread."""

    def change(model: Any, _: list[Window]) -> None:
        for parameter in model.parameters():
            if parameter.ndim == 2:
                grid = step * parameter.std()
                parameter.copy_((parameter / grid).round() * grid)

    return change


def _a_step_of_training(model: Any, windows: list[Window]) -> None:
    """On the scored text itself, so that its perplexity falls."""
    parameters = [p for p in model.parameters() if p.ndim == 2]
    with torch.enable_grad():
        tokens = torch.tensor([windows[0].token_ids])
        for parameter in parameters:
            parameter.requires_grad_(True)
        loss = model(tokens, labels=tokens).loss
        gradients = torch.autograd.grad(loss, parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(False)
        parameter.sub_(0.02 * gradient)


@dataclass(frozen=True)
class _Expected:
    """By transformers, in double precision: means in nats, and the share of equal most probable tokens."""

    kl: float
    delta_ln_ppl: float
    top1: float


CHANGES: dict[str, Change] = {
    "weights through bf16 and back": _through_bf16,
    "one layer's output times 1.3": _one_layer,
    "a quantiser of step 0.1 σ": _quantiser(0.1),
    "a quantiser of step 0.2 σ": _quantiser(0.2),
    "a step of training on the text": _a_step_of_training,
}


def of_quality(names: Sequence[str] = tuple(CHANGES)) -> list[Agreement]:
    """Nothing first, and then each of these changes."""
    config = _precision()
    plan = prepare(config).plan
    assert plan is not None
    windows = list(plan.windows)
    found = []
    same = _row(_planted(config, _nothing, windows), PLANTED)
    for figure, value in (("kl_divergence", 0.0), ("delta_ln_ppl", 0.0), ("top1_agreement", 1.0)):
        ours = same.quality.figures()[figure].value
        # on some machines two passes over the same weights differ in their last bits
        found.append(Agreement(f"nothing: {figure}", f"{ours:g}", f"{value:g}", abs(ours - value), 1e-6))
    divergences = {}
    for name in names:
        change = CHANGES[name]
        row, expected = _row(_planted(config, change, windows), PLANTED), _expected(change, windows)
        figures = row.quality.figures()
        kl, delta, top1 = (figures[key].value for key in ("kl_divergence", "delta_ln_ppl", "top1_agreement"))
        divergences[name] = kl
        found += [
            numbers(f"{name}: mean KLD", kl, expected.kl, 0.01, digits=4),
            numbers(f"{name}: Δ ln PPL", delta, expected.delta_ln_ppl, 0.01, digits=4),
            numbers(f"{name}: same top 1", top1, expected.top1, 0.002, digits=4),
        ]
    steps = [divergences.get(f"a quantiser of step {step} σ") for step in ("0.1", "0.2")]
    if steps[0] and steps[1]:
        # of small errors, divergence is a square
        ratio = numbers("twice the step: KLD over KLD", steps[1] / steps[0], 4.0, 0.15, digits=3)
        found.append(ratio)
    return found


def _precision(**changes: Any) -> PrecisionConfig:
    values = {"model": MODEL, "precisions": ("fp32", PLANTED), "device": "cpu", **SCORED}
    return make_config(PrecisionConfig, values | changes)


def _planted(config: PrecisionConfig, change: Change, windows: list[Window]) -> PrecisionResult:
    def load(variant: Variant, device: torch.device, own: ModelConfig) -> LoadedModel:
        loaded = load_model(replace(variant, name="fp32"), device, own)
        if variant.name == PLANTED:
            with torch.no_grad():
                change(loaded.model, windows)
        return replace(loaded, variant=variant)

    with _in_this_process(load):
        return bitdraft.evaluate_precision(config=config)


def _row(result: PrecisionResult, precision: str) -> PrecisionRow:
    return next(row for row in result.rows if row.precision == precision)


@torch.no_grad()
def _expected(change: Change, windows: list[Window]) -> _Expected:
    models = [model_of(MODEL) for _ in range(2)]
    change(models[1], windows)
    base, other = (model.double() for model in models)
    kls, deltas, same = [], [], []
    for window in windows:
        ids = torch.tensor([window.token_ids])
        log_p, log_q = (
            model(ids).logits[0, window.first_scored - 1 : -1].log_softmax(-1) for model in (base, other)
        )
        targets = ids[0, window.first_scored :, None]
        kls.append((log_p.exp() * (log_p - log_q)).sum(-1))
        deltas.append((log_p - log_q).gather(-1, targets).squeeze(-1))
        same.append((log_p.argmax(-1) == log_q.argmax(-1)).double())
    means = [float(torch.cat(column).mean()) for column in (kls, deltas, same)]
    return _Expected(*means)


# overflow


def of_overflow() -> list[Agreement]:
    """Infinity in one layer, in fp16 alone, wherever one token stands: numbers end where it first does."""
    config = _precision(precisions=("fp32", "fp16"))
    plan = prepare(config).plan
    assert plan is not None
    window = plan.windows[0].token_ids
    token, layer = window[37], "gpt_neox.layers.1.attention.dense"

    def load(variant: Variant, device: torch.device, own: ModelConfig) -> LoadedModel:
        loaded = load_model(variant, device, own)
        now = threading.local()  # windows are scored in several threads

        def note(_module: Any, inputs: Any) -> None:
            now.ids = inputs[0]

        def overflow(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
            return output.masked_fill((now.ids == token)[..., None], math.inf)

        if variant.name == "fp16":
            loaded.model.get_input_embeddings().register_forward_pre_hook(note)
            loaded.model.get_submodule(layer).register_forward_hook(overflow)
        return loaded

    with _in_this_process(load):
        row = _row(bitdraft.evaluate_precision(config=config), "fp16")
    place = row.quality.overflow
    ours = "none" if place is None else f"{place.layer}, window {place.window}, position {place.position}"
    theirs = f"{layer}, window 0, position {window.index(token)}"
    status = Agreement("fp16: status", row.status, "overflow", float(row.status != "overflow"))
    return [status, Agreement("fp16: where it overflows", ours, theirs, float(ours != theirs))]


# drafts


class _Agreeing:
    """A hook on a copy of the target that turns round its choice in a share of all contexts, told by the five
    most probable tokens, so that it decides alike whatever else is in the batch."""

    def __init__(self, share: float) -> None:
        self.share = share

    def __call__(self, _module: Any, _inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        best = logits.topk(5, dim=-1)
        places = torch.tensor([1, 31, 961, 29_791, 923_521], device=logits.device)
        chance = ((best.indices * places).sum(-1) * 2_654_435_761 % 2**32).double() / 2**32
        turned = (chance >= self.share)[..., None]
        other = logits.scatter(-1, best.indices[..., :1], best.values[..., 1:2] - 1.0)
        return torch.where(turned, other, logits)


def of_drafts(shares: Sequence[float] = (0.0, 0.6, 1.0)) -> list[Agreement]:
    """Tokens per step of drafts that agree with these probabilities, against (1 − α^(K + 1)) / (1 − α)."""
    found = []
    for share in shares:
        for row in _sweep_with(share).sweep:
            ours = row.metrics["tokens_per_step"]
            theirs = row.k + 1 if share == 1 else (1 - share ** (row.k + 1)) / (1 - share)
            low, high = ours.low or ours.value, ours.high or ours.value
            apart = max(low - theirs, theirs - high, 0.0)
            name = f"a draft that agrees with probability {share:g}, K = {row.k}: tokens per step"
            words = f"{ours.value:.3f} [{low:.3f}, {high:.3f}]", f"{theirs:.3f}"
            found.append(Agreement(name, *words, apart, 1e-9, allowed="within the interval"))
    return found


def _sweep_with(share: float) -> SpecDecodeResult:
    calls = iter(range(10**6))

    def load(variant: Variant, device: torch.device, own: ModelConfig) -> LoadedModel:
        loaded = load_model(variant, device, own)
        if next(calls) % 2:  # the target is loaded first, then its draft
            loaded.model.get_output_embeddings().register_forward_hook(_Agreeing(share))
        return loaded

    with _in_this_process(load):
        return bitdraft.evaluate_spec_decode(MODEL, drafts=[f"same={MODEL}"], execution="eager", **OF_SWEEP)


# an engine


class _Deaf(NativeEngine):
    """Drafts two tokens whatever it is asked for."""

    def decode(
        self, config: DecodingConfig, draft: str | None, k: int, seed: int, *more: Any, **settings: Any
    ) -> Generation:
        return super().decode(config, draft, 2 if draft else 0, seed, *more, **settings)


def of_an_engine() -> list[Agreement]:
    def deaf(setup: EngineSetup) -> NativeEngine:
        return _Deaf(setup)

    with _in_this_process(load_model), patch.dict(ENGINES, {"native": deaf}):
        result = bitdraft.evaluate_spec_decode(MODEL, drafts=[f"d={MODEL}"], **OF_SWEEP | {"k": [2, 4]})
    found = []
    for row in result.sweep:
        theirs = "ok" if row.k == 2 else "failed"
        ours = f"{row.status}{f' ({row.reason})' if row.reason else ''}"
        name = f"an engine that drafts 2 tokens at K = {row.k}"
        found.append(Agreement(name, ours, theirs, float(row.status != theirs)))
    return found


# the machine


def of_a_slowed_machine() -> list[Agreement]:
    """Busy processes on every core, from the second precision on: no ratio between the two is concluded
    from."""
    busy: list[subprocess.Popen[bytes]] = []

    def watch(precision: str, stage: str, _done: int, _total: int) -> None:
        if precision.startswith("bf16") and stage == "load" and not busy:
            loop = [sys.executable, "-c", "while True: pass"]
            busy.extend(subprocess.Popen(loop) for _ in range(os.cpu_count() or 1))

    config = _precision(max_new_tokens=32, kl_max_tokens=0)
    try:
        result = bitdraft.evaluate_precision(config=config, on_progress=watch)
    finally:
        for process in busy:
            process.kill()
    said = result.summary.partition(". ")[0]
    chosen = result.verdict.precision
    return [
        Agreement("busy cores from the middle on: what is chosen", said, "nothing", float(chosen is not None))
    ]
