"""The process of one peer: `python worker.py PEER FOLDER THREADS`, started by compare.py.

Reads requests from standard input, a line each, and answers each with one line of JSON on standard output:

describe    who this is: version, setting, what its time includes, sizes of its thread pools
train       one run from the start: seconds, losses, test accuracy, peak memory of the process so far
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cases import Problem
from numpy.typing import NDArray
from peers import PEERS, Peer


def main() -> None:
    name, folder, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to standard error

    problem = Problem.load(folder)
    peer = PEERS[name].load()(problem, threads)
    for request in sys.stdin:
        answer = describe(peer) if request.strip() == "describe" else train(peer, problem)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def describe(peer: Peer) -> dict[str, Any]:
    return {
        "version": peer.version,
        "setting": peer.setting,
        "includes": peer.includes,
        "same_start_and_order": peer.same_start_and_order,
        "thread_pools": thread_pools(),
    }


def train(peer: Peer, problem: Problem) -> dict[str, Any]:
    peer.reset()
    begin = time.perf_counter()
    peer.train()
    seconds = time.perf_counter() - begin
    peak_bytes = peak_memory()
    losses = np.asarray(peer.losses(), np.float64)
    return {
        "seconds": seconds,
        "steps": len(losses),
        "losses": losses.tolist(),
        "accuracy": accuracy(*peer.parameters(), problem.test_images, problem.test_labels),
        "peak_bytes": peak_bytes,
    }


def accuracy(
    weights: Sequence[NDArray[np.float32]],
    biases: Sequence[NDArray[np.float32]],
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
) -> float:
    """Return the fraction of images that the net classifies correctly; the same code for all peers."""
    h = images / np.float32(255)
    for layer_weights, layer_biases in zip(weights[:-1], biases[:-1], strict=True):
        h = np.maximum(h @ layer_weights + layer_biases, 0)
    return float(np.mean(np.argmax(h @ weights[-1] + biases[-1], axis=1) == labels))


def peak_memory() -> int:
    """Return the most bytes that this process has held in memory so far."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts, on Linux, what the parent held when it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


def thread_pools() -> dict[str, int]:
    """Return the size of each thread pool that threadpoolctl finds in this process, if it is installed."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return {}
    return {Path(pool["filepath"]).name: pool["num_threads"] for pool in threadpool_info()}


if __name__ == "__main__":
    main()
