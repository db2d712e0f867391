"""Which engines there are, and what each can: known before any of them is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BackendName = Literal["native", "transformers"]
SweepBackend = Literal["native", "transformers", "llama-server", "vllm"]
TRANSFORMERS: SweepBackend = "transformers"
LLAMA_SERVER: SweepBackend = "llama-server"
VLLM: SweepBackend = "vllm"


@dataclass(frozen=True)
class Capabilities:
    """What an engine can beyond decoding a prompt greedily.

    `token_models`: it decodes over token models that can be asked for logits, so that replay, quality and
    controls work beside it. `executions`: the way in which models are run can be chosen. `costs`: one draft
    and one verification can be timed, so that a best K can be predicted. `batches`: several prompts at once.
    `oracle_drafts`: drafts can be made to say given tokens. `prompt_lookup`: drafts of exactly K tokens from
    the text's own n-grams. `prefill_apart`: the first token comes from the prefill alone, and not from a
    verification that includes it. `exact_steps`: what each step drafted is known even where EOS ends a text.
    `processes`: each (draft, K) is a process of its own, of a program that people deploy.
    """

    token_models: bool = False
    executions: bool = False
    costs: bool = False
    batches: bool = False
    oracle_drafts: bool = False
    prompt_lookup: bool = False
    prefill_apart: bool = False
    exact_steps: bool = False
    processes: bool = False


_DEPLOYED = Capabilities(prefill_apart=True, exact_steps=True, processes=True)
CAPABILITIES: dict[SweepBackend, Capabilities] = {
    "native": Capabilities(
        token_models=True,
        executions=True,
        costs=True,
        batches=True,
        oracle_drafts=True,
        prompt_lookup=True,
        prefill_apart=True,
        exact_steps=True,
    ),
    TRANSFORMERS: Capabilities(token_models=True),
    LLAMA_SERVER: _DEPLOYED,
    VLLM: _DEPLOYED,
}
