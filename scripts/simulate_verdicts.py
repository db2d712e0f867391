"""How often intervals hold the truth, and verdicts err, by simulation: the tables of docs/metrics.md.

    scripts/simulate_verdicts --experiments 10000

Populations, and what each simulated experiment reports by the project's own functions, are in populations.py;
tests/unit/test_coverage.py holds the same with fewer experiments.
"""

from __future__ import annotations

import argparse
import itertools
import sys

from populations import (
    SIZES,
    all_populations,
    batch_selection,
    comparison,
    coverage,
    precisions,
    recommendation,
    selection,
)

KINDS = ("independent", "shared", "skewed")


def coverage_lines(num_experiments: int, seed: int) -> list[str]:
    """A line a population: the shares of 95 % intervals that hold the truth, by number of items."""
    lines = [
        f"| 95 % interval of | {' | '.join(f'n = {n}' for n in SIZES)} |",
        "| --- |" + " ---: |" * len(SIZES),
    ]
    for population in all_populations():
        print(population.name, file=sys.stderr)
        shares = [coverage(population, n, num_experiments, seed)[0] for n in SIZES]
        lines.append(f"| {population.name} | {' | '.join(f'{100 * share:.1f}' for share in shares)} |")
    return lines


def selection_lines(num_experiments: int, seed: int) -> list[str]:
    """How often the best of sixteen is recommended or refused, the mean error of the speedup told of it, and
    how often its interval holds the truth."""
    lines = [
        "| prompts differ | n | none pays: “speculate” | “do not” | error | holds "
        "| one brings 1.25×: “speculate” | “do not” | error | holds | all bring 0.9×: “do not” |"
    ]
    lines.append("| --- |" + " ---: |" * 10)
    for kind in KINDS:
        for n in (5, 8, 10, 15, 20):
            print(kind, n, file=sys.stderr)
            none, one = (selection(kind, n, best, num_experiments, seed=seed) for best in (1.0, 1.25))
            slower = selection(kind, n, 0.9, num_experiments, seed=seed, others=0.9)
            cells = []
            for found in (none, one):
                cells += [f"{100 * share:.1f} %" for share in (found.recommended, found.refused)]
                cells += [f"{100 * found.bias:+.1f} %", f"{100 * found.covered:.1f} %"]
            cells.append(f"{100 * slower.refused:.1f} %")
            lines.append(f"| {kind} | {n} | {' | '.join(cells)} |")
    return lines


def arms_lines(num_experiments: int, seed: int) -> list[str]:
    """The same by number of configurations, and at a larger batch size."""
    lines = ["| (draft, K) | n | none pays: “speculate” | one brings 1.25×: found | error |"]
    lines.append("| --- |" + " ---: |" * 4)
    for name, num_arms in (("1", 1), ("4", 4), ("16", 16), ("16 at a larger batch", 0)):
        for n in (5, 10, 15):
            print("arms", name, n, file=sys.stderr)
            none, one = (
                selection("independent", n, best, num_experiments, seed=seed, num_arms=num_arms)
                if num_arms
                else batch_selection(n, best, num_experiments, seed)
                for best in (1.0, 1.25)
            )
            cells = [f"{100 * none.recommended:.1f} %", f"{100 * one.recommended:.1f} %"]
            lines.append(f"| {name} | {n} | {' | '.join(cells)} | {100 * one.bias:+.1f} % |")
    return lines


def recommendation_lines(num_experiments: int, seed: int) -> list[str]:
    """How often `recommend` speculates, and calls slower what is not; how its ratios between sweeps hold."""
    lines = [
        "| n | true speedup | speculates | calls slower what is not | error of the speedup told "
        "| ratio of two sweeps holds the truth |"
    ]
    lines.append("| ---: |" + " ---: |" * 5)
    for n in (5, 10, 15):
        for speedup in (1.0, 1.25):
            print("recommend", n, speedup, file=sys.stderr)
            found = recommendation(n, speedup, num_experiments, seed)
            cells = [f"{100 * share:.1f} %" for share in (found.speculated, found.called_slower)]
            cells.append(f"{100 * found.bias:+.1f} %" if speedup > 1 else "–")
            cells.append(f"{100 * found.covered:.1f} %")
            lines.append(f"| {n} | {speedup:g} | {' | '.join(cells)} |")
    return lines


def comparison_lines(num_experiments: int, seed: int) -> list[str]:
    """How often `compare` calls a row of equal sides slower, or fails a build, and finds 10 % less speed."""
    lines = [
        "| n | rows | measured | equal sides: a row is called slower | a build fails | ratio holds the truth "
        "| 10 % slower: found |"
    ]
    lines.append("| ---: | ---: | --- |" + " ---: |" * 4)
    for n, rows, rounds in ((15, 1, 1), (5, 16, 1), (15, 16, 1), (15, 1, 2), (15, 1, 3), (15, 4, 3)):
        print("compare", n, rows, rounds, file=sys.stderr)
        equal, slower = (
            comparison(n, rows, rounds, slowdown, num_experiments=num_experiments, seed=seed)
            for slowdown in (1.0, 1.1)
        )
        shares = equal.called_slower, equal.failed, equal.covered, slower.called_slower
        cells = [str(n), str(rows), "once" if rounds == 1 else f"in turn, {rounds} rounds"]
        lines.append(f"| {' | '.join([*cells, *(f'{100 * share:.1f} %' for share in shares)])} |")
    return lines


def precision_lines(num_experiments: int, seed: int) -> list[str]:
    """How often three precisions of one speed are told apart, by rounds of processes."""
    lines = ["| n | rounds | processes differ by | told apart | ratio holds the truth |"]
    lines.append("| ---: | ---: | ---: |" + " ---: |" * 2)
    for n, rounds, process in itertools.product((5, 15), (1, 2, 3), (0.0, 0.02)):
        print("precision", n, rounds, process, file=sys.stderr)
        found = precisions(n, rounds, process, num_experiments, seed)
        shares = f"{100 * found.told_apart:.1f} % | {100 * found.covered:.1f} %"
        lines.append(f"| {n} | {rounds} | {100 * process:.0f} % | {shares} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--experiments", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    print("\n".join(coverage_lines(asked.experiments, asked.seed)))
    print()
    fewer = max(asked.experiments // 4, 100)
    print("\n".join(selection_lines(fewer, asked.seed)))
    print()
    print("\n".join(arms_lines(fewer, asked.seed)))
    print()
    print("\n".join(precision_lines(fewer, asked.seed)))
    print()
    print("\n".join(recommendation_lines(fewer, asked.seed)))
    print()
    print("\n".join(comparison_lines(fewer, asked.seed)))


if __name__ == "__main__":
    main()
