"""How time scales with batch size, width and threads: fastmlp beside some peers, verified and timed alike."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from cases import Case
from ceilings import start_ceilings
from machine import commit, describe, machine_facts, versions
from measure import measure
from options import add_options, check_options, chosen_peers
from plots import STYLES, machine_line, make_logarithmic
from results import CaseResults, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PEERS = ("fastmlp", "fastmlp-bf16", "numpy", "jax")
ROUNDS, QUICK_ROUNDS = 5, 2
GFLOP, QUICK_GFLOP = 120, 20  # of a turn
FEWEST_STEPS, MOST_STEPS = 10, 4000

BATCH_SIZES = (8, 32, 128, 500, 2000, 8000)
WIDTHS = (25, 50, 100, 200, 400, 800, 1600)


@dataclass(frozen=True)
class Point:
    """One case of a series, and how many threads it gets."""

    series: str
    value: int
    case: Case
    threads: int


def points(most_threads: int, gflop: float) -> list[Point]:
    """Vary one of the three at a time, the lesson's net being in the middle."""

    def point(series: str, value: int, *, width: int = 200, batch_size: int = 1000, threads: int) -> Point:
        case = Case(f"{series} {value}", (784, width, 10), batch_size, steps=1, quick_steps=1)
        steps = int(1e9 * gflop / case.flops_per_step)
        case = replace(case, steps=min(max(steps, FEWEST_STEPS), MOST_STEPS))
        return Point(series, value, case, threads)

    return [
        *(point("batch size", n, batch_size=n, threads=most_threads) for n in BATCH_SIZES),
        *(point("width", n, width=n, threads=most_threads) for n in WIDTHS),
        *(point("threads", n, threads=n) for n in range(1, most_threads + 1)),
    ]


def main() -> None:
    args = parse_arguments()
    series = points(args.threads, QUICK_GFLOP if args.quick else GFLOP)
    run = measure_all(series, args)
    path = args.output / f"{run.commit}-scaling{'-quick' if run.quick else ''}.json"
    run.save(path)
    draw(run, series).savefig(path.with_suffix(".png"), dpi=150)
    print(f"\nwritten: {path}, {path.with_suffix('.png').name}")


def measure_all(series: Sequence[Point], args: argparse.Namespace) -> Run:
    machine = machine_facts()
    print(f"commit {commit()}, {describe(machine)}, threads: {args.threads}")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as at_end:
        ceilings, no_ceilings = start_ceilings(Path(folder), args.threads)
        if ceilings is not None:
            at_end.enter_context(ceilings)
        run = Run(commit(), machine, versions(), args.threads, args.quick, no_ceilings)
        for point in series:
            run.cases[point.case.name] = measure(
                point.case, args.peers, rounds=args.rounds, threads=point.threads, ceilings=ceilings
            )
    return run


def draw(run: Run, series: Sequence[Point]) -> Figure:
    """Draw samples per second against batch size, rate against width, speed-up against threads."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(point.series for point in series))
    figure, axes = plt.subplots(1, len(names), figsize=(13, 4.4), layout="constrained")
    for ax, name in zip(axes, names, strict=True):
        of_series = [point for point in series if point.series == name]
        values = [point.value for point in of_series]
        for peer in run.cases[of_series[0].case.name].peers:
            figures = [FIGURES[name](run.cases[point.case.name], peer) for point in of_series]
            ax.plot(values, figures, markersize=5, linewidth=1.3, label=peer, **STYLES[peer])
        if name == "threads":
            ax.set_xticks(values)
            ax.set_ylim(bottom=0)
        else:
            make_logarithmic(ax.xaxis)
            ax.set_xticks(values, [f"{value:,}" for value in values], fontsize=8)
            make_logarithmic(ax.yaxis)
        ax.set(xlabel=name, title=TITLES[name])
        ax.title.set_fontsize(10)
        ax.grid(alpha=0.3)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9, frameon=False)
    figure.suptitle(f"Training 784-width-10. {machine_line(run)}", fontsize=11)
    return figure


TITLES = {
    "batch size": "thousand samples/s (width 200)",
    "width": "GFLOPS, skipped zeros included (batch 1,000)",
    "threads": "steps/s (width 200, batch 1,000)",
}


def thousands_of_samples(results: CaseResults, peer: str) -> float:
    return results.case.batch_size / median(results.peers[peer].ms_per_step)


def gflops(results: CaseResults, peer: str) -> float:
    return median(results.gflops(peer))


def steps_per_second(results: CaseResults, peer: str) -> float:
    return 1e3 / median(results.peers[peer].ms_per_step)


FIGURES = {"batch size": thousands_of_samples, "width": gflops, "threads": steps_per_second}


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_options(parser, ",".join(PEERS), ROUNDS, QUICK_ROUNDS)
    args = parser.parse_args()
    check_options(args, ROUNDS, QUICK_ROUNDS)
    args.peers = chosen_peers(args.peers, PEERS)
    return args


if __name__ == "__main__":
    main()
