"""Processes that are killed while they train and save, and go on afterwards."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PROGRAM = Path(__file__).with_name("kill_and_resume.py")
N_KILLS = int(os.environ.get("FASTMLP_KILLS", "200"))
LONGEST_LIFE = 0.4  # seconds of training; the whole of it takes about one


def start(folder: Path) -> subprocess.Popen[bytes]:
    """Begin, or go on, and return when it trains or has found nothing left to do."""
    command = [sys.executable, str(PROGRAM), str(folder / "checkpoint"), str(folder / "result.npz")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def assert_same_result(folder: Path, expected: Path) -> None:
    with np.load(folder / "result.npz") as found, np.load(expected / "result.npz") as wanted:
        assert set(found) == set(wanted)
        for name in wanted:
            np.testing.assert_array_equal(found[name], wanted[name])


@pytest.mark.slow
def test_fit_killed_at_random_moments_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    """Kill with SIGKILL until FASTMLP_KILLS processes, by default 200, have died of it while they trained."""
    straight = tmp_path / "straight"
    straight.mkdir()
    with start(straight) as process:
        assert process.wait() == 0
    rng = random.Random(0)
    n_kills = n_runs = 0
    while n_kills < N_KILLS:
        folder = tmp_path / f"run {n_runs}"
        folder.mkdir()
        n_runs += 1
        status = -signal.SIGKILL
        while status == -signal.SIGKILL:
            with start(folder) as process:
                try:
                    status = process.wait(rng.uniform(0, LONGEST_LIFE))
                except subprocess.TimeoutExpired:
                    process.kill()
                    status = process.wait()
                    n_kills += status == -signal.SIGKILL
        assert status == 0
        assert_same_result(folder, straight)
    print(f"{n_kills} processes killed in {n_runs} runs, each of which ended with the same bits")
