"""The choice as code that runs: transformers, vLLM, bitdraft. Names are quoted, never pasted."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from bitdraft import formats
from bitdraft.config import NGRAM, RecommendConfig, SamplingConfig
from bitdraft.inputs.checkpoints import Checkpoint
from bitdraft.schema.recommendation import Choice
from bitdraft.spec_decode.workload import Workload

PROMPT = "The"
_NO_DEFAULTS = ("transformers_version", "use_cache", "output_attentions", "output_hidden_states")


@dataclass(frozen=True)
class Setting:
    """What to deploy. `target` and `draft` can be loaded by transformers; `own_target` and `own_draft` by
    bitdraft. Without a draft, plain decoding. With `has_defaults` the checkpoint brings settings of its own
    for `generate` (sampling, penalties, lengths), which were not measured."""

    target: str
    own_target: str
    precision: str
    draft: str | None = None
    own_draft: str | None = None
    k: int = 0
    draft_precision: str | None = None
    revision: str | None = None
    same_padding: bool = True
    has_defaults: bool = False


def snippets_of(choice: Choice, workload: Workload, config: RecommendConfig) -> dict[str, str]:
    """By tool; none where nothing is chosen."""
    if choice.precision is None:
        return {}
    target, own_draft, loadable, same_padding = workload.target, None, None, True
    draft = next((one for one in workload.drafts if one.label == choice.draft), None)
    if draft is not None and draft.checkpoint is None:
        own_draft = loadable = NGRAM
    elif draft is not None and draft.checkpoint is not None:
        own_draft = draft.checkpoint.name
        loadable = _loadable(draft.checkpoint)
        same_padding = draft.checkpoint.vocab_size == target.vocab_size
    setting = Setting(
        target=_loadable(target),
        own_target=config.model,
        precision=choice.precision,
        draft=loadable,
        own_draft=own_draft,
        k=choice.k or 0,
        draft_precision=choice.draft_precision,
        revision=config.revision,
        same_padding=same_padding,
        has_defaults=has_generation_defaults(target),
    )
    return snippets(setting, config)


def _dtype(precision: str) -> str:
    """As torch and vLLM call it."""
    return formats.find(precision).torch_dtype


def _loadable(checkpoint: Checkpoint) -> str:
    """Embedded models have a name in bitdraft alone."""
    return str(checkpoint.folder) if checkpoint.name.startswith("demo/") else checkpoint.name


def snippets(setting: Setting, config: RecommendConfig) -> dict[str, str]:
    return {
        "transformers": transformers_snippet(setting, config),
        "vllm": vllm_command(setting),
        "native": native_snippet(setting, config),
    }


def has_generation_defaults(checkpoint: Checkpoint) -> bool:
    """Whether a checkpoint tells `generate` more than which tokens are special."""
    path = checkpoint.folder / "generation_config.json"
    if checkpoint.random_weights or not path.exists():
        return False
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    told = found if isinstance(found, dict) else {}
    return any(
        not name.startswith("_") and not name.endswith("_token_id") and name not in _NO_DEFAULTS
        for name in told
    )


def transformers_snippet(setting: Setting, config: RecommendConfig) -> str:
    generation = ", GenerationConfig" if setting.has_defaults else ""
    lines = [
        "import torch",
        f"from transformers import AutoModelForCausalLM, AutoTokenizer{generation}",
        "",
        *_remark(setting),
        f"name = {setting.target!r}",
    ]
    revision = f", revision={setting.revision!r}" if setting.revision else ""
    lines += [
        'device = "cuda" if torch.cuda.is_available() else "cpu"',
        f"tokenizer = AutoTokenizer.from_pretrained(name{revision})",
        f"model = AutoModelForCausalLM.from_pretrained(name{revision}, dtype=torch."
        f"{_dtype(setting.precision)}).to(device).eval()",
    ]
    if setting.has_defaults:
        lines += [
            "# the checkpoint's own sampling, penalties and lengths were not measured",
            "ends, pad = model.generation_config.eos_token_id, tokenizer.pad_token_id",
            "model.generation_config = GenerationConfig(eos_token_id=ends, pad_token_id=pad)",
        ]
    extra = ""
    if setting.draft == NGRAM:
        lines.append(f"# transformers' prompt lookup drafts up to {setting.k} tokens")
        extra = f", prompt_lookup_num_tokens={setting.k}"
    elif setting.draft is not None and not setting.same_padding:
        lines += [
            f"# {setting.draft!r} speculates in bitdraft alone: its embeddings are padded differently, which",
            "# transformers takes for another vocabulary. This is plain decoding.",
        ]
    elif setting.draft is not None:
        dtype = _dtype(setting.draft_precision or setting.precision)
        lines += [
            f"draft = AutoModelForCausalLM.from_pretrained({setting.draft!r}, dtype=torch.{dtype})"
            ".to(device).eval()",
            "# generate() takes K from the draft's own settings, and only so is it K at every step",
            f"draft.generation_config.num_assistant_tokens = {setting.k}",
            'draft.generation_config.num_assistant_tokens_schedule = "constant"',
            "draft.generation_config.assistant_confidence_threshold = 0.0",
        ]
        extra = ", assistant_model=draft"
    lines += [
        f'inputs = tokenizer({PROMPT!r}, return_tensors="pt").to(device)',
        f"output = model.generate(**inputs, max_new_tokens={config.max_new_tokens}, "
        f"{_sampling(config)}{extra})",
        "print(tokenizer.decode(output[0], skip_special_tokens=True))",
    ]
    return "\n".join(lines) + "\n"


def _remark(setting: Setting) -> list[str]:
    """Of names that are places: they differ from machine to machine."""
    places = [name for name in (setting.target, setting.draft or "") if "/" in name and Path(name).exists()]
    return ["# folders: where they lie on your machine"] if places else []


def _sampling(config: SamplingConfig) -> str:
    if config.temperature == 0:
        return "do_sample=False"
    # generate() cuts to 50 tokens where top_k is left out
    parts = ["do_sample=True", f"temperature={config.temperature:g}", f"top_k={config.top_k or 0}"]
    return ", ".join([*parts, f"top_p={config.top_p or 1.0:g}"])


def vllm_command(setting: Setting) -> str:
    """`vllm serve`, for a machine that has it (vLLM documentation, speculative decoding)."""
    words = ["vllm", "serve", setting.target, "--dtype", _dtype(setting.precision)]
    words += ["--generation-config", "vllm"]  # and not the checkpoint's sampling
    if setting.revision:
        words += ["--revision", setting.revision]
    note = ""
    if setting.draft is not None:
        asked: dict[str, object] = {"num_speculative_tokens": setting.k}
        if setting.draft == NGRAM:
            asked |= {"method": "ngram", "prompt_lookup_max": 4, "prompt_lookup_min": 2}
        else:
            asked |= {"method": "draft_model", "model": setting.draft}
            if setting.draft_precision:
                note = f"# the draft was measured in {setting.draft_precision}, here it has the target's\n"
        words += ["--speculative-config", json.dumps(asked)]
    return note + shlex.join(words) + "\n"


def native_snippet(setting: Setting, config: RecommendConfig) -> str:
    arguments = [repr(setting.own_target), f"precision={setting.precision!r}"]
    if setting.revision:
        arguments.append(f"revision={setting.revision!r}")
    if setting.own_draft is not None:
        arguments += [f"draft={setting.own_draft!r}", f"k={setting.k}"]
        if setting.draft_precision:
            arguments.append(f"draft_precision={setting.draft_precision!r}")
    for name in ("temperature", "top_k", "top_p"):
        value = getattr(config, name)
        if value:
            arguments.append(f"{name}={value!r}")
    return (
        "import bitdraft\n\n"
        f"decoder = bitdraft.Decoder({', '.join(arguments)})\n"
        f"print(decoder.generate({PROMPT!r}, max_new_tokens={config.max_new_tokens}).text)\n"
    )
