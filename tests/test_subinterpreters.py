"""Subinterpreters: refused clearly and at once, and the main interpreter goes on."""

from __future__ import annotations

import subprocess
import sys

import pytest

# CPython's own modules for subinterpreters have changed their names and arguments.
CREATE = """
import sys
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    legacy, isolated = (interpreters.create(kind) for kind in ("legacy", "isolated"))
else:
    import _xxsubinterpreters as interpreters
    legacy, isolated = interpreters.create(isolated=False), interpreters.create(isolated=True)
"""
# What a script cannot return, it prints.
IMPORT = """
import sys
try:
    import fastmlp
except ImportError as error:
    print(f"ImportError: {error}; NumPy was loaded: {'numpy' in sys.modules}", flush=True)
"""
USE = "import fastmlp; assert fastmlp.Net([2, 2], seed=0).predict([[1.0, 0.0]]).shape == (1,)\n"


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="has CPython's subinterpreters")
@pytest.mark.parametrize("kind", ["legacy", "isolated"])
@pytest.mark.parametrize("before", ["", USE], ids=["first", "after the main one"])
def test_import_in_a_subinterpreter_is_an_import_error_before_numpy_is_loaded(kind: str, before: str) -> None:
    output = run(f"{CREATE}{before}interpreters.run_string({kind}, {IMPORT!r})\n{USE}print('done')")
    refusal, done = output.splitlines()
    assert refusal.startswith("ImportError: ")
    assert "subinterpreter" in refusal
    assert refusal.endswith("NumPy was loaded: False")
    assert done == "done"
