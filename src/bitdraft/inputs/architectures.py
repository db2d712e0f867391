"""What kind of model a folder holds, from its small files alone: a causal language model with weights that
can be measured, or which other kind, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bitdraft.config import ModelConfig
from bitdraft.errors import UserError
from bitdraft.formats.stored import METHODS
from bitdraft.inputs.files import AGAIN, read_object

CAUSAL_ENDINGS = ("ForCausalLM", "LMHeadModel")

# transformers makes a language model of these too, one that sees the future unless it is told not to
_ENCODERS = frozenset({
    "albert",
    "bert",
    "big_bird",
    "camembert",
    "data2vec-text",
    "distilbert",
    "electra",
    "ernie",
    "megatron-bert",
    "mobilebert",
    "rembert",
    "roberta",
    "roberta-prelayernorm",
    "roc_bert",
    "roformer",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
})  # fmt: skip
_WITHOUT_CACHE = frozenset({"flaubert", "xlm", "xlnet"})
_OTHER_FORMATS = {"params.json": "Meta's or Mistral's own", "model.onnx": "ONNX"}
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length")
_DECODER = "Choose a decoder-only model (…ForCausalLM)"


def read_settings(folder: Path, config: ModelConfig, field: str) -> dict[str, Any]:
    """config.json, of a folder that is a model and nothing else. Raises `UserError`."""
    adapter = folder / "adapter_config.json"
    if adapter.exists() and not config.random_weights:
        _refuse_adapter(adapter, config.model, field)
    path = folder / "config.json"
    if not path.exists() and not path.is_symlink():
        raise _no_settings(folder, config.model, field)
    return read_object(path, config.model, field)


def _refuse_adapter(path: Path, name: str, field: str) -> None:
    settings = read_object(path, name, field)
    kind = str(settings.get("peft_type") or "PEFT")
    base = settings.get("base_model_name_or_path")
    of = f" of {base}" if isinstance(base, str) and base else ""
    if (path.parent / "config.json").exists():
        problem = f"holds a {kind} adapter{of} beside its weights, which may be applied or not"
        remedy = "Merge it into the weights (peft's merge_and_unload), or take adapter_config.json out"
    else:
        problem = f"is a {kind} adapter{of}, not a whole model"
        remedy = "Merge it into its base (peft's merge_and_unload), save that and name it"
    raise UserError(field, name, problem, remedy)


def _no_settings(folder: Path, name: str, field: str) -> UserError:
    remedy = "Name a folder saved by save_pretrained"
    files = sorted(folder.glob("*.gguf"))
    if files:
        problem = f"holds GGUF files ({', '.join(file.name for file in files[:4])}) and no config.json"
        return UserError(field, name, problem, f"Name the file: {Path(name) / files[0].name}")
    for other, whose in _OTHER_FORMATS.items():
        if (folder / other).exists():
            problem = f"is in {whose} format ({other}) and holds no config.json"
            return UserError(field, name, problem, "Convert it to transformers' format")
    return UserError(field, name, "holds no config.json", remedy)


@dataclass(frozen=True)
class Architecture:
    """A causal language model as its configuration says: `name` is its class's, `context_tokens` None where
    nothing bounds it. From `rope_switch` tokens on its rotary embeddings are others, for the whole text
    (LongRoPE) or, `at_every_length`, anew with each token (dynamic scaling)."""

    name: str
    vocab_size: int
    context_tokens: int | None
    num_layers: int | None = None
    rope_switch: int | None = None
    at_every_length: bool = False
    quantised_by: str = ""


def recognise(folder: Path, settings: dict[str, Any], config: ModelConfig, field: str) -> Architecture:
    """A causal language model. Raises `UserError` for any other, by its kind."""
    name = config.model
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    told = settings.get("model_type")
    kind = told if isinstance(told, str) else None
    own_code = settings.get("auto_map")
    has_code = isinstance(own_code, dict) and "AutoModelForCausalLM" in own_code
    asked = settings.get("architectures")
    usual = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind) if kind else None
    architecture = str(asked[0]) if isinstance(asked, list) and asked else str(usual or "unknown")
    _refuse_other_kinds(settings, kind, architecture, name, field)
    if kind not in CONFIG_MAPPING_NAMES and has_code and not config.trust_remote_code:
        remedy = "Read that code, then pass --trust-remote-code"
        raise UserError(field, name, "needs Python code from its checkpoint", remedy)
    if not has_code:
        _refuse_unknown_type(kind, usual, architecture, name, field)
    found = _describe(architecture, _load_settings(folder, config, field), name, field)
    return replace(found, quantised_by=quantised_by(settings))


def quantised_by(settings: dict[str, Any]) -> str:
    """The method by which a checkpoint is quantised already, by its name; "" where it isn't."""
    text = settings.get("text_config")
    for place in (settings, text if isinstance(text, dict) else {}):
        for key in ("quantization_config", "compression_config"):
            found = place.get(key)
            if isinstance(found, dict) and found:
                method = str(found.get("quant_method") or "an unknown method")
                return METHODS.get(method, method)
    return ""


def _refuse_other_kinds(
    settings: dict[str, Any], kind: str | None, architecture: str, name: str, field: str
) -> None:
    whole = f"its architecture is {architecture}"
    if any(isinstance(settings.get(f"{other}_config"), dict) for other in ("vision", "audio")):
        problem = f"is a multimodal model ({whole}), not a causal language model"
        raise UserError(field, name, problem, "Save its language model alone, or choose a text model")
    if settings.get("is_encoder_decoder") is True:
        problem = f"is an encoder-decoder ({whole}), not a causal language model"
        raise UserError(field, name, problem, _DECODER)
    if kind in _ENCODERS and settings.get("is_decoder") is not True:
        problem = f"is an encoder, whose tokens see the future ({whole}), not a causal language model"
        raise UserError(field, name, problem, _DECODER)
    if kind in _WITHOUT_CACHE:
        problem = f"keeps no key-value cache ({whole}), so it is decoded in no usual way"
        raise UserError(field, name, problem, _DECODER)
    if not architecture.endswith(CAUSAL_ENDINGS) and architecture != "unknown":
        problem = f"is not a causal language model ({whole})"
        raise UserError(field, name, problem, _DECODER)


def _refuse_unknown_type(kind: str | None, usual: object, architecture: str, name: str, field: str) -> None:
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    version = f"transformers {transformers.__version__}"
    if not kind:
        raise UserError(field, name, "its config.json names no model_type", AGAIN)
    if kind not in CONFIG_MAPPING_NAMES:
        problem = f"{version} has no model type {kind!r} ({architecture})"
        remedy = "Install a transformers that has it: pip install --upgrade transformers"
        raise UserError(field, name, problem, remedy)
    if usual is None:
        problem = f"is not a causal language model ({version} makes none of model type {kind!r})"
        raise UserError(field, name, problem, _DECODER)


def _load_settings(folder: Path, config: ModelConfig, field: str) -> Any:
    """transformers checks what it reads, by exceptions of many types; what it can't take is found here and
    not in the middle of a run."""
    import transformers

    try:
        found = transformers.AutoConfig.from_pretrained(
            folder, trust_remote_code=config.trust_remote_code, local_files_only=True
        )
        return found.get_text_config()
    except Exception as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        problem = f"transformers {transformers.__version__} refuses its config.json ({why})"
        remedy = "Correct that entry, or install the transformers that the checkpoint was saved with"
        raise UserError(field, config.model, problem, remedy) from error


def _describe(name: str, text: Any, asked: str, field: str) -> Architecture:
    """From transformers' own reading of the settings, which fills in what the file leaves out."""
    numbers = [getattr(text, key, None) for key in _CONTEXT_KEYS]
    if 0 in numbers:
        key = _CONTEXT_KEYS[numbers.index(0)]
        problem = f"its config.json has {key} = 0: no token would fit"
        raise UserError(field, asked, problem, "Correct that entry")
    context = next((number for number in numbers if isinstance(number, int) and number > 0), None)
    vocab_size, num_layers = getattr(text, "vocab_size", None), getattr(text, "num_hidden_layers", None)
    rope = getattr(text, "rope_parameters", None)
    rope = rope if isinstance(rope, dict) else {}
    kind, switch = str(rope.get("rope_type", "")), None
    if kind in ("longrope", "dynamic"):
        own = rope.get("original_max_position_embeddings")
        switch = own or getattr(text, "original_max_position_embeddings", None) or context
    return Architecture(
        name=name,
        vocab_size=vocab_size if isinstance(vocab_size, int) else 0,
        context_tokens=context,
        num_layers=num_layers if isinstance(num_layers, int) else None,
        rope_switch=switch,
        at_every_length=kind == "dynamic",
    )
