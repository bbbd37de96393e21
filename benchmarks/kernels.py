"""Time kernels, training steps and predictions on one thread, on each instruction set, beside what it can do.

    python benchmarks/kernels.py                                    all of it: about half a minute
    python benchmarks/kernels.py --only sparse --sets avx2
    python benchmarks/kernels.py --only dense --against ../other    two checkouts in turn: to choose tiles
    python benchmarks/kernels.py --only step --try gradient_input_panels=2,5,8    to choose a block size

It builds benchmarks/cpp on the spot. What is measured beside each workload is the rate of multiply-adds
between registers, or of copying as many bytes as it has in memory, with the same vectors on the same thread.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from machine import commit
from native import ROOT, BuildError, build
from process import Process, ProcessError
from results import middle_half, summary

HERE = Path(__file__).parent
ROUNDS = 9
SECONDS = 0.02  # of each workload in each round, and half as much for its ceilings
COLUMNS = ("workload", "microseconds", "rate", "of ceiling", "middle half", "executed", "of ceiling", "ratio")

Measurement = dict[str, float]


class Variant(NamedTuple):
    """A block size of the set's table to change for the time being, or "none" of them."""

    size: str = "none"
    value: int = 0

    def of(self, workload: str) -> str:
        """Return what to call a workload with this."""
        return workload if self.size == "none" else f"{workload}, {self}"

    def __str__(self) -> str:
        return f"{self.size}={self.value}"


@dataclass(frozen=True)
class Timed:
    """One workload on one instruction set: what it does, and what was measured in each round.

    Attributes
    ----------
    rounds : list of Measurement
    against : list of Measurement
        Of the other checkout, or of the first of the values that are tried.
    """

    rounds: list[Measurement]
    against: list[Measurement]

    @property
    def multiplies(self) -> bool:
        """Whether its work is counted in operations; else it is in bytes."""
        return self.rounds[0]["flops"] > 0

    @property
    def work(self) -> float:
        return self.rounds[0]["flops" if self.multiplies else "traffic"]

    @property
    def seconds(self) -> list[float]:
        return [each["seconds"] for each in self.rounds]

    @property
    def rates(self) -> list[float]:
        """In units of 10^9 a second; zeros count as work."""
        return [self.work / seconds * 1e-9 for seconds in self.seconds]

    @property
    def of_ceiling(self) -> list[float]:
        ceiling = "flops_ceiling" if self.multiplies else "copy_ceiling"
        return [rate * 1e9 / each[ceiling] for rate, each in zip(self.rates, self.rounds, strict=True)]

    @property
    def executed(self) -> float | None:
        """Part of the operations that is left when zeros are skipped; None if that is all, or not known."""
        flops, executed = self.rounds[0]["flops"], self.rounds[0]["executed_flops"]
        return executed / flops if 0 < executed < flops else None

    @property
    def ratios(self) -> list[float]:
        """The time of what this is compared with / this one's, in each round."""
        return [
            other["seconds"] / each["seconds"] for other, each in zip(self.against, self.rounds, strict=True)
        ]

    def as_json(self) -> dict[str, Any]:
        return {
            "unit": "GFLOPS" if self.multiplies else "GB/s",
            "microseconds": summary([1e6 * seconds for seconds in self.seconds]),
            "rate": summary(self.rates),
            "of_ceiling": summary(self.of_ceiling),
            "executed": self.executed,
            "ratio": summary(self.ratios) if self.against else None,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    try:
        programs = [build("kernel_benchmark", tree) for tree in (ROOT, args.against) if tree is not None]
        with ExitStack() as at_end:
            ours, *others = (
                at_end.enter_context(Process(f"kernel_benchmark of {program.parents[4]}", [program], 1))
                for program in programs
            )
            facts = ours.ask(request="describe")
            sets, workloads = chosen(facts, args.sets, args.only)
            check_size(facts, args.variants[-1])
            print(f"{facts['cpu']}, one thread, commit {commit()}, {args.rounds} rounds")
            timed = measure(ours, others, sets, workloads, args.variants, args.rounds)
    except (BuildError, ProcessError) as error:
        print(f"kernels.py: {error}", file=sys.stderr)
        return 2
    for name in sets:
        print(f"\n{described(name, facts['sets'][name])}\n{table(timed[name])}")
    tried = args.variants[1].size if len(args.variants) > 1 else None
    name = "-".join(filter(None, (commit(), "kernels", args.sets, args.only, tried)))
    name = re.sub(r"[^\w.+-]+", "_", name)  # --only is any text
    path = args.output / f"{name}.json"
    save(path, facts, timed)
    print(f"\nwritten: {path}")
    return 0


def chosen(facts: Mapping[str, Any], sets: str | None, only: str | None) -> tuple[list[str], list[str]]:
    """Return the instruction sets and workloads to measure."""
    names = list(facts["sets"]) if sets is None else [name.strip() for name in sets.split(",")]
    for name in names:
        if name not in facts["sets"]:
            fail(f"--sets: {name!r} is none of {', '.join(facts['sets'])}.")
    workloads = [name for name in facts["workloads"] if only is None or only in name]
    if not workloads:
        fail(f"--only: no workload has {only!r} in its name, of {', '.join(facts['workloads'])}.")
    return names, workloads


def check_size(facts: Mapping[str, Any], variant: Variant) -> None:
    """Refuse a size that no set has."""
    if variant.size not in ("none", *facts["sizes"]):
        fail(f"--try: {variant.size!r} is none of {', '.join(facts['sizes'])}.")


def measure_once(process: Process, name: str, workload: str, variant: Variant) -> Measurement:
    """Return what a process says of one workload on the instruction set of this name."""
    asked = {"set": name, "workload": workload, "seconds": SECONDS, **variant._asdict()}
    return process.ask(request="measure", **asked)


def measure(
    ours: Process,
    others: Sequence[Process],
    sets: Sequence[str],
    workloads: Sequence[str],
    variants: Sequence[Variant],
    rounds: int,
) -> dict[str, dict[str, Timed]]:
    """Go through all workloads once a round, so that what disturbs the machine disturbs all of them."""
    first = variants[0]
    timed: dict[str, dict[str, Timed]] = {name: {} for name in sets}
    for name in sets:
        for workload in workloads:
            timed[name][first.of(workload)] = base = Timed([], [])
            timed[name] |= {variant.of(workload): Timed([], base.rounds) for variant in variants[1:]}
    for number in range(rounds):
        for workload in workloads:
            for name in sets:
                turns = [(ours, variant, timed[name][variant.of(workload)].rounds) for variant in variants]
                turns += [(other, first, timed[name][first.of(workload)].against) for other in others]
                for process, variant, measurements in turns if number % 2 == 0 else reversed(turns):
                    measurements.append(measure_once(process, name, workload, variant))
        print(".", end="", flush=True)
    print()
    return timed


def described(name: str, facts: Mapping[str, int]) -> str:
    tile = f"{facts['tile_rows']} x {16 * facts['tile_panels']}"
    listed = f"{16 * facts['listed_row_panels']} and {facts['listed_group_columns']}"
    return (
        f"{name}: {facts['vector_bits']}-bit vectors; tiles of {tile}, lists of {listed} columns; "
        f"depth blocks of {facts['depth_block']}, row blocks of {facts['row_block']}"
    )


def table(workloads: Mapping[str, Timed]) -> str:
    rows = [COLUMNS, *(row(name, timed) for name, timed in workloads.items())]
    kept = [column for column in zip(*rows, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in kept]
    lines = []
    for cells in zip(*kept, strict=True):
        first, *rest = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        lines.append("  ".join([first.strip().ljust(widths[0]), *rest]))
    return "\n".join(lines)


def row(name: str, timed: Timed) -> tuple[str, ...]:
    rate, of_ceiling = median(timed.rates), median(timed.of_ceiling)
    low, high = middle_half(timed.of_ceiling)
    executed = timed.executed
    return (
        name,
        f"{1e6 * median(timed.seconds):,.1f}",
        f"{rate:,.1f} {'GFLOPS' if timed.multiplies else 'GB/s  '}",
        f"{of_ceiling:.0%}",
        f"{low:.0%}-{high:.0%}",
        f"{rate * executed:,.1f} GFLOPS" if executed else "",
        f"{of_ceiling * executed:.0%}" if executed else "",
        f"{median(timed.ratios):.3f}" if timed.against else "",
    )


def save(path: Path, facts: Mapping[str, Any], timed: Mapping[str, Mapping[str, Timed]]) -> None:
    sets = {
        name: {"facts": facts["sets"][name], "workloads": {w: t.as_json() for w, t in workloads.items()}}
        for name, workloads in timed.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"cpu": facts["cpu"], "commit": commit(), "sets": sets}, indent=1) + "\n")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Time kernels, steps and predictions on one thread.",
        epilog="example: python benchmarks/kernels.py --only sparse --sets avx2",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--sets", metavar="NAMES", help="some of the machine's instruction sets (default: all)"
    )
    parser.add_argument("--only", metavar="TEXT", help="workloads with this in their names (default: all)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"(default: {ROUNDS})")
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="time this checkout too, turn by turn"
    )
    parser.add_argument(
        "--try",
        dest="variants",
        type=variants,
        default=[Variant()],
        metavar="SIZE=VALUES",
        help="another value, or several, for a block size such as row_block",
    )
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder for the JSON file")
    args = parser.parse_args(arguments)
    if args.rounds < 1:
        fail(f"--rounds {args.rounds}: at least 1 round is needed.")
    if args.against is not None and len(args.variants) > 1:
        fail("--against and --try are two comparisons: one at a time.")
    if args.against is not None:
        args.against = args.against.resolve()
        if not (args.against / "benchmarks" / "cpp").is_dir():
            fail(f"--against {args.against}: there is no benchmarks/cpp in it.")
    return args


def variants(text: str) -> list[Variant]:
    """Return what to try: the sizes as they are, then with each of these values."""
    size, _equals, values = text.partition("=")
    if not size or not all(value.isdecimal() and int(value) > 0 for value in values.split(",")):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size and values, such as row_block=96,192")
    return [Variant(), *(Variant(size, int(value)) for value in values.split(","))]


def fail(message: str) -> None:
    print(f"kernels.py: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    sys.exit(main())
