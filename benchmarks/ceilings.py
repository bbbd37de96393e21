"""What the machine can do at best, measured by ceilings.cpp, which is compiled for it on the spot."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from process import Process

SOURCE = Path(__file__).with_name("ceilings.cpp")
FLAGS = ("-O3", "-march=native", "-ffp-contract=fast", "-std=c++17", "-pthread")


def start_ceilings(folder: Path, threads: int) -> tuple[Process | None, str | None]:
    """Compile the program into folder and start it, for as many threads as are given at most.

    It is asked by `ask(threads=n)`. Return None, and why, if there is none.
    """
    compiler = find_compiler()
    if compiler is None:
        return None, "no C++ compiler was found (set CXX)"
    program = folder / "ceilings"
    command = [compiler, *FLAGS, str(SOURCE), "-o", str(program)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None, f"{' '.join(command)} failed: {done.stderr.strip()}"
    return Process("ceilings", [program, str(threads)], threads), None


def find_compiler() -> str | None:
    names = [os.environ.get("CXX", ""), "c++", "g++", "clang++"]
    return next((path for name in names if name and (path := shutil.which(name))), None)
