"""Threads, forks, pools and other libraries: nothing hangs, and results are right, each time."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hostile_scenarios import IN_ONE_PROCESS, IN_SEVERAL, lacking

PROGRAM = Path(__file__).with_name("hostile_scenarios.py")
# Repeats of what stays in one process, and of what starts others: by default, and with `-m slow`.
FEW = 3, 1
MANY = 1000, 50

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def repeat(scenario: Callable[[], None], counts: tuple[int, int]) -> None:
    if missing := lacking(scenario):
        pytest.skip(f"there is no {missing} here")
    count = counts[0] if scenario in IN_ONE_PROCESS else counts[1]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), scenario.__name__, str(count)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout.strip())


@pytest.mark.parametrize("scenario", IN_ONE_PROCESS + IN_SEVERAL, ids=lambda s: s.__name__)
def test_process_repeated_a_few_times_neither_hangs_nor_errs(scenario: Callable[[], None]) -> None:
    repeat(scenario, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", IN_ONE_PROCESS + IN_SEVERAL, ids=lambda s: s.__name__)
def test_process_repeated_many_times_neither_hangs_nor_errs(scenario: Callable[[], None]) -> None:
    """1,000 times what stays in one process, 50 times what starts others; `-s` shows the counts."""
    repeat(scenario, MANY)
