"""The process of one peer: `python worker.py PEER FOLDER THREADS`, started by measure.py.

Reads requests from standard input, a line of JSON each, and answers each with one on standard output:

{"describe": true}          who this is: version, setting, what its time includes, sizes of its thread pools
{"run": STEPS}              a timed turn: seconds, steps; all the steps of the case if STEPS is null
{"run": ..., "report": true}
                            the same, and what came of it: test accuracy, peak memory of the process so far,
                            and each step's loss, or the probabilities of the first test samples
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from machine import peak_memory
from numpy.typing import NDArray
from peers import PEERS, Peer, Predictor, Trainer
from problems import Parameters, Problem, as_floats

N_DIFFERENT_CALLS = 1000


def main() -> None:
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to standard error

    problem = Problem.load(folder)
    peer = PEERS[name].load(problem.case.kind)(problem, threads)
    run = train if problem.case.kind == "fit" else predict
    for line in sys.stdin:
        request = json.loads(line)
        if "describe" in request:
            answer = describe(peer)
        else:
            answer = run(peer, problem, request["run"], request.get("report", False))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def describe(peer: Peer) -> dict[str, Any]:
    return {
        "version": peer.version,
        "setting": peer.setting,
        "includes": peer.includes,
        "tolerance": peer.tolerance,
        "thread_pools": thread_pools(),
    }


def train(peer: Trainer, problem: Problem, steps: int | None, report: bool) -> dict[str, Any]:
    """Train as often from the start as a turn of the case asks; scikit-learn may take some steps less."""
    seconds = 0.0
    for _ in range(problem.case.repeats):
        peer.reset(problem.order[:steps])
        seconds += timed(peer.train)
    losses = np.asarray(peer.losses(), np.float64)
    answer = {"seconds": seconds, "steps": len(losses) * problem.case.repeats}
    if report:
        answer |= {
            "peak_bytes": peak_memory(),
            "losses": losses.tolist(),
            "accuracy": accuracy(peer.parameters(), problem),
        }
    return answer


def predict(peer: Predictor, problem: Problem, steps: int | None, report: bool) -> dict[str, Any]:
    """Ask for batch after batch of test samples, beginning anew when they are used up."""
    data, batch_size = problem.data, problem.case.batch_size
    n = min(len(data.X_test) // batch_size, N_DIFFERENT_CALLS) or 1
    batches = [data.X_test[i * batch_size : (i + 1) * batch_size] for i in range(n)]
    sequence = list(itertools.islice(itertools.cycle(batches), steps or len(problem.order)))

    def ask() -> None:
        for batch in sequence:
            peer.predict_proba(batch)

    answer: dict[str, Any] = {"seconds": timed(ask), "steps": len(sequence)}
    if report:
        answer["peak_bytes"] = peak_memory()
        probabilities = np.concatenate([peer.predict_proba(batch) for batch in batches])
        labels = data.y_test[: len(probabilities)]
        answer["probabilities"] = probabilities[:N_DIFFERENT_CALLS].tolist()
        answer["accuracy"] = float(np.mean(probabilities.argmax(axis=1) == labels))
    return answer


def timed(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def accuracy(parameters: Parameters, problem: Problem) -> float:
    """Return the fraction of test samples that the net classifies correctly; the same code for all peers."""
    *hidden, last = zip(*parameters, strict=True)
    h: NDArray[np.float32] = as_floats(problem.data.X_test)
    for weights, biases in hidden:
        h = np.maximum(h @ weights + biases, 0)
    return float(np.mean(np.argmax(h @ last[0] + last[1], axis=1) == problem.data.y_test))


def thread_pools() -> dict[str, int]:
    """Return the size of each thread pool that threadpoolctl finds in this process, if it is installed."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return {}
    return {Path(pool["filepath"]).name: pool["num_threads"] for pool in threadpool_info()}


if __name__ == "__main__":
    main()
