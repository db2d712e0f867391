"""transformers in this process: greedy texts, assisted generation, what is sampled from.

`generate` drafts K tokens only where it is made to: it runs through bitdraft's backend of that name, which
counts the draft's forwards, and is given our first token as a part of its prompt, because it verifies within
the prefill.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers

from bitdraft.backends import EngineSetup, make_engine
from bitdraft.config import DecodingConfig, SamplingConfig
from bitdraft.engine.acceptance import Sampler, outcomes
from peers_common import DRAFT, TARGET, Agreement, counts, model_of, prompts_of, same_texts

NUM_PROMPTS, NUM_TOKENS = 10, 64
KS = (1, 3, 5, 8)


def version() -> str:
    return f"transformers {transformers.__version__}"


def agree() -> list[Agreement]:
    target, draft = model_of(TARGET), model_of(DRAFT)
    return [*_greedy(target), *_assisted(target, draft), *_sampled(target, draft)]


def _greedy(target: Any) -> list[Agreement]:
    config, prompts = DecodingConfig(max_new_tokens=NUM_TOKENS), prompts_of(NUM_PROMPTS)
    ours, theirs = [], []
    engine = make_engine("native", EngineSetup(target))
    for prompt in prompts:
        engine.prepare(prompt, config)
        ours.append(engine.decode(config, None, 0, 0).token_ids)
        with torch.inference_mode():
            found = target.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt)),
                max_new_tokens=NUM_TOKENS,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
        theirs.append(found[0, len(prompt) :].tolist())
    return [same_texts(f"greedy, {NUM_TOKENS} tokens each", ours, theirs)]


def _assisted(target: Any, draft: Any) -> list[Agreement]:
    """Ids, and how many forwards of the target verified something. Ours emits the first token from the
    prefill, transformers from its first verification: it is given that token as a part of the prompt."""
    config, prompts = DecodingConfig(max_new_tokens=NUM_TOKENS), prompts_of(NUM_PROMPTS)
    shorter = config.model_copy(update={"max_new_tokens": NUM_TOKENS - 1})
    setup = EngineSetup(target, {"draft": draft})
    native, other = make_engine("native", setup), make_engine("transformers", setup)
    found = []
    for k in KS:
        ours, theirs = [], []
        for prompt in prompts:
            native.prepare(prompt, config)
            ours.append(native.decode(config, "draft", k, 0))
            other.prepare([*prompt, ours[-1].token_ids[0]], shorter)
            theirs.append(other.decode(shorter, "draft", k, 0))
        texts = [run.token_ids[1:] for run in ours], [run.token_ids for run in theirs]
        forwards = [[sum(len(run.steps) for run in runs)] for runs in (ours, theirs)]
        found.append(same_texts(f"assisted, K = {k}: texts", *texts))
        found.append(counts(f"assisted, K = {k}: verifying forwards", *forwards))
    return found


def _sampled(target: Any, draft: Any) -> list[Agreement]:
    """Distributions over the next token after temperature, top-k and top-p; and what speculation gives in
    place of the target's, every outcome of a drafted token enumerated."""
    prompts = torch.tensor(prompts_of(NUM_PROMPTS))
    settings = SamplingConfig(temperature=0.8, top_k=50, top_p=0.9)
    warpers = transformers.LogitsProcessorList(
        [
            transformers.TemperatureLogitsWarper(settings.temperature),
            transformers.TopKLogitsWarper(settings.top_k),
            transformers.TopPLogitsWarper(settings.top_p),
        ]
    )
    with torch.inference_mode():
        logits_NV, drafts_NV = (model(prompts).logits[:, -1].float() for model in (target, draft))
        theirs_NV = warpers(prompts, logits_NV).softmax(-1)
        p_NV, q_NV = (Sampler(settings).probabilities(one) for one in (logits_NV, drafts_NV))
        law_NV = torch.stack([_law_of_speculation(q_V, p_V) for q_V, p_V in zip(q_NV, p_NV, strict=True)])
    found = []
    for name, ours_NV in (("sampled distribution", p_NV), ("the same by speculation, enumerated", law_NV)):
        apart = float((ours_NV.double() - theirs_NV.double()).abs().sum(-1).max()) / 2
        words = f"{len(prompts)} distributions", f"furthest apart {apart:.1e} (total variation)"
        found.append(Agreement(name, *words, apart, 1e-5, allowed="1e-05 apart"))
    return found


def _law_of_speculation(q_V: torch.Tensor, p_V: torch.Tensor) -> torch.Tensor:
    """The first token's distribution with one drafted token: over all that the draft may propose, kept or
    replaced."""
    drafted_N1 = q_V.nonzero()
    num = len(drafted_N1)
    p_N2V = torch.stack([p_V, torch.full_like(p_V, 1 / len(p_V))]).expand(num, 2, -1)
    stop_N2, next_N2V = outcomes(drafted_N1, q_V.expand(num, 1, -1), p_N2V)
    weight_N = q_V[drafted_N1[:, 0]].double()
    stop_N2 = stop_N2.double() / stop_N2.double().sum(-1, keepdim=True)
    replaced_NV = next_N2V[:, 0].double()
    replaced_NV = replaced_NV / replaced_NV.sum(-1, keepdim=True).clamp_min(1e-300)
    law_V = (weight_N[:, None] * stop_N2[:, :1] * replaced_NV).sum(0)
    return law_V.index_add(0, drafted_N1[:, 0], weight_N * stop_N2[:, 1])
