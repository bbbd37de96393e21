"""Train one net in fastmlp and in its peers, turn and turn about: verify first, then time."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from cases import CASES, Problem, make_problem
from ceilings import start_ceilings
from imports import import_seconds
from machine import commit, describe, limit_cpus, machine_facts, n_cpus, versions
from peers import PEERS
from process import Process, ProcessError
from report import notes, save_plot, table
from results import PeerResult, Results, Turn
from verify import VerificationError, check_last_epoch, check_steps, reference_losses

HERE = Path(__file__).parent
ROUNDS, QUICK_ROUNDS = 9, 3
IMPORTS, QUICK_IMPORTS = 5, 3

PAUSE_SECONDS = 0.3  # OpenMP's threads wait actively for up to 0.2 s after their work

# In float64, an error of 1e-6 in the start was found to grow to 1.4e-4 in the loss within 100 steps; so
# float32's roundings of 6e-8 grow to about 1e-5, as the peers show. Adam with an epsilon of 1e-7 is 4e-4 off.
CHECKED_STEPS, STEP_TOLERANCE = 100, 1e-4
# Another start and other shuffles (scikit-learn's) were found to change an epoch's mean loss by some percent.
LAST_EPOCH_TOLERANCE = 0.25


def main() -> None:
    args = parse_arguments()
    case = CASES[args.case]
    problem, not_mnist = make_problem(case, case.quick_steps if args.quick else case.steps)
    if not_mnist:
        print(f"not MNIST but {problem.data_name}: {not_mnist}")

    results = measure(problem, args)

    print(f"\n{table(results)}\n")
    for note in notes(results):
        print(f"- {note}")
    path = args.output / f"{results.commit}-{case.name}{'-quick' if args.quick else ''}.json"
    results.save(path)
    save_plot(results, path.with_suffix(".png"))
    print(f"\nwritten: {path} and {path.with_suffix('.png').name}")


def measure(problem: Problem, args: argparse.Namespace) -> Results:
    """Start one process per peer, verify what they do, then time it."""
    machine, revision = machine_facts(), commit()
    print(f"{problem.case}, {problem.steps:,} steps on {problem.data_name}, threads: {args.threads}")
    print(f"commit {revision}, {describe(machine)}")
    limit_cpus(args.threads)
    with tempfile.TemporaryDirectory() as name, ExitStack() as at_end:
        folder = Path(name)
        problem.save(folder)
        ceilings, no_ceilings = start_ceilings(folder, args.threads)
        if ceilings is not None:
            at_end.enter_context(ceilings)
        workers = {name: start_worker(name, folder, args.threads) for name in args.peers}
        for worker in workers.values():
            at_end.enter_context(worker)

        peers = verified(workers, problem)
        take_turns(workers, ceilings, args.rounds, peers)
        modules = {name: PEERS[name].import_name for name in peers}
        imports = import_seconds(modules.values(), args.imports, args.threads, folder)
    for name, peer in peers.items():
        peer.import_seconds = imports[modules[name]]
    return Results(
        problem.case,
        problem.data_name,
        problem.steps,
        args.threads,
        revision,
        machine,
        versions(),
        peers,
        no_ceilings,
    )


def start_worker(peer: str, folder: Path, threads: int) -> Process:
    return Process(peer, [sys.executable, HERE / "worker.py", peer, folder, str(threads)], threads)


def verified(workers: Mapping[str, Process], problem: Problem) -> dict[str, PeerResult]:
    """Let every peer train once, compare what it reached, and return what was learned on the way.

    These are the first runs of fresh processes: their peak memory counts; their time, which includes all
    compiling, is kept apart.
    """
    n_checked = min(CHECKED_STEPS, problem.steps)
    print(f"\nverifying the first {n_checked} steps' losses against float64, to within {STEP_TOLERANCE:g}:")
    reference = reference_losses(problem, n_checked)
    descriptions = {name: worker.ask("describe") for name, worker in workers.items()}
    peers = {}
    for name, worker in workers.items():
        run = worker.ask("train")
        deviation = None
        if descriptions[name]["same_start_and_order"]:
            deviation = check_steps(name, run["losses"], reference, STEP_TOLERANCE)
        verdict = "own start and order" if deviation is None else f"largest deviation {deviation:.1e}"
        last = float(np.mean(run["losses"][-problem.steps_per_epoch :]))
        reached = f"last epoch's loss {last:.5f}, test accuracy {run['accuracy']:.2%}"
        print(f"  {name:15}{verdict}, {reached}", flush=True)
        peers[name] = PeerResult(
            descriptions[name], run["seconds"], run["losses"], run["accuracy"], run["peak_bytes"], deviation
        )
    losses = {name: peer.losses for name, peer in peers.items()}
    check_last_epoch(losses, problem.steps_per_epoch, LAST_EPOCH_TOLERANCE)
    return peers


def take_turns(
    workers: Mapping[str, Process], ceilings: Process | None, rounds: int, peers: Mapping[str, PeerResult]
) -> None:
    """Time every peer once a round, while all the others wait; the ceilings right before each."""
    print(f"timing, {rounds} rounds: ", end="", flush=True)
    for order in orders(list(workers), rounds):
        for name in order:
            time.sleep(PAUSE_SECONDS)
            measured = ceilings.ask("measure") if ceilings else None
            run = workers[name].ask("train")
            peers[name].turns.append(Turn(run["seconds"], run["steps"], measured))
        print(".", end="", flush=True)
    print()


def orders(names: list[str], rounds: int) -> list[list[str]]:
    """Rotate the order from round to round, and reverse every other one, so that neighbours change too."""
    rotated = [names[i % len(names) :] + names[: i % len(names)] for i in range(rounds)]
    return [order[::-1] if i % 2 else order for i, order in enumerate(rotated)]


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python benchmarks/compare.py --quick --peers fastmlp,numpy",
        allow_abbrev=False,
    )
    parser.add_argument("--case", default="lesson", choices=CASES, help="what to train (default: lesson)")
    parser.add_argument("--peers", help=f"some of {','.join(PEERS)} (default: all that are installed)")
    parser.add_argument("--threads", type=int, default=n_cpus(), help="for every peer (default: all CPUs)")
    parser.add_argument("--rounds", type=int, help=f"turns of each ({ROUNDS}; with --quick {QUICK_ROUNDS})")
    parser.add_argument("--quick", action="store_true", help="fewer steps and rounds: not to be quoted")
    parser.add_argument("--output", type=Path, default=HERE / "results", help="folder for JSON and plot")
    args = parser.parse_args(arguments)

    if not 1 <= args.threads <= n_cpus():
        fail(f"--threads {args.threads}: this machine offers 1 to {n_cpus()} CPUs.")
    if args.rounds is not None and args.rounds < 1:
        fail(f"--rounds {args.rounds}: at least 1 round is needed.")
    if not PEERS["fastmlp"].is_installed():
        fail("fastmlp is not installed here: run `pip install .` first.")
    args.peers = chosen_peers(args.peers)
    args.rounds = args.rounds or (QUICK_ROUNDS if args.quick else ROUNDS)
    args.imports = QUICK_IMPORTS if args.quick else IMPORTS
    return args


def chosen_peers(names: str | None) -> list[str]:
    if names is None:
        missing = [name for name, peer in PEERS.items() if not peer.is_installed()]
        if missing:
            print(f"left out, not installed: {', '.join(missing)}")
        return [name for name in PEERS if name not in missing]
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in chosen:
        if name not in PEERS:
            fail(f"--peers: {name!r} is none of {', '.join(PEERS)}.")
        if not PEERS[name].is_installed():
            fail(f"--peers: {name} is not installed here.")
    return chosen


def fail(message: str) -> None:
    print(f"compare.py: {message}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    try:
        main()
    except (VerificationError, ProcessError) as error:
        sys.exit(f"\ncompare.py: {error}")
