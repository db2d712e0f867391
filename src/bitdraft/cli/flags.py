"""A command's flags, made from the configurations that it takes: each setting is a flag with the setting's
description, default and group."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from bitdraft.config.base import Config
from bitdraft.config.commands import flag_of, written

Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", metavar="")]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show all rows, intervals, reasons and code.", metavar="")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="Show the verdict alone: no progress, no table.", metavar="")
]
Lang = Annotated[
    Literal["en", "zh"],
    typer.Option("--lang", help="Language of verdicts and pages: en or zh.", metavar="CHOICE"),
]
_SHORT = {"output": ("--output", "-o"), "num_prompts": ("--num-prompts", "-n")}
_METAVARS = {
    "drafts": "NAME",
    "gguf": "[FORMAT=]FILE",
    "tokenizer": "NAME",
    "k": "LIST",
    "batch_sizes": "LIST",
    "contexts": "LIST",
    "precisions": "LIST",
    "pairs": "LIST",
    "kv_caches": "LIST",
    "concurrency": "LIST",
    "speculative_tokens": "LIST",
    "timeout_s": "TIME",
    "devices": "LIST",
    "budget_s": "TIME",
    "cell_timeout_s": "TIME",
    "max_ppl_increase": "SHARE",
    "data_root": "DIR",
    "output": "DIR",
    "launch": "FILE",
}
_ENVIRONMENT = {"data_root": "BITDRAFT_DATA_ROOT"}
_PANELS = (
    "Servers",
    "Certificate",
    "Load and limits",
    "Limits and time",
    "Precision and quality",
    "Speculation",
    "Text and prompts",
    "Sampling",
    "Engine",
    "Model and device",
    "Run",
)
# the model is an argument; the others are for Python alone
_NO_FLAGS = ("model", "only", "original", "root", "servers")
# their defaults depend on the model
_BY_MODEL = ("precision", "precisions")
# what a flag does where it turns a setting off
_TURNED_OFF = {"ignore_eos": "Let EOS end a text. Speeds are then less comparable."}


def takes(*kinds: type[Config]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command a flag for each setting of these configurations, behind its own parameters. What was
    given reaches it as keywords by the settings' names, as text where the configuration reads text."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def taken(**values: Any) -> None:
            for name in _TURNED_OFF.keys() & values.keys():
                values[name] = not values[name]
            command(**values)

        own = inspect.signature(command, eval_str=True).parameters.values()
        parameters = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in own
            if parameter.kind is not inspect.Parameter.VAR_KEYWORD
        ]
        known = {*_NO_FLAGS, *(parameter.name for parameter in parameters)}
        settings = [(kind, name) for kind in kinds for name in kind.model_fields if name not in known]
        settings.sort(key=lambda setting: _PANELS.index(_panel(*setting)))
        parameters += [_parameter(kind, name) for kind, name in settings]
        # what typer reads
        taken.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        taken.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        del taken.__wrapped__
        return taken

    return add


def _parameter(kind: type[Config], name: str) -> inspect.Parameter:
    field = kind.model_fields[name]
    annotation: Any = str | None
    default: Any = None if field.default in (None, ()) else written(name, field.default)
    shown = ""
    if name in _BY_MODEL:
        default, shown = None, f"{default}; a GGUF file's own"
    metavar = _METAVARS.get(name)
    if get_origin(field.annotation) is Literal:
        metavar = "CHOICE"
    if field.annotation is bool:
        annotation, default, metavar = bool, False, ""
    elif field.annotation in (int, float, int | None, float | None) and metavar is None:
        annotation, default = field.annotation, field.default
    elif name in ("drafts", "gguf"):
        annotation = list[str] | None
    elif field.annotation in (Path, Path | None):
        annotation = Path | None
    option = typer.Option(
        *_SHORT.get(name, (flag_of(name),)),
        help=_help(name, field),
        metavar=metavar,
        envvar=_ENVIRONMENT.get(name),
        rich_help_panel=_panel(kind, name),
        show_default=shown if default is None and shown else default is not None and default is not False,
    )
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation, option]
    )


def _help(name: str, field: FieldInfo) -> str:
    """With the choices that it does not name."""
    text = _TURNED_OFF.get(name) or str(field.description)
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return text if all(choice in text for choice in choices) else f"{', '.join(choices)}: {text}"


def _panel(kind: type[Config], name: str) -> str:
    """The title of the configuration that a setting is of."""
    homes = [one for one in kind.__mro__ if issubclass(one, Config) and name in one.__annotations__]
    return str(homes[-1].model_config["title"])
