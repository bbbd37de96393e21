"""A child process that answers each line of input with one line of JSON: the driver's side."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

THREAD_VARIABLES = (
    "FASTMLP_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class ProcessError(RuntimeError):
    """A child process ended before it answered; what it had to say stands on stderr."""


def environment(threads: int) -> dict[str, str]:
    """Return the environment of every child: this one's, with the same number of threads, on the CPU."""
    on_cpu = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    return os.environ | dict.fromkeys(THREAD_VARIABLES, str(threads)) | on_cpu


class Process:
    """Starts a command and talks to it; leaving the context ends it."""

    def __init__(self, name: str, command: Sequence[str | Path], threads: int) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(threads),
            text=True,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, request: str) -> dict[str, Any]:
        """Send a line, wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(request + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            line = ""
        else:
            line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise ProcessError(f"{self.name}: its process ended, exit code {code}; what it said is above.")
        answer: dict[str, Any] = json.loads(line)
        return answer
