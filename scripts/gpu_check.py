"""What bitdraft does on an NVIDIA GPU, in under ten minutes, and what of it could not be run.

The tests that need a GPU, then at pythia-2.8b's shape in bf16 with random weights: K = 0 (eager, static with
CUDA graphs) against `generate`, with MBU; drafts of 70m and 160m over stated acceptances and K; batches;
transformers' assisted generation. Parts share a time budget: within the sweep the least important points are
dropped first, and what was dropped, skipped or failed is listed. A table and JSON go to --output after every
part, and to stdout at the end. What others compile runs in a process of its own, which may end by itself.

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
from collections.abc import Callable, Mapping
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
Parts = Mapping[str, tuple[Callable[[Check, float], Part], float, float]]
# in order; each with the least seconds it is worth beginning with, and those it leaves to the ones behind
PARTS: Parts = {
    "K = 0": (gpu_parts.plain, 20, 240),
    "sweep": (gpu_sweep.sweep, 30, 130),
    "batches": (gpu_parts.batches, 20, 60),
    "assisted generation": (gpu_parts.assisted, 10, 30),
}
# torch's own graphs of compiled code let go of memory that other graphs of the same process still use
APART: Parts = {"generate with a static cache, compiled": (gpu_parts.compiled_peer, 90.0, 0.0)}
TEST_SHARE = 0.4
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


def run_tests(budget: Budget, output: Path) -> dict[str, Any]:
    """`tests/gpu` in a process of its own. `state` is passed, failed or not run; all that it prints is in
    `gpu_tests.txt`, also where it is ended."""
    if importlib.util.find_spec("pytest") is None:
        return {"state": "not run", "summary": "pytest is not installed"}
    root = Path(__file__).resolve().parents[1]
    # the report of near-ties is printed by a test
    command = [sys.executable, "-m", "pytest", "tests/gpu", "-m", "gpu", "-rsP", "-p", "no:cacheprovider"]
    limit_s = TEST_SHARE * budget.seconds
    path = output / "gpu_tests.txt"
    with path.open("w") as log:
        try:
            code = subprocess.run(
                command, cwd=root, stdout=log, stderr=subprocess.STDOUT, timeout=limit_s, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = None
    lines = path.read_text().strip().splitlines()
    tail = lines[-40:]
    if code is None:
        summary = f"the tests took longer than {limit_s:.0f} s and were ended; see {path.name}"
        failed = any(line.startswith("FAILED") for line in lines)
        return {"state": "failed" if failed else "not run", "summary": summary, "output": "\n".join(tail)}
    summary = tail[-1] if tail else f"pytest ended with exit code {code}"
    state = "passed" if code == 0 else "failed"
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


def has_time(name: str, least_s: float, budget: Budget, not_run: list[str]) -> bool:
    """Whether a part is worth beginning; one that is not is noted."""
    if budget.left_s() >= min(least_s, 0.1 * budget.seconds):
        return True
    not_run.append(f"{name}: no time left")
    return False


def measure(check: Check, parts: Parts, record: dict[str, Any], keep: Callable[[], object]) -> None:
    """Fills the record, and keeps it after each part. Too little memory or time is no breakage."""
    for name, (part, least_s, for_later_s) in parts.items():
        reserve_s = min(for_later_s, 0.45 * check.budget.seconds)
        if not has_time(name, least_s, check.budget, check.not_run):
            continue
        say(f"{name}: {check.budget.left_s():.0f} s left")
        try:
            found = part(check, reserve_s)
        except torch.OutOfMemoryError as error:
            check.not_run.append(f"{name}: too little memory ({one_line(error)})")
        except (UserError, RuntimeError, AssertionError) as error:
            check.not_run.append(f"{name}: {type(error).__name__}: {one_line(error)}")
            record["broke"] = True
        else:
            record["tables"][name], record["parts"][name] = found.markdown, found.record
        free()
        keep()


def measure_apart(args: argparse.Namespace, budget: Budget, record: dict[str, Any]) -> None:
    """The parts that may end their process, in one of their own. That others' code broke is noted, and no
    breakage of ours."""
    for name, (_, least_s, _) in APART.items():
        if not has_time(name, least_s, budget, record["not_run"]):
            continue
        left_s, folder = budget.left_s(), args.output / "apart"
        command = [sys.executable, __file__, "--only", name, "--skip-tests", "--output", str(folder)]
        command += ["--budget-s", f"{left_s:.0f}", *(["--dry-run"] if args.dry_run else [])]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=left_s + 60, check=False)
        except subprocess.TimeoutExpired:
            record["not_run"].append(f"{name}: it took longer than {left_s + 60:.0f} s and was ended")
            continue
        path = folder / "gpu_check.json"
        if done.returncode or not path.exists():
            lines = [line for line in done.stderr.splitlines() if "rror" in line]
            why = (lines[0] if lines else done.stderr)[-300:].strip()
            record["not_run"].append(f"{name}: its process ended with exit code {done.returncode}: {why}")
            continue
        found = json.loads(path.read_text())
        for key in ("tables", "parts"):
            record[key] |= found[key]
        record["not_run"] += [entry for entry in found["not_run"] if not entry.startswith("tests:")]


def free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def free_bytes_of(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else 2**62


def check_all(args: argparse.Namespace, device: torch.device, sizes: Sizes) -> tuple[str, str, int]:
    """(Markdown, JSON, exit code); both are kept in `args.output` after every part."""
    budget = Budget(args.budget_s)
    args.output.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {
        "environment": describe(device).model_dump(mode="json"),
        "dry_run": args.dry_run,
        "not_run": [],
        "tables": {},
        "parts": {},
        "broke": False,
    }

    def keep() -> tuple[str, str]:
        text, line = markdown(record), json.dumps(record)
        if args.dry_run:  # shapes are folders there
            text, line = (found.replace(f"{Path(sizes.drafts[0]).parent}/", "") for found in (text, line))
        (args.output / "gpu_check.md").write_text(text)
        (args.output / "gpu_check.json").write_text(line + "\n")
        return text, line

    left_out = {"state": "not run", "summary": "left out by --skip-tests"}
    tests = record["tests"] = left_out if args.skip_tests else run_tests(budget, args.output)
    say(f"tests: {tests['state']}, {tests['summary']}")
    if tests["state"] == "not run":
        record["not_run"].append(f"tests: {tests['summary']}")
    keep()
    target, notes = choose_target(sizes, free_bytes_of(device))
    record["not_run"] += notes
    if target is not None:
        ceilings = measure_ceilings(device, (sizes.precision,))
        record["ceilings"], record["target"] = ceilings.model_dump(mode="json"), target
        say(f"loading {target} and {', '.join(sizes.drafts)}")
        names = {"target": target} | {name: name for name in sizes.drafts}
        models = {label: load(name, sizes.precision, device) for label, name in names.items()}
        copy_bytes_s = 1e9 * ceilings.copy_gb_s
        check = Check(sizes, Settings(device), budget, target, models, copy_bytes_s, record["not_run"])
        measure(check, {args.only: APART[args.only]} if args.only else PARTS, record, keep)
        del check, models
        free()
        if not args.only:
            measure_apart(args, budget, record)
    text, line = keep()
    return text, line, 1 if tests["state"] == "failed" or record["broke"] else 0


def markdown(record: dict[str, Any]) -> str:
    environment, tests = record["environment"], record["tests"]
    where = environment.get("gpu") or f"{environment['cpu']} (dry run: no number here means anything)"
    text = [
        f"# GPU check: {where}",
        f"torch {environment['torch']}, transformers {environment['transformers']}, "
        f"CUDA {environment.get('cuda')}, driver {environment.get('driver')}; target "
        f"{record.get('target')}, random weights, bf16; ceilings {record.get('ceilings')}",
        f"Tests: {tests['state']}: {tests['summary']}",
        *record["tables"].values(),
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
    parser.add_argument("--only", choices=list(APART), help="one of the parts that have their own process")
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
        text, line, code = check_all(args, device, sizes)
    print(text)
    print(line)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
