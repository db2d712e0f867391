"""From settings to a configuration, or to one error that names the field, the value and the remedy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from bitdraft import formats
from bitdraft.config.base import Config
from bitdraft.config.decoding import LARGEST_BATCH, MOST_K
from bitdraft.errors import UserError
from bitdraft.formats import kv_cache

_REMEDIES = {
    "precisions": f"Choose from {formats.listed()}, separated by commas, each once",
    "reference": "Choose one of the measured precisions",
    "precision": f"Choose one of {formats.listed()}",
    "draft_precision": f"Choose one of {formats.listed()}",
    "gguf": "Give FORMAT=FILE, as Q4_K_M=path/to/model.gguf",
    "pairs": f"Choose from {formats.listed()}, separated by commas",
    "kv_caches": f"Choose from auto, {', '.join(kv_cache.FORMATS)}, separated by commas",
    "kv_cache": f"Choose one of auto, {', '.join(kv_cache.FORMATS)}",
    "drafts": "Name checkpoint folders, hub ids, demo/draft-small, demo/draft-medium or ngram",
    "k": f"Give numbers from 1 to {MOST_K}, as 3-10 or 1,2,4",
    "batch_sizes": f"Give numbers from 1 to {LARGEST_BATCH}, as 1,4,8",
    "temperature": "Give 0 for greedy decoding or a positive number",
    "synthetic_acceptance": "Give a probability from 0 to 1",
    "top_p": "Give a number above 0 and up to 1",
    "max_ppl_increase": "Give a share from 0 to 1, as 0.5% or 0.005",
    "max_vram_gb": "Give GiB as a positive number, as 16",
    "max_ttft_ms": "Give milliseconds as a positive number",
    "min_speedup": "Give a factor of at least 1, as 1.1",
    "budget_s": "Give at least 30 seconds, as 90s, 10m or 1h",
    "engine_args": "Quote them as in a shell, as '--max-model-len 4096'",
    "only": "Give pairs of a draft's label and a K",
    "device": "Choose auto, cpu, cuda, cuda:N or mps",
}

_PROBLEMS = {
    "greater_than_equal": "too small",
    "greater_than": "too small",
    "less_than_equal": "too large",
    "less_than": "too large",
    "finite_number": "no number",
    "float_parsing": "no number",
    "float_type": "no number",
    "int_parsing": "no whole number",
    "int_from_float": "no whole number",
    "int_type": "no whole number",
    "bool_parsing": "neither true nor false",
    "bool_type": "neither true nor false",
    "string_type": "no text",
    "tuple_type": "no list",
    "literal_error": "unknown",
}

_AnyConfig = TypeVar("_AnyConfig", bound=Config)


def make_config(kind: type[_AnyConfig], values: Mapping[str, Any]) -> _AnyConfig:
    """Build a configuration, turning the first problem into a `UserError`, which shows what was given."""
    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "reference"
        # of a list the part that is wrong
        shown = first["input"] if len(first["loc"]) > 1 else values.get(field, first["input"])
        problem = _PROBLEMS.get(first["type"]) or first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(kind.model_fields))
            raise UserError(field, shown, "no such setting", f"Known settings: {known}") from error
        if first["type"] == "missing":
            raise UserError(field, "nothing", "is missing", f"Give {field}") from error
        shown = f"{shown:g}" if isinstance(shown, float) else shown
        shown = ",".join(map(str, shown)) if isinstance(shown, list) else shown
        remedy = _REMEDIES.get(field) or _remedy(first.get("ctx", {}), kind.model_fields.get(field))
        raise UserError(field, shown, problem, remedy) from error


def _remedy(bounds: Mapping[str, Any], setting: Any) -> str:
    """From a setting's bounds or, where none is broken, its type."""
    for name, words in (("ge", "of at least"), ("gt", "above"), ("le", "up to"), ("lt", "below")):
        if name in bounds:
            return f"Give a number {words} {bounds[name]}"
    choices = get_args(setting.annotation) if setting is not None else ()
    if choices and all(isinstance(choice, str) for choice in choices):
        return f"Choose from {', '.join(choices)}"
    is_whole = setting is not None and setting.annotation in (int, int | None)
    return "Give a whole number" if is_whole else "Give a value of that kind"
