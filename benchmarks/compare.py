"""Train and predict in fastmlp and in its peers, turn and turn about: verify first, then time."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from cases import ACCURACY_CASE, CASES, GROUPS
from ceilings import start_ceilings
from footprint import measure_footprint
from machine import commit, describe, machine_facts, versions
from measure import measure
from options import add_options, check_options, chosen_peers, fail
from peers import PEERS
from plots import save_plots
from process import ProcessError
from report import case_table, ceilings_line, footprint_lines, settings, targets_table
from results import Run
from seeds import accuracies_of_seeds
from targets import verdicts
from verify import VerificationError

ROUNDS, QUICK_ROUNDS = 7, 3
IMPORTS, QUICK_IMPORTS = 5, 3


def main() -> None:
    args = parse_arguments()
    run, problems = measure_all(args)
    if not run.cases:
        sys.exit(f"compare.py: no case could be measured: {'; '.join(problems)}")

    print("\nsettings:")
    for line in settings(run):
        print(f"- {line}")
    print()
    for line in footprint_lines(run):
        print(line)
    judged = verdicts(run)
    print(f"\ntargets (medians{', of a quick run' if run.quick else ''}):\n{targets_table(judged)}")

    path = args.output / f"{run.commit}-{args.case}{'-quick' if run.quick else ''}.json"
    run.save(path, [verdict.as_json() for verdict in judged])
    plots = save_plots(run, path.with_suffix(""))
    print(f"\nwritten: {path}, {', '.join(plot.name for plot in plots)}")
    if problems:
        sys.exit("\n".join(f"compare.py: {problem}" for problem in problems))


def measure_all(args: argparse.Namespace) -> tuple[Run, list[str]]:
    """Measure case by case; a case that fails is left out, and said."""
    machine = machine_facts()
    print(f"commit {commit()}, {describe(machine)}, threads: {args.threads}")
    problems = []
    with tempfile.TemporaryDirectory() as folder, ExitStack() as at_end:
        ceilings, no_ceilings = start_ceilings(Path(folder), args.threads)
        if ceilings is not None:
            at_end.enter_context(ceilings)
        else:
            print(f"no ceilings: {no_ceilings}")
        run = Run(commit(), machine, versions(), args.threads, args.quick, no_ceilings)
        for name in args.cases:
            case = CASES[name].quick() if args.quick else CASES[name]
            if args.steps:
                case = replace(case, steps=args.steps)
            peers = [peer for peer in case.peers if peer in args.peers and PEERS[peer].can(case.kind)]
            if not peers:
                print(f"\n{case.name}: left out, none of its peers takes part")
                continue
            try:
                results = measure(case, peers, rounds=args.rounds, threads=args.threads, ceilings=ceilings)
            except (VerificationError, ProcessError) as error:
                print(f"\ncompare.py: {case.name}: {error}", file=sys.stderr)
                problems.append(f"{case.name}: {error}")
                continue
            run.cases[name] = results
            print(f"{case_table(results)}\n{ceilings_line(results)}", flush=True)
            if name == ACCURACY_CASE and "fastmlp-bf16" in peers:
                run.accuracies = accuracies_of_seeds(case.steps, args.threads)
        run.footprint = measure_footprint(args.peers, args.imports, args.threads, args.wheel)
    return run, problems


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python benchmarks/compare.py --quick --case lesson,predict1 --peers fastmlp,numpy",
        allow_abbrev=False,
    )
    names = ", ".join([*CASES, *GROUPS])
    parser.add_argument("--case", default="lesson", help=f"one or several of {names} (default: lesson)")
    add_options(parser, "all that are installed", ROUNDS, QUICK_ROUNDS)
    parser.add_argument("--steps", type=int, help="of every run, instead of the case's")
    parser.add_argument("--wheel", type=Path, help="whose size to report (default: the newest in dist/)")
    args = parser.parse_args(arguments)

    check_options(args, ROUNDS, QUICK_ROUNDS)
    if args.steps is not None and args.steps < 1:
        fail(f"--steps {args.steps}: at least 1 is needed.")
    if args.wheel is not None and not args.wheel.is_file():
        fail(f"--wheel {args.wheel}: there is no such file.")
    args.cases = chosen_cases(args.case)
    args.peers = chosen_peers(args.peers)
    args.imports = QUICK_IMPORTS if args.quick else IMPORTS
    return args


def chosen_cases(names: str) -> list[str]:
    chosen: list[str] = []
    for name in (name.strip() for name in names.split(",")):
        if name not in CASES and name not in GROUPS:
            fail(f"--case: {name!r} is none of {', '.join([*CASES, *GROUPS])}.")
        chosen += GROUPS.get(name, (name,))
    return list(dict.fromkeys(chosen))


if __name__ == "__main__":
    main()
