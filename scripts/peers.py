"""Compare with every peer that is asked for, and write `docs/agreement.md` of all that was ever compared."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

from bitdraft import __version__
from bitdraft.probes.environment import describe
from peers_common import CPU, PEERS, ROOT, Agreement

NAMES = {
    "transformers": "peers_transformers",
    "lm-eval": "peers_lm_eval",
    "llama.cpp": "peers_llama_cpp",
    "llama-server": "peers_llama_server",
    "vllm": "peers_vllm",
    "sweeps": "peers_sweeps",
    "vllm-server": "peers_vllm_server",
    "planted": "peers_planted",
}
PAGE = ROOT / "docs" / "agreement.md"
_HEAD = """# Agreement with other tools

bitdraft's numbers are held against those of the tools that people trust, on the same weights, tokens and
windows. `scripts/peers` makes what a tool needs beside the project, compares, and writes this page.

A difference is relative; what theirs was rounded to when it was printed is none (half of its last digit).
Without a tolerance the two must be the same, to the last token. Of distributions it is the total variation,
of a figure that chance makes how far the expected value lies outside the interval. In *italics*: shown, and
binding nobody.
"""


def main() -> None:
    """Exit code 1 where something is further apart than its tolerance."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peers", nargs="*", metavar="PEER", help=f"of {', '.join(NAMES)}; all by default")
    asked = parser.parse_args().peers or list(NAMES)
    unknown = sorted({*asked} - {*NAMES})
    if unknown:
        parser.error(f"{unknown[0]} is no peer: choose from {', '.join(NAMES)}")
    PEERS.mkdir(exist_ok=True)
    agrees = True
    for name in asked:
        agrees &= _compare(name)
    PAGE.write_text(_page(), encoding="utf-8")
    print(PAGE.relative_to(ROOT))
    sys.exit(0 if agrees else 1)


def _compare(name: str) -> bool:
    module: Any = importlib.import_module(NAMES[name])
    start = time.perf_counter()
    if hasattr(module, "install"):
        print(f"{name}: installing what is missing …", flush=True)
        (PEERS / name).mkdir(exist_ok=True)
        module.install()
    print(f"{name}: comparing …", flush=True)
    found: list[Agreement] = module.agree()
    for one in found:
        print(f"  {'agrees' if one.agrees else 'DIFFERS'}  {one.figure}: {one.ours} | {one.theirs}")
    record = {
        "version": module.version(),
        "date": datetime.now(UTC).date().isoformat(),
        "bitdraft": __version__,
        "machine": describe(CPU).cpu,
        "python": platform.python_version(),
        "seconds": round(time.perf_counter() - start),
        "agreements": [one.record() for one in found],
    }
    (PEERS / f"{name}.json").write_text(json.dumps(record, indent=1))
    return all(one.agrees for one in found)


def _page() -> str:
    """What was compared elsewhere stands as it stood."""
    parts, before = [_HEAD], _sections(PAGE.read_text(encoding="utf-8"))
    for name, module in NAMES.items():
        path = PEERS / f"{name}.json"
        if not path.exists():
            parts.append(before.get(name, f"## {name}\n\nNot yet compared.\n"))
            continue
        found = json.loads(path.read_text())
        parts.append(f"## {found['version']}\n")
        where = f"{found['date']}, bitdraft {found['bitdraft']}, Python {found['python']}, {found['machine']}"
        doc = " ".join((importlib.import_module(module).__doc__ or "").split())
        parts.append(f"{doc} Compared on {where}: `scripts/peers {name}`.\n")
        parts += [*_table([Agreement(**one) for one in found["agreements"]]), ""]
    return "\n".join(parts).rstrip() + "\n"


def _sections(page: str) -> dict[str, str]:
    """By peer, whose command each section names."""
    found = {}
    for section in re.split(r"^(?=## )", page, flags=re.MULTILINE):
        named = re.search(r"`scripts/peers ([\w.-]+)`\.$", section, flags=re.MULTILINE)
        if section.startswith("## ") and named:
            found[named[1]] = section.rstrip() + "\n"
    return found


def _table(found: list[Agreement]) -> list[str]:
    lines = ["| figure | ours | theirs | difference | tolerance |", "| --- | ---: | ---: | ---: | ---: |"]
    for one in found:
        is_exact = one.tolerance == 0
        apart = f"{one.difference:g}" if is_exact else f"{one.difference:.1e}"
        allowed = "the same" if is_exact else f"{one.tolerance:g}"
        allowed = one.allowed or allowed
        cells = [one.figure, one.ours, one.theirs, apart, "–" if one.is_information else allowed]
        if one.is_information:
            cells = [f"*{cell}*" for cell in cells]
        elif not one.agrees:
            cells = [f"**{cell}**" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
