"""What bitdraft does on an NVIDIA GPU, in under ten minutes, and what of it could not be run.

The tests that need a GPU, then at pythia-2.8b's shape in bf16 with random weights: K = 0 (eager, static with
CUDA graphs) against `generate`, with MBU; drafts of 70m and 160m over stated acceptances and K; batches;
transformers' assisted generation. Parts share a time budget: within the sweep the least important points are
dropped first, and what was dropped, skipped or failed is listed. A table and JSON go to stdout and --output.

--dry-run goes through all of it on a CPU at tiny shapes: no number of it means anything.
Exit codes: 0 done, 1 a test failed or a part broke, 2 no CUDA device or bad arguments.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig
from transformers.utils import logging as transformers_logging

import gpu_parts
import gpu_sweep
from benchmarks import Settings, load, say
from bitdraft.errors import UserError, one_line
from bitdraft.inputs.shapes import SHAPE_FOLDER
from bitdraft.probes.ceilings import measure_ceilings
from bitdraft.probes.environment import describe
from gpu_budget import GIB, Budget, model_bytes
from gpu_common import Check, Part, Sizes

REAL = Sizes(
    targets=("pythia-2.8b", "pythia-1.4b", "pythia-410m"),
    drafts=("pythia-70m", "pythia-160m"),
    alphas=(0.5, 0.6, 0.7, 0.8, 0.9),
    ks=tuple(range(1, 11)),
    batches=(1, 4, 16),
    num_prompts=5,
    prompt_tokens=128,
    new_tokens=64,
)
# in order; each with the least seconds it is worth beginning with, and those it leaves to the ones behind
PARTS: dict[str, tuple[Callable[[Check, float], Part], float, float]] = {
    "K = 0": (gpu_parts.plain, 20, 240),
    "sweep": (gpu_sweep.sweep, 30, 130),
    "batches": (gpu_parts.batches, 20, 60),
    "assisted generation": (gpu_parts.assisted, 10, 30),
    "generate with a static cache, compiled": (gpu_parts.compiled_peer, 90, 0),
}
TEST_SHARE = 0.35
HEADROOM = 1.25  # caches, activations and the pool of graphs


def tiny_sizes(folder: Path) -> Sizes:
    """Shapes of a few thousand weights, written as config files."""
    names = {"target": (64, 3), "draft-a": (32, 1), "draft-b": (32, 2)}
    paths = {}
    for name, (hidden, layers) in names.items():
        paths[name] = folder / name
        AutoConfig.for_model(
            "gpt_neox",
            hidden_size=hidden,
            num_hidden_layers=layers,
            num_attention_heads=4,
            intermediate_size=2 * hidden,
            vocab_size=2048,
            max_position_embeddings=512,
        ).save_pretrained(paths[name])
    target, *drafts = map(str, paths.values())
    return Sizes(
        targets=(target,),
        drafts=tuple(drafts),
        alphas=REAL.alphas,
        ks=(1, 2, 4),
        batches=(1, 2, 4),
        num_prompts=5,
        prompt_tokens=24,
        new_tokens=12,
        vocab_size=2048,
    )


def run_tests(budget: Budget) -> dict[str, Any]:
    """`tests/gpu` in a process of its own. `state` is passed, failed or not run."""
    if importlib.util.find_spec("pytest") is None:
        return {"state": "not run", "summary": "pytest is not installed"}
    root = Path(__file__).resolve().parents[1]
    # the report of near-ties is printed by a test
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-m", "gpu", "-rsP", "-p", "no:cacheprovider"]
    limit_s = TEST_SHARE * budget.seconds
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired:
        return {"state": "not run", "summary": f"the tests took longer than {limit_s:.0f} s and were ended"}
    tail = done.stdout.strip().splitlines()[-40:]
    summary = tail[-1] if tail else f"pytest ended with exit code {done.returncode}: {done.stderr[-300:]}"
    state = "passed" if done.returncode == 0 else "failed"
    if state == "passed" and " passed" not in f" {summary}":
        state = "not run"  # all skipped
    return {"state": state, "summary": summary, "output": "\n".join(tail)}


def needed_bytes(name: str) -> int:
    folder = SHAPE_FOLDER / name if (SHAPE_FOLDER / name).is_dir() else Path(name)
    shape: dict[str, int] = json.loads((folder / "config.json").read_text())
    return model_bytes(shape, 2)


def choose_target(sizes: Sizes, free_bytes: int) -> tuple[str | None, list[str]]:
    """The first target that fits beside the drafts, and what did not."""
    notes: list[str] = []
    others = sum(map(needed_bytes, sizes.drafts))
    for name in sizes.targets:
        needed = HEADROOM * (needed_bytes(name) + others)
        if needed <= free_bytes:
            return name, notes
        notes.append(
            f"{name}: needs about {needed / GIB:.1f} GiB with its drafts, {free_bytes / GIB:.1f} GiB are free"
        )
    return None, notes


def measure(check: Check) -> tuple[list[Part], dict[str, Any], bool]:
    """Sections, records by part, and whether one broke. Too little memory or time is no breakage."""
    sections, records, broke = [], {}, False
    for name, (part, least_s, for_later_s) in PARTS.items():
        reserve_s = min(for_later_s, 0.45 * check.budget.seconds)
        if check.budget.left_s() < min(least_s, 0.1 * check.budget.seconds):
            check.not_run.append(f"{name}: no time left")
            continue
        say(f"{name}: {check.budget.left_s():.0f} s left")
        try:
            found = part(check, reserve_s)
        except torch.OutOfMemoryError as error:
            check.not_run.append(f"{name}: too little memory ({one_line(error)})")
        except (UserError, RuntimeError, AssertionError) as error:
            check.not_run.append(f"{name}: {type(error).__name__}: {one_line(error)}")
            broke = True
        else:
            sections.append(found)
            records[name] = found.record
        free()
    return sections, records, broke


def free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes_of(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 2**62


def check_all(
    args: argparse.Namespace, device: torch.device, sizes: Sizes
) -> tuple[dict[str, Any], str, int]:
    """(record, Markdown, exit code)"""
    budget = Budget(args.budget_s)
    record: dict[str, Any] = {
        "environment": describe(device).model_dump(mode="json"),
        "dry_run": args.dry_run,
    }
    tests = (
        {"state": "not run", "summary": "left out by --skip-tests"} if args.skip_tests else run_tests(budget)
    )
    record["tests"] = tests
    say(f"tests: {tests['state']}, {tests['summary']}")
    not_run = [f"tests: {tests['summary']}"] if tests["state"] == "not run" else []
    target, notes = choose_target(sizes, free_bytes_of(device))
    not_run += notes
    sections: list[Part] = []
    broke = False
    if target is not None:
        ceilings = measure_ceilings(device, (sizes.precision,))
        record["ceilings"], record["target"] = ceilings.model_dump(mode="json"), target
        say(f"loading {target} and {', '.join(sizes.drafts)}")
        names = {"target": target} | {name: name for name in sizes.drafts}
        models = {label: load(name, sizes.precision, device) for label, name in names.items()}
        settings = Settings(device)
        check = Check(sizes, settings, budget, target, models, 1e9 * ceilings.copy_gb_s, not_run)
        sections, record["parts"], broke = measure(check)
    record["not_run"] = not_run
    failed = tests["state"] == "failed"
    return record, markdown(record, sections, tests), 1 if failed or broke else 0


def markdown(record: dict[str, Any], sections: list[Part], tests: dict[str, Any]) -> str:
    environment = record["environment"]
    where = environment.get("gpu") or f"{environment['cpu']} (dry run: no number here means anything)"
    text = [
        f"# GPU check: {where}",
        f"torch {environment['torch']}, transformers {environment['transformers']}, "
        f"CUDA {environment.get('cuda')}, driver {environment.get('driver')}; target "
        f"{record.get('target')}, random weights, bf16; ceilings {record.get('ceilings')}",
        f"Tests: {tests['state']}: {tests['summary']}",
        *(section.markdown for section in sections),
        "## Not run",
        "\n".join(f"- {entry}" for entry in record["not_run"]) or "Everything was run.",
    ]
    return "\n\n".join(text) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--budget-s", type=float, default=540, help="seconds for all of it")
    parser.add_argument("--skip-tests", action="store_true")
    parser.add_argument("--dry-run", action="store_true", help="all of it on a CPU, at tiny shapes")
    parser.add_argument("--output", type=Path, default=Path("results/gpu_check"))
    return parser.parse_args()


def main() -> int:
    args = arguments()
    transformers_logging.set_verbosity_error()
    if not args.dry_run and not torch.cuda.is_available():
        print(
            "gpu_check: torch finds no CUDA device on this machine, so nothing was run. "
            "Check nvidia-smi and that torch is a CUDA build, or go through it on a CPU with --dry-run.",
            file=sys.stderr,
        )
        return 2
    device = torch.device("cpu" if args.dry_run else "cuda:0")
    with tempfile.TemporaryDirectory() as folder:
        sizes = tiny_sizes(Path(folder)) if args.dry_run else REAL
        record, text, code = check_all(args, device, sizes)
        text, line = (found.replace(f"{folder}/", "") for found in (text, json.dumps(record)))
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "gpu_check.md").write_text(text)
    (args.output / "gpu_check.json").write_text(line + "\n")
    print(text)
    print(line)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
