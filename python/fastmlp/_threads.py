"""How many threads to use, and who said so."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Final, NamedTuple

from fastmlp import _core

MAX_THREADS: Final = 1024


class ThreadCount(NamedTuple):
    """A number of threads, where it came from, and whether it is an order or an upper limit."""

    n_threads: int
    source: str
    required: bool


def thread_count(threads: int | None = None) -> ThreadCount:
    """Decide how many threads to use.

    In order of precedence: the argument, which is obeyed; ``FASTMLP_NUM_THREADS``, an upper limit; the
    smallest of ``OMP_NUM_THREADS`` (its first number), the processors that this process may run on, the CPU
    quota of its control group, rounded up, and what OpenMP itself would use, which threadpoolctl sets. An
    environment variable that is empty counts as not set.

    Parameters
    ----------
    threads : int, optional
        A number that the user gave, already checked.

    Returns
    -------
    ThreadCount
        The number, its source in words, and whether exactly that number must run.

    Raises
    ------
    ValueError
        If an environment variable that is consulted holds anything but a whole number from 1 to 1024.

    Examples
    --------
    >>> thread_count(3)
    ThreadCount(n_threads=3, source='threads=3', required=True)
    """
    if threads is not None:
        return ThreadCount(threads, f"threads={threads}", True)
    own = os.environ.get("FASTMLP_NUM_THREADS", "")
    openmp = os.environ.get("OMP_NUM_THREADS", "")
    return _default_count(
        own.strip(), openmp.strip(), _n_processors(), _quota_of_this_process(), _core.threads_by_default()
    )


@functools.lru_cache(maxsize=8)  # asked for at every prediction, and the answer hardly ever changes
def _default_count(
    own: str, openmp: str, n_processors: int, quota: int | None, openmp_limit: int
) -> ThreadCount:
    if own:
        return ThreadCount(_parsed("FASTMLP_NUM_THREADS", own, own), "FASTMLP_NUM_THREADS", False)
    limits = []
    if openmp:  # may be a list, one number for each level of nesting
        count = _parsed("OMP_NUM_THREADS", openmp.partition(",")[0].strip(), openmp)
        limits.append(ThreadCount(count, "OMP_NUM_THREADS", False))
    limits.append(ThreadCount(min(n_processors, MAX_THREADS), "the processors this process may use", False))
    if quota is not None:
        limits.append(ThreadCount(min(quota, MAX_THREADS), "the CPU quota of its control group", False))
    limits.append(ThreadCount(min(openmp_limit, MAX_THREADS), "the limit that OpenMP was given", False))
    return min(limits, key=lambda limit: limit.n_threads)  # of equal ones the first names the source


def _parsed(variable: str, number: str, value: str) -> int:
    if number.isascii() and number.isdecimal() and len(number) <= 9 and 1 <= int(number) <= MAX_THREADS:
        return int(number)
    raise ValueError(
        f"The environment variable {variable} is {value!r}, but must be a whole number from 1 to "
        f"{MAX_THREADS}; correct it or unset it."
    )


def _n_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def n_usable_processors() -> int:
    """Return how many processors this process can keep busy: those it may run on, or its CPU quota."""
    quota = _quota_of_this_process()
    return _n_processors() if quota is None else min(_n_processors(), quota)


@functools.cache  # some ten files; a quota changed in mid-process is not worth reading them at every call
def _quota_of_this_process() -> int | None:
    return cgroup_quota("/proc/self/cgroup", "/sys/fs/cgroup")


def cgroup_quota(membership: str, root: str) -> int | None:
    """Read how many processors' worth of time the control groups of a process allow it, versions 1 and 2.

    Every group on the way from the process's own to the root of the hierarchy may set a quota; the smallest
    holds. A container often sees its own group as the root, so what is missing on the way is passed over.

    Parameters
    ----------
    membership : str
        The process's list of groups, ``/proc/self/cgroup``.
    root : str
        Where the hierarchies are mounted, ``/sys/fs/cgroup``.

    Returns
    -------
    int or None
        The quota divided by its period, rounded up, at least 1; None if there is no quota.
    """
    quotas = []
    for folder in _group_folders(membership, root):
        unified = _read_numbers(folder, "cpu.max")
        if len(unified) == 2:
            quotas.append((unified[0], unified[1]))
        quota, period = (
            _read_numbers(folder, "cpu.cfs_quota_us"),
            _read_numbers(folder, "cpu.cfs_period_us"),
        )
        if len(quota) == len(period) == 1:
            quotas.append((quota[0], period[0]))
    limits = [max(1, -(-quota // period)) for quota, period in quotas if quota > 0 and period > 0]
    return min(limits, default=None)


def _group_folders(membership: str, root: str) -> Iterator[str]:
    """Folders that may hold a quota: of the process's groups and of all groups that contain them."""
    try:
        with open(membership, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        parts = [part for part in path.split("/") if part]
        if ".." in parts:  # a group outside of what this process sees
            parts = []
        for mount in (controllers, "cpu") if controllers else ("", "unified"):
            for depth in range(len(parts), -1, -1):
                yield os.path.join(root, mount, *parts[:depth])


def _read_numbers(folder: str, file_name: str) -> list[int]:
    """Whole numbers in a file, none if it cannot be read or holds anything else, such as "max"."""
    try:
        with open(os.path.join(folder, file_name), encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except (OSError, ValueError):
        return []
