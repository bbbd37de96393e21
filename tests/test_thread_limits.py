"""What really limits threads: chosen processors, control groups, variables, and how much there is to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmlp import _threads

# How many threads trained one big step and one tiny step, and who decided; when it is told to begin.
TRAIN = """
input()
import numpy as np
from fastmlp import Net
from fastmlp._threads import thread_count
for sizes, n_samples in (([784, 200, 10], 1000), ([8, 4, 2], 32)):
    net = Net(sizes, seed=0)
    X, y = np.ones((n_samples, sizes[0]), np.float32), np.zeros(n_samples, int)
    net.fit(X, y, steps=1, batch_size=n_samples)
    print(net._last_run.team_size)
print(thread_count().source)
"""
GROUPS = Path("/sys/fs/cgroup")
PERIOD = 100_000  # microseconds
ONE_PROCESSOR = PERIOD * 9 // 10  # rounded up

pytestmark = pytest.mark.skipif(
    min(_threads._n_processors(), _threads._quota_of_this_process() or 2) < 2,
    reason="no limit shows where one processor, or a quota of one, is all there is",
)


def teams(*before: str, group: Path | None = None, **environment: str) -> tuple[int, int, str]:
    """Run TRAIN behind a command, in a control group: team sizes of the big and of the tiny step, and why."""
    kept = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    with subprocess.Popen(
        [*before, sys.executable, "-c", TRAIN],
        env=kept | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if group is not None:
                enter(group, process.pid)
            output, errors = process.communicate("\n", timeout=120)
        finally:
            process.kill()
    assert process.returncode == 0, errors
    big, tiny, source = output.splitlines()
    return int(big), int(tiny), source


def enter(group: Path, pid: int) -> None:
    try:
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        pytest.skip(f"no process can be put into a control group here: {error}")


def test_threads_without_a_limit_are_the_processors_for_a_big_step_and_one_for_a_tiny_step() -> None:
    big, tiny, _ = teams()
    assert big >= 2  # fewer than the processors if a quota says so
    assert tiny == 1


def test_threads_of_a_tiny_step_are_one_however_many_are_allowed() -> None:
    assert teams(FASTMLP_NUM_THREADS="8") == (8, 1, "FASTMLP_NUM_THREADS")


def test_threads_under_omp_num_threads_are_no_more() -> None:
    assert teams(OMP_NUM_THREADS="1") == (1, 1, "OMP_NUM_THREADS")


def test_threads_under_taskset_are_the_processors_it_leaves() -> None:
    if shutil.which("taskset") is None:
        pytest.skip("there is no taskset here")
    first, second = sorted(os.sched_getaffinity(0))[:2]
    source = "the processors this process may use"
    assert teams("taskset", "-c", str(first)) == (1, 1, source)
    assert teams("taskset", "-c", f"{first},{second}") == (2, 1, source)


@pytest.fixture
def group_version_1() -> Iterator[Path]:
    yield from new_group(GROUPS / "cpu", "cpu.cfs_quota_us")


@pytest.fixture
def group_version_2() -> Iterator[Path]:
    yield from new_group(GROUPS, "cpu.max")


def new_group(mount: Path, limit: str) -> Iterator[Path]:
    """Make a control group, and remove it; skip if that is not allowed here or gives no limits."""
    group = mount / f"fastmlp-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        if not (group / limit).exists():
            pytest.skip(f"control groups here have no {limit}")
        yield group
    finally:
        group.rmdir()


def test_threads_under_a_quota_of_cgroup_version_1_are_no_more(group_version_1: Path) -> None:
    (group_version_1 / "cpu.cfs_period_us").write_text(str(PERIOD))
    (group_version_1 / "cpu.cfs_quota_us").write_text(str(ONE_PROCESSOR))
    assert teams(group=group_version_1) == (1, 1, "the CPU quota of its control group")


def test_threads_under_a_quota_of_cgroup_version_2_are_no_more(group_version_2: Path) -> None:
    (group_version_2 / "cpu.max").write_text(f"{ONE_PROCESSOR} {PERIOD}")
    assert teams(group=group_version_2) == (1, 1, "the CPU quota of its control group")
