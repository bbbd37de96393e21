"""The number of threads: who decides, and what nonsense in the environment leads to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastmlp import Net, _core, _threads
from fastmlp._threads import MAX_THREADS, ThreadCount, cgroup_quota, thread_count


@pytest.fixture(autouse=True)
def machine_of_eight(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight processors, no quota, nothing in the environment."""
    monkeypatch.delenv("FASTMLP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(_threads, "_n_processors", lambda: 8)
    monkeypatch.setattr(_threads, "_quota_of_this_process", lambda: None)
    monkeypatch.setattr(_core, "threads_by_default", lambda: 8)


def test_thread_count_by_default_is_that_of_the_processors() -> None:
    assert thread_count() == ThreadCount(8, "the processors this process may use", False)


def test_thread_count_given_beats_everything_and_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "2")
    monkeypatch.setenv("OMP_NUM_THREADS", "nonsense")
    assert thread_count(20) == ThreadCount(20, "threads=20", True)


def test_thread_count_own_variable_beats_the_others_and_may_exceed_the_processors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FASTMLP_NUM_THREADS", " 12 ")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert thread_count() == ThreadCount(12, "FASTMLP_NUM_THREADS", False)


@pytest.mark.parametrize(
    ("openmp", "quota", "count", "source"),
    [
        ("3", None, 3, "OMP_NUM_THREADS"),
        ("8", None, 8, "OMP_NUM_THREADS"),
        ("3,2", None, 3, "OMP_NUM_THREADS"),
        ("64", None, 8, "the processors this process may use"),
        ("", None, 8, "the processors this process may use"),
        ("5", 2, 2, "the CPU quota of its control group"),
        ("2", 5, 2, "OMP_NUM_THREADS"),
        ("", 100_000, 8, "the processors this process may use"),
    ],
)
def test_thread_count_is_the_smallest_of_the_limits(
    monkeypatch: pytest.MonkeyPatch, openmp: str, quota: int | None, count: int, source: str
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", openmp)
    monkeypatch.setattr(_threads, "_quota_of_this_process", lambda: quota)
    assert thread_count() == ThreadCount(count, source, False)


@pytest.mark.parametrize("variable", ["FASTMLP_NUM_THREADS", "OMP_NUM_THREADS"])
@pytest.mark.parametrize("value", ["0", "-1", "two", "2.0", "1025", "1" * 5000, "٣", "0x2", ",2", "+2"])
def test_thread_count_bad_variable_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=f"{variable} is .* from 1 to {MAX_THREADS}"):
        thread_count()


def test_bad_variable_stops_fit_before_any_work_but_not_the_import(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net([2, 2], seed=0)
    before = net.weights[0]
    monkeypatch.setenv("FASTMLP_NUM_THREADS", "many")
    with pytest.raises(ValueError, match="FASTMLP_NUM_THREADS is 'many'"):
        net.fit(np.zeros((4, 2), np.float32), [0, 1, 0, 1])
    np.testing.assert_array_equal(net.weights[0], before)


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000", None),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("0 100000", None),
        ("1 0", None),
        ("", None),
        ("what is this", None),
        ("-1 100000", None),
    ],
)
def test_cgroup_quota_version_2_is_quota_over_period_rounded_up(
    tmp_path: Path, quota: str, expected: int | None
) -> None:
    write(tmp_path, cgroup="0::/a/b\n")
    write(tmp_path / "fs" / "a" / "b", cpu__max=quota)
    assert cgroup_quota(f"{tmp_path}/cgroup", f"{tmp_path}/fs") == expected


def test_cgroup_quota_version_2_is_the_smallest_on_the_way_to_the_root(tmp_path: Path) -> None:
    write(tmp_path, cgroup="0::/a/b\n")
    write(tmp_path / "fs" / "a" / "b", cpu__max="800000 100000")
    write(tmp_path / "fs" / "a", cpu__max="300000 100000")
    write(tmp_path / "fs", cpu__max="max 100000")
    assert cgroup_quota(f"{tmp_path}/cgroup", f"{tmp_path}/fs") == 3


@pytest.mark.parametrize("mount", ["cpu,cpuacct", "cpu"])
def test_cgroup_quota_version_1_is_read_from_the_cpu_controller(tmp_path: Path, mount: str) -> None:
    write(tmp_path, cgroup="7:memory:/a\n4:cpu,cpuacct:/docker/x\n0::/a\n")
    write(tmp_path / "fs" / "memory" / "a", cpu__cfs_quota_us="100000", cpu__cfs_period_us="100000")
    # As seen from inside of a container: its own group is the root of the mount.
    write(tmp_path / "fs" / mount, cpu__cfs_quota_us="250000", cpu__cfs_period_us="100000")
    assert cgroup_quota(f"{tmp_path}/cgroup", f"{tmp_path}/fs") == 3


def test_cgroup_quota_version_1_without_a_limit_is_none(tmp_path: Path) -> None:
    write(tmp_path, cgroup="4:cpu:/\n")
    write(tmp_path / "fs" / "cpu", cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert cgroup_quota(f"{tmp_path}/cgroup", f"{tmp_path}/fs") is None


def test_cgroup_quota_path_outside_of_what_is_seen_falls_back_to_the_root(tmp_path: Path) -> None:
    write(tmp_path, cgroup="0::/../secret\n")
    write(tmp_path / "secret", cpu__max="100000 100000")
    write(tmp_path / "fs", cpu__max="400000 100000")
    assert cgroup_quota(f"{tmp_path}/cgroup", f"{tmp_path}/fs") == 4


def test_cgroup_quota_without_control_groups_is_none(tmp_path: Path) -> None:
    assert cgroup_quota(tmp_path / "missing", tmp_path) is None


def test_thread_count_on_this_machine_is_positive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.delenv("FASTMLP_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert 1 <= thread_count().n_threads <= MAX_THREADS
