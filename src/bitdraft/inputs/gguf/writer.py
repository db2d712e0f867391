"""Write a GPT-NeoX checkpoint with a byte-level BPE tokenizer as a GGUF file, in fp32.

llama.cpp's own converter refuses tokenizers that it doesn't know by their hash. Names of tensors and keys are
those of the `gguf` package and of llama.cpp's `gptneox` architecture.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_OF_LAYER = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "attention.query_key_value": "attn_qkv",
    "attention.dense": "attn_output",
    "mlp.dense_h_to_4h": "ffn_up",
    "mlp.dense_4h_to_h": "ffn_down",
}
_OUTSIDE = {
    "gpt_neox.embed_in.weight": "token_embd.weight",
    "gpt_neox.final_layer_norm.weight": "output_norm.weight",
    "gpt_neox.final_layer_norm.bias": "output_norm.bias",
    "embed_out.weight": "output.weight",
    "lm_head.weight": "output.weight",
}
# buffers that old checkpoints hold beside their weights
_DERIVED = ("attention.bias", "attention.masked_bias", "rotary_emb.inv_freq")
_KIND = "gpt_neox"


def unwritable_reason(folder: Path) -> str | None:
    """Why a checkpoint can't be written here; None where it can."""
    try:
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "needs a checkpoint with config.json and tokenizer.json, or a GGUF file"
    if settings.get("model_type") != _KIND:
        kind = settings.get("model_type")
        return f"is made here of GPT-NeoX checkpoints and of GGUF files, not of {kind!r}"
    if settings.get("attention_bias") is False or settings.get("rope_scaling"):
        return "cannot be made of a GPT-NeoX without biases, or with scaled positions"
    if tokenizer.get("model", {}).get("type") != "BPE":
        return "is made here of checkpoints with a byte-level BPE tokenizer"
    return None


def write_gguf(folder: Path, weights: Sequence[Path], path: Path) -> None:
    """All of a checkpoint's weights, settings and tokens. Needs the `gguf` package."""
    import gguf
    from transformers import AutoConfig

    settings = AutoConfig.from_pretrained(folder, local_files_only=True)
    writer = gguf.GGUFWriter(str(path), "gptneox", use_temp_file=True)
    writer.add_name(folder.name)
    _add_settings(writer, settings)
    _add_tokens(writer, json.loads((folder / "tokenizer.json").read_text(encoding="utf-8")), settings)
    for name, weight in _read(weights):
        if name.endswith(_DERIVED):
            continue
        own = _OUTSIDE.get(name) or _name_in_layer(name)
        num_heads = settings.num_attention_heads
        writer.add_tensor(own, _in_thirds(weight, num_heads) if "attn_qkv" in own else weight)
        if own == "token_embd.weight" and settings.tie_word_embeddings:
            writer.add_tensor("output.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _read(files: Sequence[Path]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """Each in fp32."""
    from safetensors import safe_open

    for file in files:
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 - it is no mapping
                yield name, opened.get_tensor(name).float().numpy()


def _add_settings(writer: Any, settings: Any) -> None:
    import gguf

    rope = settings.rope_parameters
    head_size = settings.hidden_size // settings.num_attention_heads
    writer.add_context_length(settings.max_position_embeddings)
    writer.add_embedding_length(settings.hidden_size)
    writer.add_block_count(settings.num_hidden_layers)
    writer.add_feed_forward_length(settings.intermediate_size)
    writer.add_head_count(settings.num_attention_heads)
    writer.add_rope_dimension_count(int(rope.get("partial_rotary_factor", 1.0) * head_size))
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_layer_norm_eps(settings.layer_norm_eps)
    writer.add_parallel_residual(settings.use_parallel_residual)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_tokens(writer: Any, tokenizer: dict[str, Any], settings: Any) -> None:
    """Byte-level BPE as GPT-2 splits it; nothing is put in front of a text."""
    vocabulary = {number: token for token, number in tokenizer["model"]["vocab"].items()}
    added = {one["id"]: one for one in tokenizer.get("added_tokens", ())}
    tokens = {**vocabulary, **{number: one["content"] for number, one in added.items()}}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([tokens.get(number, f"<unused {number}>") for number in range(settings.vocab_size)])
    writer.add_token_types([_type_of(number, tokens, added) for number in range(settings.vocab_size)])
    merges = tokenizer["model"]["merges"]
    writer.add_token_merges([one if isinstance(one, str) else " ".join(one) for one in merges])
    if settings.bos_token_id is not None:
        writer.add_bos_token_id(settings.bos_token_id)
    if settings.eos_token_id is not None:
        writer.add_eos_token_id(settings.eos_token_id)
    writer.add_add_bos_token(False)


def _type_of(number: int, tokens: dict[int, str], added: dict[int, dict[str, Any]]) -> int:
    import gguf

    if number not in tokens:
        return int(gguf.TokenType.UNUSED)
    if number not in added:
        return int(gguf.TokenType.NORMAL)
    return int(gguf.TokenType.CONTROL if added[number].get("special") else gguf.TokenType.USER_DEFINED)


def _name_in_layer(name: str) -> str:
    """`blk.3.ffn_up.bias` for `gpt_neox.layers.3.mlp.dense_h_to_4h.bias`."""
    layer, _, rest = name.removeprefix("gpt_neox.layers.").partition(".")
    module, _, kind = rest.rpartition(".")
    return f"blk.{layer}.{_OF_LAYER[module]}.{kind}"


def _in_thirds(weight: np.ndarray[Any, Any], num_heads: int) -> np.ndarray[Any, Any]:
    """From query, key and value of each head in turn to all queries, all keys and all values."""
    by_head = weight.reshape(num_heads, 3, -1, *weight.shape[1:])
    return np.ascontiguousarray(by_head.swapaxes(0, 1)).reshape(weight.shape)
