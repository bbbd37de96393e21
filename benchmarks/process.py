"""A child process that answers each line of JSON with another: the driver's side."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from machine import cpus_limited

THREAD_VARIABLES = (
    "FASTMLP_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


FORCING_VARIABLES = ("FASTMLP_ISA", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
"""They make fastmlp, and NumPy's BLAS, run other kernels than those that they choose for this machine; an
older kernel would handicap a peer. A peer that is meant to be forced sets its own."""


class ProcessError(RuntimeError):
    """A child process ended before it answered; the message quotes the end of what it said on stderr."""


def environment(threads: int, further: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of every child: this one's, with the same number of threads, on the CPU."""
    kept = {name: value for name, value in os.environ.items() if name not in FORCING_VARIABLES}
    quiet = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return kept | dict.fromkeys(THREAD_VARIABLES, str(threads)) | quiet | dict(further or {})


class Process:
    """Starts a command on as many CPUs as threads, and talks to it; leaving the context ends it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        threads: int,
        further_environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        # Libraries say much that nobody needs to read unless they fail.
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (__exit__ closes it)
        with cpus_limited(threads):
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=environment(threads, further_environment),
                text=True,
            )

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request, wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            line = ""
        else:
            line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._log.seek(0)
            said = "".join(self._log.readlines()[-20:])
            raise ProcessError(f"{self.name}: its process ended, exit code {code}, after saying:\n{said}")
        answer: dict[str, Any] = json.loads(line)
        return answer
