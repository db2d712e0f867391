"""What servers are, and what they are sent: prompts cut for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bitdraft.config import ModelConfig
from bitdraft.config.serving import ServersConfig
from bitdraft.errors import UserError
from bitdraft.inputs.datasets import load_dataset
from bitdraft.inputs.prompts import Encoder, Prompt, encoder_of, select_prompts, text_record
from bitdraft.inputs.tokenizers import named_tokenizer
from bitdraft.schema.environment import TextRecord
from bitdraft.schema.serving import ServerRecord
from bitdraft.servers.adapters import adapter_of
from bitdraft.servers.identify import identify

CHARS_PER_TOKEN = 4
UNNAMED = "a model without a name"
PATHS = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


@dataclass(frozen=True)
class Workload:
    """What is sent, each load's own: the same prompt twice is in a server's cache of prefixes."""

    text: TextRecord
    sent: dict[int, list[Any]]
    clusters: dict[int, list[str]]
    has_own_prompts: bool


def ask(name: str, url: str, config: ServersConfig) -> ServerRecord:
    """What a server is. Raises `UserError` for one that doesn't answer, or that takes no token ids where
    prompts are cut by tokens."""
    found = identify(name, url, config.served_model)
    adapter = adapter_of(found.engine, found.version)
    if config.tokenizer is not None and config.api == "completions" and not adapter.takes_ids:
        problem = f"{name} ({found.engine}) is not known to take token ids"
        raise UserError("tokenizer", config.tokenizer, problem, "Leave it out")
    return found.model_copy(update={"adapter": adapter.name})


def prepare(config: ServersConfig, loads: Sequence[int] = (1,)) -> Workload:
    """Cut prompts; every bad input is found here (`UserError`)."""
    dataset = load_dataset(config)
    encoder = _encoder(config)
    by_load, has_own = _prompts_by_load(config, loads, dataset, encoder)
    prompts = [prompt for own in by_load.values() for prompt in own]
    record = text_record(dataset, prompts, config, encoder)
    if config.tokenizer is None:
        record = record.model_copy(update={"prompt_tokens": ()})
    messages = dict(zip(dataset.row_ids, dataset.conversations, strict=False))
    return Workload(
        record,
        {load: [_sent(prompt, config, messages) for prompt in own] for load, own in by_load.items()},
        {load: [prompt.cluster for prompt in own] for load, own in by_load.items()},
        has_own,
    )


def _encoder(config: ServersConfig) -> Encoder:
    """By tokens where there is a tokenizer, else by characters."""
    if config.tokenizer is None:
        return Encoder(lambda text: list(map(ord, text)))
    tokenizer = named_tokenizer(ModelConfig(tokenizer=config.tokenizer))
    found = encoder_of(tokenizer, config.bos)
    return Encoder(found.text, None, found.front)


def _prompts_by_load(
    config: ServersConfig, loads: Sequence[int], dataset: Any, encoder: Encoder
) -> tuple[dict[int, list[Prompt]], bool]:
    """Each load its own, where the text has so many; else all the same."""
    asked = config
    if config.tokenizer is None:
        asked = config.model_copy(update={"max_prompt_tokens": CHARS_PER_TOKEN * config.max_prompt_tokens})
    asked = asked.model_copy(update={"chat": "off"})
    num = config.num_prompts
    if len(loads) > 1:
        try:
            several = asked.model_copy(update={"num_prompts": num * len(loads)})
            found = select_prompts(dataset, several, encoder, config.seed)
            return {load: found[place :: len(loads)] for place, load in enumerate(loads)}, True
        except UserError:
            pass
    found = select_prompts(dataset, asked, encoder, config.seed)
    return dict.fromkeys(loads, found), len(loads) == 1


def _sent(prompt: Prompt, config: ServersConfig, messages: dict[str, Any]) -> Any:
    """A text, ids, or messages."""
    if config.api == "completions":
        return list(prompt.token_ids) if config.tokenizer else "".join(map(chr, prompt.token_ids))
    if messages.get(prompt.prompt_id):
        return [dict(one) for one in messages[prompt.prompt_id]]
    if config.tokenizer is None:
        return [{"role": "user", "content": "".join(map(chr, prompt.token_ids))}]
    tokenizer = named_tokenizer(ModelConfig(tokenizer=config.tokenizer))
    return [{"role": "user", "content": tokenizer.decode(prompt.token_ids, skip_special_tokens=True)}]


def without_folders(server: ServerRecord) -> ServerRecord:
    """llama.cpp calls a model by its whole path."""
    name = server.served_model or ""
    shown = name.replace("\\", "/").rsplit("/", 1)[-1] if name.startswith(("/", "~", ".")) else name
    return server.model_copy(update={"served_model": shown})


def settings_of(config: ServersConfig) -> dict[str, Any]:
    """How tokens are drawn, in the names of OpenAI's interface and, beyond it, of vLLM's, llama.cpp's and
    SGLang's."""
    found: dict[str, Any] = {"temperature": config.temperature}
    if config.temperature > 0:
        found["seed"] = config.seed
    if config.top_p is not None:
        found["top_p"] = config.top_p
    if config.top_k is not None:
        found["top_k"] = config.top_k
    if config.ignore_eos:
        found["ignore_eos"] = True
    return found
