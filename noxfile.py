"""Checks that need a build or tools of their own: `nox -s asan`, `nox -s tsan`, `nox -s fuzz -- idx`.

What follows `--` goes to pytest, as in `nox -s asan -- tests/test_kernels.py`, or names the targets to fuzz.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import nox

nox.options.sessions = ["asan"]
nox.options.error_on_missing_interpreters = True

# A sanitizer changes what these judge: speed, memory, and what an import loads. Those of accuracy, and of a
# hundred steps, do what others do, for a quarter of an hour. The last ones limit address space, of which
# sanitizers take terabytes.
NOT_SANITIZED = (
    "test_benchmarks.py",
    "test_import.py",
    "test_instructions.py",
    "test_lesson.py",
    "test_memory.py",
    "test_train_accuracy.py",
    "test_core_agreement.py::test_training_of_100_steps_follows_the_oracle",
    "test_hostile_process.py::test_threads_that_cannot_be_started",
)


def install(session: nox.Session, flags: str, compiler: str | None = None) -> None:
    """Install fastmlp and its tests, compiled with these flags."""
    settings = ["build-dir=build/" + session.name, "cmake.build-type=Debug"]
    settings.append(f"cmake.define.CMAKE_CXX_FLAGS_DEBUG=-O1 -g1 -fno-omit-frame-pointer {flags}")
    if compiler is not None:
        settings.append("cmake.define.CMAKE_CXX_COMPILER=" + compiler)
    session.install(".[test]", *(f"--config-settings={setting}" for setting in settings))


def runtime_of(compiler: str, library: str) -> str:
    """Return the path of a runtime library, which the interpreter must load before anything else."""
    return said_by(compiler, f"-print-file-name={library}")


def said_by(*command: str) -> str:
    """Return what a program prints, without the end of the line."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def pytest(session: nox.Session, runtime: str, environment: dict[str, str]) -> None:
    """Run the tests that a sanitizer can judge, with its runtime loaded before all else."""
    throwing_new = str(Path(session.create_tmp()).resolve() / "throwing_new.so")
    compile_it = ("g++", "-std=c++20", "-shared", "-fPIC", "tests/cpp/throwing_new.cpp", "-o", throwing_new)
    session.run(*compile_it, external=True)
    preloaded = (throwing_new, runtime, runtime_of("g++", "libstdc++.so"))
    for library in preloaded:  # ld.so would go on without it, and the test with less or nothing sanitized
        if not Path(library).is_absolute() or not Path(library).exists():
            session.error(f"{library} was not found; the compiler's sanitizers are not installed")
    # Capturing Python's output alone lets a report be seen though it ends the process.
    options = ("-p", "no:cacheprovider", "--capture=sys")
    deselected = (f"--deselect=tests/{name}" for name in NOT_SANITIZED)
    # The tests' own programs inherit the environment: they are sanitized too.
    preloading = environment | {"LD_PRELOAD": " ".join(preloaded)}
    session.run("pytest", *options, *deselected, *session.posargs, env=preloading)


@nox.session
def asan(session: nox.Session) -> None:
    """Run the tests with AddressSanitizer and UndefinedBehaviorSanitizer (g++)."""
    install(session, "-fsanitize=address,undefined -fno-sanitize-recover=undefined")
    environment = {
        # Python itself keeps memory to its end, so leaks are not looked for; tests of too little memory want
        # null, not an end, from the allocator; throwing_new.so stands before the runtime.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:verify_asan_link_order=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    }
    pytest(session, runtime_of("g++", "libasan.so"), environment)


@nox.session
def tsan(session: nox.Session) -> None:
    """Run the tests with ThreadSanitizer (clang, LLVM's OpenMP, and Archer, which explains it).

    Needs Debian's packages clang and libomp-dev.
    """
    install(session, "-fsanitize=thread", "clang++")
    archer = Path(said_by("clang++", "-print-resource-dir")).parents[1] / "libarcher.so"
    if not archer.exists():
        session.error("libarcher.so was not found; install it: sudo apt-get install clang libomp-dev")
    environment = {
        "OMP_TOOL_LIBRARIES": str(archer),
        "ARCHER_OPTIONS": "verbose=0",
        # Children of fork start threads, as they may; a process that ends while a daemon thread trains cannot
        # join OpenMP's threads.
        "TSAN_OPTIONS": "ignore_noninstrumented_modules=1:die_after_fork=0:allocator_may_return_null=1"
        ":report_thread_leaks=0",
    }
    # g++'s runtime has the functions that clang calls; clang 14's own cannot be preloaded.
    pytest(session, runtime_of("g++", "libtsan.so"), environment)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Fuzz targets, or all, for 60 seconds each: `nox -s fuzz -- idx`; see tests/fuzz/run.py."""
    session.install(".[test]", "atheris")
    for arguments in [("--target", target) for target in session.posargs] or [()]:
        session.run("python", "tests/fuzz/run.py", *arguments, "--log")
