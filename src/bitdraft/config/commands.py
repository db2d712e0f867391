"""The command that gives a result again, from the configuration that the result keeps. Pure.

Only settings that differ from the defaults are written. `--output` is no part of a result, nor is
`--data-root`: where files lie differs from machine to machine.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from bitdraft.config.base import Config
from bitdraft.config.runs import PrecisionConfig, RecommendConfig, SpecDecodeConfig
from bitdraft.config.serving import SERVER, ServeBenchConfig

_KINDS: dict[str, tuple[str, type[Config]]] = {
    "precision": ("precision", PrecisionConfig),
    "spec_decode": ("spec-decode", SpecDecodeConfig),
    "recommendation": ("recommend", RecommendConfig),
    "serving": ("serve-bench", ServeBenchConfig),
}
# a sweep of a search has measured some of its drafts and K (`only`); the command measures all
_NOT_FLAGS = ("model", "output", "only", "original", "servers")
_OTHER_FLAGS = {
    "drafts": "--draft",
    "batch_sizes": "--batch-size",
    "ignore_eos": "--stop-at-eos",
    "budget_s": "--budget",
    "cell_timeout_s": "--cell-timeout",
}


def flag_of(setting: str) -> str:
    """`--num-prompts` of num_prompts."""
    return _OTHER_FLAGS.get(setting, f"--{setting.replace('_', '-')}")


def written(setting: str, value: Any) -> str:
    """A value as it is written behind its flag: `3-10`, `fp32,bf16`, `90s`."""
    if setting in ("budget_s", "cell_timeout_s"):
        return f"{value:g}s"
    if setting == "k":
        return ranges(value)
    if isinstance(value, list | tuple):
        return ",".join(str(part) for part in value)
    return str(value)


def command_of(kind: str, config: Mapping[str, Any]) -> str:
    """`bitdraft precision org/model --num-prompts 8`; quoted for a POSIX shell."""
    return shlex.join(["bitdraft", *words_of(kind, config)])


def words_of(kind: str, config: Mapping[str, Any]) -> list[str]:
    """The same behind `bitdraft`. Settings that a later version may have added, and those that an older one
    lacked, are left out."""
    name, fields = _KINDS[kind]
    words = [name]
    if "model" in fields.model_fields:
        words.append(str(config.get("model", fields.model_fields["model"].default)))
    elif not config.get("launch"):  # those that were started have addresses of that run alone
        words += _servers(config.get("servers") or ())
    for setting, field in fields.model_fields.items():
        if setting in _NOT_FLAGS or setting not in config:
            continue
        value = config[setting]
        if _as_json(value) != _as_json(field.default):
            words += _flag(setting, value)
    return words


def _servers(servers: Sequence[str]) -> list[str]:
    """NAME=URL of each as `serve-bench` takes them: the one in question, what it is compared with, others."""
    pairs = [(name, url) for name, _, url in (str(entry).partition("=") for entry in servers)]
    base, own, others = ([], pairs[:1], []) if len(pairs) < 2 else (pairs[:1], pairs[1:2], pairs[2:])
    words = [url for _, url in own]
    words += [word for name, _ in own if name != SERVER for word in ("--name", name)]
    words += [word for _, url in base for word in ("--baseline", url)]
    return words + [word for pair in others for word in ("--variant", "=".join(pair))]


def _as_json(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _flag(setting: str, value: Any) -> list[str]:
    flag = flag_of(setting)
    if setting in ("drafts", "gguf"):
        return [word for draft in value for word in (flag, str(draft))]
    if setting == "ignore_eos" or value is True:
        return [flag]
    return [flag, written(setting, value)]


def ranges(numbers: Sequence[int]) -> str:
    """`1,3-6` of 1, 3, 4, 5 and 6."""
    ordered = sorted(set(numbers))
    starts = [ordered[0], *(after for before, after in pairwise(ordered) if after != before + 1)]
    ends = [*(before for before, after in pairwise(ordered) if after != before + 1), ordered[-1]]
    parts = []
    for first, last in zip(starts, ends, strict=True):
        parts.append(str(first) if first == last else f"{first}-{last}")
    return ",".join(parts)
