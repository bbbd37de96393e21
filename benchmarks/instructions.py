"""A guard against creeping slowness that needs no clock: count instructions, compare with committed figures.

    python benchmarks/instructions.py             count, compare; exits with 1 if any count is 3 % off
    python benchmarks/instructions.py --update    count, and commit the figures with what explains them

valgrind's callgrind counts what the workloads of benchmarks/cpp execute on one thread with AVX2 (it knows no
AVX-512). The same compiler makes the same program, so counts do not vary from run to run. They are not times:
what needs fewer instructions may still be slower, which compare.py and kernels.py tell.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from native import BuildError, build

FIGURES = Path(__file__).with_name("instructions.json")
ALLOWED = 0.03
COUNTED = "fastmlp_counted"  # the function inside of which everything counts

Counts = dict[str, int]
Figures = dict[str, Counts]  # by compiler


class CountingError(RuntimeError):
    """There are no counts to compare."""


def main(arguments: Sequence[str] | None = None) -> int:
    args = parse_arguments(arguments)
    figures = read_figures(args.figures)
    try:
        compiler, counts = count(build("instruction_counter", folder=args.build))
    except (BuildError, CountingError) as error:
        print(f"instructions.py: {error}", file=sys.stderr)
        return 2
    committed = figures.get(compiler)
    print(table(counts, committed or {}))
    if args.update:
        figures[compiler] = counts
        write_figures(args.figures, figures)
        print(f"written: {args.figures}, the figures of {compiler}")
        return 0
    if committed is None:
        known = ", ".join(figures) or "none"
        print(f"There are no figures for {compiler}, only for {known}; nothing was compared.")
        print("`python benchmarks/instructions.py --update` adds them.")
        return 0
    found = complaints(counts, committed)
    for line in found:
        print(line)
    if found:
        print("If this is meant, run `python benchmarks/instructions.py --update` and say in the commit why.")
        return 1
    print(f"All {len(counts)} counts are within {ALLOWED:.0%} of the figures for {compiler}.")
    return 0


def complaints(counts: Mapping[str, int], committed: Mapping[str, int]) -> list[str]:
    """Say which workloads differ by more than is allowed, or are on one side only."""
    found = []
    for name in counts | committed:
        if name not in committed:
            found.append(f"{name}: no figure is committed.")
        elif name not in counts:
            found.append(f"{name}: has a figure, but does not exist.")
        elif (change := counts[name] / committed[name] - 1) > ALLOWED:
            found.append(f"{name}: {change:+.1%} instructions, which is slower.")
        elif change < -ALLOWED:
            found.append(f"{name}: {change:+.1%} instructions: let the figure follow, to guard the gain.")
    return found


def table(counts: Mapping[str, int], committed: Mapping[str, int]) -> str:
    width = max(map(len, counts))
    lines = [f"{'workload':{width}}  instructions     committed   change"]
    for name, n in counts.items():
        if name in committed:
            lines.append(f"{name:{width}}  {n:12,}  {committed[name]:12,}  {n / committed[name] - 1:+7.2%}")
        else:
            lines.append(f"{name:{width}}  {n:12,}             -        -")
    return "\n".join(lines)


def count(program: Path) -> tuple[str, Counts]:
    """Run the program under callgrind; return its compiler and the instructions of each workload."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        raise CountingError("valgrind was not found; `apt install valgrind` brings it.")
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        switches = ["--collect-atstart=no", f"--toggle-collect={COUNTED}", f"--dump-after={COUNTED}"]
        command = [valgrind, "--tool=callgrind", *switches, f"--callgrind-out-file={out}", str(program)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CountingError(f"{' '.join(command)} failed:\n{done.stderr.strip()}")
        first, *names = done.stdout.splitlines()
        # Each call of the function dumps one part; what is left at the end is one more, and empty.
        totals = [total(out.with_name(f"out.{part}").read_text()) for part in range(1, len(names) + 1)]
    return first.removeprefix("compiler "), dict(zip(names, totals, strict=True))


def total(dump: str) -> int:
    """Return the instructions that a part of callgrind's output has counted."""
    line = next(line for line in dump.splitlines() if line.startswith("totals:"))
    return int(line.removeprefix("totals:"))


def read_figures(path: Path) -> Figures:
    figures: Figures = json.loads(path.read_text()) if path.exists() else {}
    return figures


def write_figures(path: Path, figures: Figures) -> None:
    path.write_text(json.dumps(figures, indent=2) + "\n")


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Count instructions and compare them with committed figures."
    )
    parser.add_argument("--update", action="store_true", help="write the figures of this compiler anew")
    parser.add_argument("--build", type=Path, help="where to build (default: build/benchmarks)")
    parser.add_argument(
        "--figures", type=Path, default=FIGURES, help=f"default: {FIGURES.name} beside this file"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
