"""Tiny random models, a byte-level tokenizer and hand-made generations, built where they are used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from bitdraft.schema.records import Generation

VOCAB = 288
_COMMON = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.3}
_SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 256,
}
CONFIGS: dict[str, Any] = {
    "gpt_neox": lambda: GPTNeoXConfig(**_COMMON, **_SHAPE),
    "llama": lambda: LlamaConfig(**_COMMON, **_SHAPE, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**_COMMON, **_SHAPE, num_key_value_heads=2),
    "gpt2": lambda: GPT2Config(**_COMMON, n_embd=32, n_layer=3, n_head=4, n_positions=256),
    "mistral": lambda: MistralConfig(**_COMMON, **_SHAPE, num_key_value_heads=2, sliding_window=24),
}


def tiny_model(kind: str = "gpt_neox", seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    config = CONFIGS[kind]()
    for name, value in changes.items():
        setattr(config, name, value)
    return AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)


def tokens(seed: int, length: int, vocab: int = VOCAB) -> list[int]:
    return torch.randint(1, vocab, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def noisy_copy(kind: str, seed: int, noise: float) -> Any:
    """A draft that agrees with its target now and then: the target's weights, disturbed."""
    model = tiny_model(kind, seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.add_(noise * parameter.std() * torch.randn(parameter.shape, generator=generator))
    return model


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat and the hen in the barn and the rain " * 8], trainer)
    end = "<|endoftext|>"
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=end, eos_token=end)


def save_checkpoint(folder: Path, model: Any) -> Path:
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Of a saved checkpoint, in its one file."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def save_shape(folder: Path, kind: str = "gpt_neox", **changes: Any) -> Path:
    """A config.json alone, whose vocabulary holds the embedded tokenizer's."""
    config = CONFIGS[kind]()
    for name, value in ({"vocab_size": 2048} | changes).items():
        setattr(config, name, value)
    config.save_pretrained(folder)
    return folder


def generation(submit_s: float, times_s: list[float], prompt_tokens: int = 10) -> Generation:
    """One token an emission, at the given times."""
    return Generation(
        prompt_tokens=prompt_tokens,
        submit_s=submit_s,
        emissions=tuple((time_s, 1) for time_s in times_s),
        token_ids=tuple(range(len(times_s))),
        finish_reason="length",
    )
