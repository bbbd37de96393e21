"""The C++ programs of the benchmarks: built by the project's own CMake, without Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class BuildError(RuntimeError):
    """A program could not be built."""


def build(program: str, tree: Path = ROOT, folder: Path | None = None) -> Path:
    """Build one program of benchmarks/cpp from the checkout `tree`, and return where it is.

    folder: where to build; by default in the checkout's own build/benchmarks, where only what has changed is
    compiled again.
    """
    cmake = shutil.which("cmake")
    if cmake is None:
        raise BuildError("cmake was not found; `pip install cmake ninja` or `apt install cmake` brings it.")
    folder = folder or tree / "build" / "benchmarks"
    generator = ["-G", "Ninja"] if shutil.which("ninja") and not (folder / "CMakeCache.txt").exists() else []
    options = ["-DFASTMLP_BINDINGS=OFF", "-DFASTMLP_BENCHMARKS=ON"]
    _run([cmake, "-S", str(tree), "-B", str(folder), *generator, *options])
    _run([cmake, "--build", str(folder), "--parallel", "--target", program])
    return folder / "benchmarks" / "cpp" / program


def _run(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)} failed:\n{done.stdout.strip()}")
