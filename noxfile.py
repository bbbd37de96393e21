"""Checks that need a build or tools of their own: `nox -s asan`, `nox -s tsan`, `nox -s fuzz -- idx`.

The first two are new and have not been run from end to end yet; until they have, `.ci/run cpp` runs the C++
driver with sanitizers.

What follows `--` goes to pytest, as in `nox -s asan -- tests/test_kernels.py`, or names the targets to fuzz.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import nox

nox.options.sessions = ["asan"]
nox.options.error_on_missing_interpreters = True

# Tests of speed, of memory and of what the wheel brings along: a sanitizer changes all of these.
NOT_SANITIZED = ("test_benchmarks.py", "test_instructions.py", "test_import.py")


def install(session: nox.Session, flags: str, compiler: str | None = None) -> None:
    """Install fastmlp and its tests, compiled with these flags."""
    settings = ["build-dir=build/" + session.name, "cmake.build-type=Debug"]
    settings.append(f"cmake.define.CMAKE_CXX_FLAGS_DEBUG=-O1 -g1 -fno-omit-frame-pointer {flags}")
    if compiler is not None:
        settings.append("cmake.define.CMAKE_CXX_COMPILER=" + compiler)
    session.install(".[test]", *(f"--config-settings={setting}" for setting in settings))


def runtime_of(compiler: str, library: str) -> str:
    """Return the path of a runtime library, which the interpreter must load before anything else."""
    return subprocess.run(
        [compiler, f"-print-file-name={library}"], capture_output=True, text=True, check=True
    ).stdout.strip()


def pytest(session: nox.Session, environment: dict[str, str]) -> None:
    """Run the tests that a sanitizer can judge."""
    ignored = (f"--ignore=tests/{name}" for name in NOT_SANITIZED)
    # The tests' own programs inherit the environment: they are sanitized too.
    session.run("pytest", "-p", "no:cacheprovider", *ignored, *session.posargs, env=environment)


@nox.session
def asan(session: nox.Session) -> None:
    """Run the tests with AddressSanitizer and UndefinedBehaviorSanitizer (g++)."""
    install(session, "-fsanitize=address,undefined -fno-sanitize-recover=undefined")
    pytest(
        session,
        {
            "LD_PRELOAD": f"{runtime_of('g++', 'libasan.so')} {runtime_of('g++', 'libstdc++.so')}",
            # Python itself keeps memory to its end, so leaks are not looked for; tests of too little
            # memory want null, not an end, from the allocator.
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
            "PYTHONMALLOC": "malloc",
        },
    )


@nox.session
def tsan(session: nox.Session) -> None:
    """Run the tests of threads with ThreadSanitizer (clang, LLVM's OpenMP, and Archer, which explains it).

    Needs Debian's packages clang and libomp-dev.
    """
    install(session, "-fsanitize=thread", "clang++")
    archer = Path(runtime_of("clang++", "libomp.so")).resolve().parent / "libarcher.so"
    if not archer.exists():
        session.error("libarcher.so was not found; install it: sudo apt-get install clang libomp-dev")
    runtime = runtime_of("clang++", "libclang_rt.tsan-x86_64.so")
    pytest(
        session,
        {
            "LD_PRELOAD": runtime,
            "OMP_TOOL_LIBRARIES": str(archer),
            "ARCHER_OPTIONS": "verbose=0",
            "TSAN_OPTIONS": "ignore_noninstrumented_modules=1",
        },
    )


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz targets, or all, for 60 seconds each: `nox -s fuzz -- idx`; see tests/fuzz/run.py."""
    session.install(".[test]", "atheris")
    for target in session.posargs or ("idx", "model", "image"):
        session.run("python", "tests/fuzz/run.py", "--target", target, "--seconds", "60", "--log")
