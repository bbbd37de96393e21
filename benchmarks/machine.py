"""Where and with what the figures came about."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("fastmlp", "numpy", "torch", "jax", "jaxlib", "keras", "scikit-learn", "threadpoolctl")

BUSY = 0.5  # processes that want to run, averaged over a minute


def n_cpus() -> int:
    """Return how many CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def cpus_limited(threads: int) -> Iterator[None]:
    """Leave all that is started meanwhile as many CPUs as threads: some pools go by that alone."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def peak_memory() -> int:
    """Return the most bytes that this process has held in memory so far."""
    status = Path("/proc/self/status")
    if status.exists():  # getrusage counts, on Linux, what the parent held when it started this process
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # macOS: bytes


def machine_facts() -> dict[str, Any]:
    from fastmlp import _core

    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _core.cpu_name(),
        "cpus": n_cpus(),
        "memory_gb": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def describe(machine: dict[str, Any]) -> str:
    text = "{cpu}, {cpus} CPUs, {memory_gb} GB, {system}"
    if machine["load_before"] > BUSY:
        text += "\nThe machine is busy (load {load_before}): milliseconds mean nothing, and ratios little."
    return text.format(**machine)


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def commit(but: str | None = None) -> str:
    """Return the short hash of the checkout, with "-dirty" if tracked files, but in one folder, differ."""
    short_hash = git("rev-parse", "--short", "HEAD")
    if not short_hash:
        return "unknown"
    paths = [] if but is None else ["--", ":/", f":(top,exclude){but}"]
    return short_hash + ("-dirty" if git("status", "--porcelain", "--untracked-files=no", *paths) else "")


def git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()
