"""bitdraft against its peers, interleaved in one process, as ratios with 95 % intervals.

Parts, each a module of its own:
  plain        K = 0: eager, static, compiled against `generate`, with MBU and bf16 over fp32 (bench_plain)
  speculation  drafts over K against K = 0, transformers and the prediction (bench_speculation)
  batches      batch 1, 4, 8 with and without drafts (bench_batches)
  scoring      scored tokens/s against lm-evaluation-harness (bench_scoring)
  profile      where a decode step's time goes (bench_profile); left out unless it is named
  schedule     a K schedule against runs of whole batches (bench_schedule); left out unless it is named
  llama_cpp    our loops over llama.cpp against llama-bench and llama-server, which are built first where they
               are missing: ten minutes (bench_llama_cpp); left out unless it is named
Tables are printed as Markdown, progress on stderr; the last line printed is JSON.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from benchmarks import Report, Settings, say
from bitdraft.errors import UserError
from bitdraft.inputs.models import resolve_device
from bitdraft.probes.ceilings import measure_ceilings
from bitdraft.probes.clock import now
from bitdraft.probes.environment import describe

PARTS = ("plain", "speculation", "batches", "scoring", "profile", "schedule", "llama_cpp")
DEFAULT_PARTS = PARTS[:4]


def parts_of(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in PARTS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"choose from {', '.join(PARTS)}")
    return names


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a small part of the work, for a look")
    parser.add_argument("--parts", type=parts_of, default=list(DEFAULT_PARTS), help="comma-separated")
    parser.add_argument("--compiled", action="store_true", help="compile with --quick, too")
    parser.add_argument("--models", default="", help="only these targets, comma-separated: demo/target,…")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--data-root", type=Path, help="score and prompt with WikiText-2 from here")
    parser.add_argument("--output", type=Path, help="a folder for bench.md, bench.json and bench_PART.png")
    return parser.parse_args()


def write(folder: Path, reports: list[Report], line: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.md").write_text("\n\n".join(report.markdown for report in reports) + "\n")
    (folder / "bench.json").write_text(line + "\n")
    for report in reports:
        if report.picture is not None:
            (folder / f"bench_{report.name}.png").write_bytes(report.picture)


def main() -> None:
    args = arguments()
    transformers_logging.set_verbosity_error()
    try:
        device = resolve_device(args.device)
    except UserError as error:
        raise SystemExit(str(error)) from error
    settings = Settings(
        device=device,
        quick=args.quick,
        data_root=args.data_root,
        compiled=args.compiled,
        models=tuple(name for name in args.models.split(",") if name),
    )
    ceilings = measure_ceilings(device, ("fp32", "bf16"))
    environment = describe(device).model_copy(update={"ceilings": ceilings})
    record: dict[str, Any] = {"environment": environment.model_dump(mode="json")}
    reports = []
    for name in args.parts:
        start = now()
        report = importlib.import_module(f"bench_{name}").run(settings)
        say(f"{name}: {now() - start:.0f} s")
        reports.append(report)
        record[name] = report.record
        print(f"\n{report.markdown}\n", flush=True)
    line = json.dumps(record)
    if args.output:
        write(args.output, reports, line)
    print(line)


if __name__ == "__main__":
    main()
