"""Models of many kinds decode as `generate` does, and those that no cache can serve are refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from bitdraft.backends.base import EngineSetup
from bitdraft.backends.native import NativeEngine
from bitdraft.config import DecodingConfig, Execution, ModelConfig
from bitdraft.engine.check import check_model
from bitdraft.engine.runner import Runner
from bitdraft.errors import UserError
from bitdraft.inputs.checkpoints import find_checkpoint
from bitdraft.inputs.models import load_model
from bitdraft.inputs.variants import Variant
from tiny import VOCAB, save_checkpoint, tiny_model, tokens

_TOKENS = {
    "vocab_size": VOCAB,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
_OLD = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 256}
_HEADS = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
}
_GROUPED = {**_HEADS, "num_key_value_heads": 2}
_WIDE = {**_GROUPED, "head_dim": 8}
_SLIDING = {**_WIDE, "sliding_window": 16}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}


def rope(**settings: Any) -> dict[str, Any]:
    return {**_GROUPED, "rope_parameters": {"rope_theta": 10000.0, **settings}}


SHAPES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt_bigcode": ("gpt_bigcode", _OLD),
    "opt": (
        "opt",
        {
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "ffn_dim": 64,
            "max_position_embeddings": 256,
            "word_embed_proj_dim": 32,
        },
    ),
    "ctrl": ("ctrl", {**_OLD, "dff": 64}),
    "phi": ("phi", _GROUPED),
    "phi3": ("phi3", _GROUPED),
    "gemma": ("gemma", _WIDE),
    "gemma2": ("gemma2", _SLIDING),
    "gemma3 text": ("gemma3_text", _SLIDING),
    "gemma3n text": (
        "gemma3n_text",
        {
            **_SLIDING,
            "num_hidden_layers": 4,
            "intermediate_size": [64] * 4,
            "vocab_size_per_layer_input": VOCAB,
            "hidden_size_per_layer_input": 8,
            "num_kv_shared_layers": 1,
            "laurel_rank": 4,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
            "activation_sparsity_pattern": [0.0] * 4,
        },
    ),
    "cohere": ("cohere", _GROUPED),
    "cohere2": ("cohere2", {**_GROUPED, "sliding_window": 16}),
    "granite": ("granite", _GROUPED),
    "olmo2": ("olmo2", _GROUPED),
    "qwen3": ("qwen3", _WIDE),
    "starcoder2": ("starcoder2", _GROUPED),
    "smollm3": ("smollm3", _GROUPED),
    "mixtral": ("mixtral", {**_GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": (
        "qwen2_moe",
        {**_GROUPED, **_EXPERTS, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16},
    ),
    "qwen3_moe": ("qwen3_moe", {**_WIDE, **_EXPERTS, "moe_intermediate_size": 16}),
    "olmoe": ("olmoe", {**_GROUPED, **_EXPERTS}),
    "deepseek_v3": (
        "deepseek_v3",
        {
            **_HEADS,
            "num_key_value_heads": 4,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 16,
            "q_lora_rank": 8,
            "kv_lora_rank": 8,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 8,
            "n_group": 1,
            "topk_group": 1,
            "first_k_dense_replace": 1,
        },
    ),
    "gpt_oss": ("gpt_oss", {**_SLIDING, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "llama yarn": (
        "llama",
        rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=64),
    ),
    "llama llama3": (
        "llama",
        rope(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=32,
        ),
    ),
    "llama linear": ("llama", rope(rope_type="linear", factor=2.0)),
    "gpt_neo": (
        "gpt_neo",
        {
            "hidden_size": 32,
            "num_layers": 3,
            "num_heads": 4,
            "max_position_embeddings": 256,
            "attention_types": [[["global", "local"], 1], [["global"], 1]],
            "window_size": 16,
        },
    ),
    "gptj": ("gptj", {**_OLD, "rotary_dim": 4}),
    "codegen": ("codegen", {**_OLD, "rotary_dim": 4, "n_ctx": 256}),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 3, "n_head": 4}),
    "mpt": ("mpt", {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 256}),
    "falcon": ("falcon", {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}),
    "xglm": (
        "xglm",
        {"d_model": 32, "num_layers": 3, "attention_heads": 4, "ffn_dim": 64, "max_position_embeddings": 256},
    ),
    "biogpt": ("biogpt", _HEADS),
    "stablelm": ("stablelm", _GROUPED),
}


def model_of(kind: str, shape: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**_TOKENS, **shape})
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


@pytest.mark.parametrize("name", SHAPES)
def test_every_execution_writes_what_generate_writes(name: str) -> None:
    """Plain and speculative, over eager and static forwards; and it passes the check, in 16 bits too."""
    model, prompt = model_of(*SHAPES[name]), tokens(1, 24)
    check_model(Runner(model), prompt, name)
    with torch.inference_mode():
        expected = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt)),
            max_new_tokens=14,
            do_sample=False,
            eos_token_id=None,
        )
    config = DecodingConfig(max_new_tokens=14)
    executions: tuple[Execution, ...] = ("eager", "static")
    for execution in executions:
        engine = NativeEngine(EngineSetup(model, {"ngram": None}, execution=execution))
        engine.prepare(prompt, config)
        for draft, k in ((None, 0), ("ngram", 3)):
            assert list(engine.decode(config, draft, k, 0).token_ids) == expected[0, len(prompt) :].tolist()
    check_model(Runner(model.to(torch.bfloat16)), prompt, name)


@pytest.mark.parametrize(
    ("kind", "shape", "problem"),
    [
        ("bert", _HEADS, "sees the future"),
        ("roberta", _HEADS, "sees the future"),
        ("xlnet", {"d_model": 32, "n_layer": 3, "n_head": 4, "d_inner": 64}, "sees the future|cache"),
    ],
)
def test_what_ignores_the_cache_or_sees_the_future_is_found(
    kind: str, shape: dict[str, Any], problem: str
) -> None:
    with pytest.raises(UserError, match=problem) as caught:
        check_model(Runner(model_of(kind, shape)), tokens(1, 24), "mine")
    assert caught.value.value == "mine"


class _Shift(torch.nn.Module):
    """Adds the token before to each token of a forward: causal, but nothing keeps it from one forward to the
    next."""

    def __init__(self, mlp: Any) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, states_BTD: torch.Tensor) -> Any:
        before_BTD = torch.nn.functional.pad(states_BTD[:, :-1], (0, 0, 1, 0))
        return self.mlp(states_BTD + before_BTD)


def test_a_state_that_one_layer_does_not_keep_is_found() -> None:
    model = tiny_model("llama")
    check_model(Runner(model), tokens(1, 24), "whole")
    layer = model.model.layers[1]
    layer.mlp = _Shift(layer.mlp)
    with pytest.raises(UserError, match="cache"):
        check_model(Runner(model), tokens(1, 24), "forgetful")


def test_numbers_that_are_not_finite_are_left_to_the_measurement() -> None:
    model = tiny_model("llama")
    model.model.norm.weight.data.fill_(float("inf"))
    check_model(Runner(model), tokens(1, 24), "broken")


def test_a_mixture_of_experts_streams_what_one_token_reads(tmp_path: Path) -> None:
    """Of 8 experts 2: attention, norms, router and head whole; of the experts a quarter; the untied input
    embedding not at all."""
    shape = {
        "hidden_size": 64,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_local_experts": 8,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 256,
    }
    folder = save_checkpoint(tmp_path / "mixtral", model_of("mixtral", shape))
    config = ModelConfig(model=str(folder))
    loaded = load_model(Variant(find_checkpoint(config), "fp32"), torch.device("cpu"), config)
    an_expert = 3 * 64 * 512
    a_layer = 2 * an_expert + 8 * 64 + 2 * 64 * 64 + 2 * 64 * 32 + 2 * 64
    assert loaded.streamed_bytes == 4 * (3 * a_layer + 64 + VOCAB * 64) == 2_588_416
    assert loaded.weight_bytes == 9_666_304 + 4 * VOCAB * 64
    assert loaded.is_sparse
