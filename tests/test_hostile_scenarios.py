"""Threads, forks, pools and other libraries: nothing hangs, and results are right, each time."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hostile_scenarios import (
    IN_ONE_PROCESS,
    IN_SEVERAL,
    fork_after_use,
    fork_while_another_thread_fits_the_same_net,
    fork_while_other_threads_predict_with_the_same_net,
    lacking,
)

PROGRAM = Path(__file__).with_name("hostile_scenarios.py")
# Repeats of what stays in one process, and of what starts others: by default, and with `-m slow`.
FEW = 3, 1
MANY = 1000, 50
FORKING = (
    fork_after_use,
    fork_while_another_thread_fits_the_same_net,
    fork_while_other_threads_predict_with_the_same_net,
)

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


def repeat(scenario: Callable[[], None], counts: tuple[int, int], **environment: str) -> None:
    if missing := lacking(scenario):
        pytest.skip(f"there is no {missing} here")
    count = counts[0] if scenario in IN_ONE_PROCESS else counts[1]
    done = subprocess.run(
        [sys.executable, str(PROGRAM), scenario.__name__, str(count)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    print(done.stdout.strip())


@pytest.mark.parametrize("scenario", IN_ONE_PROCESS + IN_SEVERAL, ids=lambda s: s.__name__)
def test_process_repeated_a_few_times_neither_hangs_nor_errs(scenario: Callable[[], None]) -> None:
    repeat(scenario, FEW)


@pytest.mark.skipif(sys.platform != "linux", reason="exchanges the OpenMP library, as Linux can")
@pytest.mark.parametrize("scenario", FORKING, ids=lambda s: s.__name__)
def test_fork_with_llvms_openmp_in_place_of_the_compilers_neither_hangs_nor_errs(
    scenario: Callable[[], None],
) -> None:
    # As in environments of conda-forge, whose libgomp can be LLVM's. That has fork handlers of its own.
    library = ctypes.util.find_library("omp")
    if library is None:
        pytest.skip("LLVM's OpenMP library (Debian's libomp-dev) is not installed")
    preloaded = " ".join([*os.environ.get("LD_PRELOAD", "").split(), library])
    program = "import ctypes; ctypes.CDLL(None).kmp_get_blocktime"  # a function that g++'s library lacks
    environment = os.environ | {"LD_PRELOAD": preloaded}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    repeat(scenario, FEW, LD_PRELOAD=preloaded)


@pytest.mark.slow
@pytest.mark.parametrize("scenario", IN_ONE_PROCESS + IN_SEVERAL, ids=lambda s: s.__name__)
def test_process_repeated_many_times_neither_hangs_nor_errs(scenario: Callable[[], None]) -> None:
    """1,000 times what stays in one process, 50 times what starts others; `-s` shows the counts."""
    repeat(scenario, MANY)
