"""From a result's file or folder to the words of engines and planners."""

from __future__ import annotations

from pathlib import Path

from bitdraft.errors import UserError
from bitdraft.export.setting import Setting, setting_of_servers, setting_of_sweep
from bitdraft.export.targets import TARGETS, inferencex
from bitdraft.schema.io import load_result, read_result
from bitdraft.schema.precision import PrecisionResult
from bitdraft.schema.recommendation import Recommendation
from bitdraft.schema.serving import ServingResult
from bitdraft.schema.spec_decode import SpecDecodeResult

MODES = ("thinking_off", "thinking_on")


def export_result(
    path: str | Path,
    to: str | None = None,
    *,
    draft: str | None = None,
    k: int | None = None,
    server: str | None = None,
    context: int | None = None,
    mode: str = MODES[0],
) -> dict[str, str]:
    """What was measured, by target (`TARGETS`): all that can be said, or `to` alone.

    `path` is a result's file or folder: of a sweep, plan or schedule, of a recommendation (whose sweep is
    taken), or of servers (`draft` then names the checkpoint, which a server does not tell). Without `draft`
    and `k` what the verdict recommends. `context` is one of a schedule's; by default K is that which holds at
    all of them. `mode` is InferenceX's. Raises `UserError`.
    """
    return exported(path, to, draft=draft, k=k, server=server, context=context, mode=mode)[0]


def exported(
    path: str | Path,
    to: str | None,
    *,
    draft: str | None,
    k: int | None,
    server: str | None,
    context: int | None,
    mode: str,
) -> tuple[dict[str, str], list[str]]:
    """`export_result`, and what a reader should know of it: how it was measured, and whether the verdict
    recommends it."""
    if to is not None and to not in TARGETS:
        raise UserError("to", to, "no such target", f"Choose from {', '.join(TARGETS)}")
    if mode not in MODES:
        raise UserError("mode", mode, "no such mode", f"Choose from {', '.join(MODES)}")
    try:
        setting = _setting(Path(path), draft, k, server, context)
    except UserError as error:
        if error.field != "result":
            raise
        raise UserError("result", path, error.problem, error.remedy) from error
    found = {}
    for name, make in TARGETS.items():
        if to not in (None, name):
            continue
        try:
            found[name] = inferencex(setting, mode) if make is inferencex else make(setting)
        except UserError:
            if to is not None:
                raise
    return found, setting.notes


def _setting(
    path: Path, draft: str | None, k: int | None, server: str | None, context: int | None
) -> Setting:
    result = load_result(path)
    if isinstance(result, ServingResult):
        if draft is None:
            problem = "are of servers, which do not tell their draft"
            raise UserError("result", path, problem, "Name it: --draft NAME")
        return setting_of_servers(result, server, k, draft)
    if server is not None:
        raise UserError("server", server, f"{path} is not of servers", "Name a --draft")
    if isinstance(result, Recommendation):
        return _of_recommendation(path, result, draft, k)
    if isinstance(result, PrecisionResult):
        raise UserError("result", path, "is of precisions, without a draft", "Name a sweep, plan or schedule")
    return setting_of_sweep(result, draft, k, context)


def _of_recommendation(path: Path, result: Recommendation, draft: str | None, k: int | None) -> Setting:
    """By the sweeps and plans below its folder, in the precision that was chosen; sweeps first."""
    choice = result.choice
    if draft is None and (not choice.speculate or choice.draft is None):
        problem = f"recommends no draft ({result.summary})"
        raise UserError("result", path, problem, "Name one: --draft LABEL --k K")
    label = draft or choice.draft
    folder = path if path.is_dir() else path.parent
    sweeps = [read_result(one, SpecDecodeResult) for one in sorted(folder.rglob("spec_decode_*.json"))]
    fitting = [
        one
        for one in sorted(sweeps, key=lambda one: one.config.plan)
        if one.config.precision == choice.precision and label in {*one.replay, *one.labels}
    ]
    if not fitting:
        problem = f"holds no sweep of {label} in {choice.precision}"
        raise UserError("result", path, problem, "Name the sweep's own folder")
    return setting_of_sweep(fitting[0], label, k or (choice.k if draft is None else None))
