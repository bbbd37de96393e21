"""One case: start a process per peer, verify what they do, then time them turn and turn about."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from cases import ACCURACY_CASE, ACCURACY_STEPS, Case
from numpy.typing import NDArray
from peers import PEERS
from problems import Problem, distorted, make_problem
from process import Process
from results import CaseResults, PeerResult, Turn
from verify import (
    check_last_steps,
    check_probabilities,
    check_steps,
    reference_losses,
    reference_probabilities,
)

WORKER = Path(__file__).with_name("worker.py")

PAUSE_SECONDS = 0.3  # OpenMP's threads wait actively for up to 0.2 s after their work

# Another start and other shuffles (scikit-learn's) were found to change an epoch's mean loss by some percent;
# that of a short run or of few samples more.
LAST_STEPS, LAST_STEPS_TOLERANCE = 100, 0.25


def measure(
    case: Case,
    peers: Sequence[str],
    *,
    rounds: int,
    threads: int,
    ceilings: Process | None,
) -> CaseResults:
    problem, not_the_real_data = make_problem(case)
    print(f"\n{case}, {case.steps:,} steps on {problem.data.name}, {rounds} rounds")
    if not_the_real_data:
        print(not_the_real_data)
    with tempfile.TemporaryDirectory() as name, ExitStack() as at_end:
        folder = Path(name)
        problem.save(folder)
        workers = {peer: start_worker(peer, folder, threads) for peer in peers}
        for worker in workers.values():
            at_end.enter_context(worker)
        results = verified(workers, problem, threads)
        take_turns(workers, ceilings, rounds, results)
        if case.name == ACCURACY_CASE:
            record_accuracy(workers, case.steps, results)
    return CaseResults(case, problem.data.name, results)


def start_worker(peer: str, folder: Path, threads: int) -> Process:
    entry = PEERS[peer]
    n = entry.threads or threads
    return Process(peer, [sys.executable, WORKER, peer, folder, str(n)], n, entry.environment)


def verified(workers: Mapping[str, Process], problem: Problem, threads: int) -> dict[str, PeerResult]:
    """Let every peer take its first turn, compare what came of it, and return what was learned on the way.

    These are the first turns of fresh processes: their peak memory counts; their time, which includes all
    compiling, is kept apart.
    """
    check = Check(problem)
    descriptions = {name: worker.ask(describe=True) for name, worker in workers.items()}
    peers = {}
    for name, worker in workers.items():
        run = worker.ask(run=None, report=True)
        deviation = check(name, run, descriptions[name]["tolerance"])
        print(f"  {name:24}{verdict(run, deviation)}", flush=True)
        peers[name] = PeerResult(
            descriptions[name],
            PEERS[name].ceiling,
            PEERS[name].threads or threads,
            run["seconds"],
            run.get("losses", []),
            run["accuracy"],
            run["peak_bytes"],
            deviation,
        )
    if problem.case.kind == "fit":
        n = min(max(problem.steps_per_epoch, LAST_STEPS), len(problem.order))
        plain = {name: peer.losses for name, peer in peers.items() if PEERS[name].plain}
        check_last_steps(plain, n, LAST_STEPS_TOLERANCE)
    return peers


def verdict(run: Mapping[str, Any], deviation: float | None) -> str:
    compared = "trains in its own way" if deviation is None else f"largest deviation {deviation:.1e}"
    return f"{compared}, test accuracy {run['accuracy']:.2%}"


class Check:
    """Compares a peer's turn with float64, within the peer's tolerance; returns the largest deviation."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.is_fit = problem.case.kind == "fit"
        if self.is_fit:
            n = min(problem.case.checked_steps, len(problem.order))
            print(f"verifying the first {n} steps' losses against float64:")
        else:
            print("verifying probabilities against float64:")
        self.reference = self.make_reference(problem)

    def make_reference(self, problem: Problem) -> NDArray[np.float64]:
        if self.is_fit:
            return reference_losses(problem, problem.case.checked_steps)
        return reference_probabilities(problem, len(problem.data.X_test))

    def __call__(self, name: str, run: Mapping[str, Any], tolerance: float | None) -> float | None:
        if tolerance is None:
            return None
        augment = PEERS[name].augment
        reference = self.make_reference(distorted(self.problem, augment)) if augment else self.reference
        if self.is_fit:
            return check_steps(name, run["losses"], reference, tolerance)
        return check_probabilities(name, run["probabilities"], reference, tolerance)


def take_turns(
    workers: Mapping[str, Process], ceilings: Process | None, rounds: int, peers: Mapping[str, PeerResult]
) -> None:
    """Time every peer once a round, while all the others wait; the ceilings right before each."""
    print("timing ", end="", flush=True)
    for order in orders(list(workers), rounds):
        for name in order:
            time.sleep(PAUSE_SECONDS)
            measured = ceilings.ask(threads=peers[name].threads) if ceilings else None
            run = workers[name].ask(run=None)
            peers[name].turns.append(Turn(run["seconds"], run["steps"], measured))
        print(".", end="", flush=True)
    print()


def orders(names: list[str], rounds: int) -> list[list[str]]:
    """Rotate the order from round to round, and reverse every other one, so that neighbours change too."""
    rotated = [names[i % len(names) :] + names[: i % len(names)] for i in range(rounds)]
    return [order[::-1] if i % 2 else order for i, order in enumerate(rotated)]


def record_accuracy(workers: Mapping[str, Process], steps: int, peers: Mapping[str, PeerResult]) -> None:
    """Let every peer train for fewer steps, and record the test accuracy after each such run."""
    for name, worker in workers.items():
        for fewer in (n for n in ACCURACY_STEPS if n < steps):
            run = worker.ask(run=fewer, report=True)
            peers[name].accuracy_after[run["steps"]] = run["accuracy"]
        peers[name].accuracy_after[peers[name].turns[0].steps] = peers[name].test_accuracy
