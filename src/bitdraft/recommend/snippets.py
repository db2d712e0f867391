"""The choice as code that runs: transformers, vLLM, llama.cpp, bitdraft. Names are quoted, never pasted."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

from bitdraft import formats
from bitdraft.config import NGRAM, RecommendConfig, SamplingConfig
from bitdraft.formats import dtype, gguf, kv_cache, stored, torchao
from bitdraft.inputs.checkpoints import Checkpoint
from bitdraft.inputs.gguf.files import named_header
from bitdraft.inputs.variants import Variant, draft_format
from bitdraft.schema.recommendation import Choice
from bitdraft.spec_decode.workload import Workload

PROMPT = "The"
_NO_DEFAULTS = ("transformers_version", "use_cache", "output_attentions", "output_hidden_states")


@dataclass(frozen=True)
class Setting:
    """What to deploy. `target` and `draft` can be loaded by transformers; `own_target` and `own_draft` by
    bitdraft. Without a draft, plain decoding. With `has_defaults` the checkpoint brings settings of its own
    for `generate` (sampling, penalties, lengths), which were not measured. `gguf` and `draft_gguf` are files
    for llama.cpp, where it runs the models; with `has_made_files` bitdraft has made some of them."""

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
    gguf: str = ""
    draft_gguf: str = ""
    has_made_files: bool = False


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
    files = [(target, choice.precision)]
    if draft is not None and draft.checkpoint is not None:
        run_in = draft_format(Variant(target, choice.precision), draft.checkpoint, choice.draft_precision)
        files.append((draft.checkpoint, run_in))
    names = [_file_of(*one) for one in files]
    is_made = [bool(name) and named_header(*one) is None for name, one in zip(names, files, strict=True)]
    setting = Setting(
        gguf=names[0],
        draft_gguf=names[1] if len(names) > 1 else "",
        has_made_files=any(is_made),
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


def _file_of(checkpoint: Checkpoint, precision: str) -> str:
    """The GGUF file of a format; a name for one that bitdraft has made, "" for formats of torch."""
    if formats.find(precision).family != gguf.FAMILY:
        return ""
    header = named_header(checkpoint, precision)
    if header is not None:
        return checkpoint.name if header is checkpoint.header else str(header.files[0])
    return f"{Path(checkpoint.name).name}-{precision.removeprefix('gguf-').upper()}.gguf"


def _dtype(precision: str) -> str:
    """As torch and vLLM call it."""
    return formats.find(precision).torch_dtype


def _as_loaded(precision: str) -> str:
    """In its dtype and on the device; a checkpoint that is quantised already as it is."""
    if formats.find(precision).family == stored.FAMILY:
        return 'dtype="auto", device_map=device)'
    return f"dtype=torch.{_dtype(precision)}).to(device)"


def _loadable(checkpoint: Checkpoint) -> str:
    """Embedded models have a name in bitdraft alone."""
    return str(checkpoint.folder) if checkpoint.name.startswith("demo/") else checkpoint.name


def snippets(setting: Setting, config: RecommendConfig) -> dict[str, str]:
    """What runs the format: llama.cpp, or transformers and vLLM."""
    found: dict[str, str] = {}
    if setting.gguf:
        found["llama.cpp"] = llama_cpp_command(setting, config)
    else:
        found["transformers"] = transformers_snippet(setting, config)
        if formats.find(setting.precision).family == dtype.FAMILY:
            found["vllm"] = vllm_command(setting)
    return found | {"native": native_snippet(setting, config)}


def llama_cpp_command(setting: Setting, config: RecommendConfig) -> str:
    """`llama-server`, with a K that is K: a draft that it is unsure of is not cut short."""
    notes, words = [], ["llama-server", "-m", setting.gguf]
    if setting.draft == NGRAM:
        notes.append(f"llama.cpp's own prompt lookup drafts in other ways: K = {setting.k} was bitdraft's")
    elif setting.draft is not None and not setting.draft_gguf:
        notes.append(f"{setting.draft!r} in {setting.draft_precision} speculates in bitdraft alone")
    elif setting.draft is not None:
        words += ["-md", setting.draft_gguf, "--spec-type", "draft-simple"]
        words += ["--spec-draft-n-max", str(setting.k), "--spec-draft-p-min", "0"]
        if config.kv_cache != kv_cache.AUTO:
            words += ["-ctkd", config.kv_cache, "-ctvd", config.kv_cache]
    if config.kv_cache != kv_cache.AUTO:
        words += ["-ctk", config.kv_cache, "-ctv", config.kv_cache]
    if config.flash_attention != "auto":
        words += ["-fa", config.flash_attention]
    if config.threads is not None:
        words += ["-t", str(config.threads)]
    words += ["--parallel", "1", "--temp", f"{config.temperature:g}"]
    if config.temperature > 0:
        words += ["--top-k", str(config.top_k or 0), "--top-p", f"{config.top_p or 1.0:g}", "--min-p", "0"]
    if setting.has_made_files:
        notes.append("bitdraft's own files lie below its cache folder, gguf/; llama-quantize makes them, too")
    return "".join(f"# {note}\n" for note in notes) + shlex.join(words) + "\n"


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
        f"model = AutoModelForCausalLM.from_pretrained(name{revision}, "
        f"{_as_loaded(setting.precision)}.eval()",
        *_quantising(setting.precision, "model"),
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
        kind = setting.draft_precision or setting.precision
        lines += [
            f"draft = AutoModelForCausalLM.from_pretrained({setting.draft!r}, {_as_loaded(kind)}.eval()",
            *_quantising(setting.draft_precision or setting.precision, "draft"),
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


def _quantising(precision: str, name: str) -> list[str]:
    """What is done to a model that was loaded in the format's dtype."""
    if formats.find(precision).family != torchao.FAMILY:
        return []
    return [
        "from bitdraft.inputs.quantised import quantise_as  # by torchao or bitsandbytes, as it was measured",
        f"quantise_as({name}, {precision!r})",
    ]


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
    for name in ("temperature", "top_k", "top_p", "tokenizer", "gguf", "threads"):
        value = getattr(config, name)
        if value:
            arguments.append(f"{name}={value!r}")
    for name in ("kv_cache", "flash_attention") if setting.gguf else ():
        if getattr(config, name) != "auto":
            arguments.append(f"{name}={getattr(config, name)!r}")
    return (
        "import bitdraft\n\n"
        f"decoder = bitdraft.Decoder({', '.join(arguments)})\n"
        f"print(decoder.generate({PROMPT!r}, max_new_tokens={config.max_new_tokens}).text)\n"
    )
