"""What the package may do, read from its source: so that nobody has to remember what SECURITY.md promises."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastmlp import datasets

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "python" / "fastmlp").glob("*.py*"))

# All that the package imports. Whoever adds to it says why that cannot run code, unpack objects or fetch.
ALLOWED_IMPORTS = frozenset(
    [
        *("__future__", "collections", "contextlib", "dataclasses", "decimal", "difflib"),
        *("errno", "functools", "gzip", "hashlib", "importlib", "io", "itertools", "json", "logging", "math"),
        *("multiprocessing", "operator"),
        *("os", "pathlib", "platform", "signal", "stat", "statistics", "struct", "sys", "tempfile"),
        *("threading", "time", "typing", "warnings", "weakref", "zlib"),
        *("PIL", "click", "fastmlp", "matplotlib", "numpy", "pandas", "pooch", "tensorboardX", "tqdm"),
    ]
)
# Only `benchmark`, which starts workers of its own and gives them what it has made itself.
ALLOWED_ONCE = {"multiprocessing": {"benchmark.py"}}

FORBIDDEN_NAMES = frozenset(["eval", "exec", "compile", "__import__", "breakpoint", "input"])
# Of whatever object: os.system, pandas.read_pickle, np.memmap, ...
FORBIDDEN_ATTRIBUTES = frozenset(
    [
        *("extractall", "fork", "fromfile", "genfromtxt", "load_library", "memmap", "mktemp", "popen"),
        *("posix_spawn", "posix_spawnp", "read_pickle", "startfile", "system", "to_pickle", "unpack_archive"),
    ]
)
FORBIDDEN_PREFIXES = ("exec", "spawn")  # of os's functions: execv, spawnl, ...
FORBIDDEN_ARGUMENTS = frozenset(["allow_pickle", "shell", "verify"])


def offences(source: str, name: str) -> Iterator[str]:
    """Yield what a module imports or calls that it must not."""
    for node in ast.walk(ast.parse(source)):
        where = f"{name}:{getattr(node, 'lineno', 0)}"
        match node:
            case ast.Import(names=names):
                modules = [alias.name for alias in names]
            case ast.ImportFrom(module=str(module), level=0):
                modules = [module]
            case _:
                modules = []
        for module in (module.partition(".")[0] for module in modules):
            if module not in ALLOWED_IMPORTS or name not in ALLOWED_ONCE.get(module, {name}):
                yield f"{where} imports {module}"
        match node:
            case ast.Name(id=called) if called in FORBIDDEN_NAMES:
                yield f"{where} uses {called}"
            case ast.Attribute(attr=called) if called in FORBIDDEN_ATTRIBUTES:
                yield f"{where} uses .{called}"
            case ast.Attribute(value=ast.Name(id="os"), attr=called) if called.startswith(FORBIDDEN_PREFIXES):
                yield f"{where} uses os.{called}"
            case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="load"):
                yield f"{where} uses np.load"
            case ast.keyword(arg=str(argument)) if argument in FORBIDDEN_ARGUMENTS:
                yield f"{where} passes {argument}="
            case ast.Constant(value=str(text)) if text.startswith(("http://", "ftp://")):
                yield f"{where} has the address {text}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_package_runs_unpacks_and_fetches_nothing_that_it_must_not(path: Path) -> None:
    assert list(offences(path.read_text("utf-8"), path.name)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import subprocess as sp",
        "import os, shelve",
        "from multiprocessing import Pool",
        "eval('1')",
        "getattr(builtins, 'x')(compile)",
        "os.system('ls')",
        "os.execv(path, [])",
        "np.load(path)",
        "np.memmap(path)",
        "pandas.read_pickle(path)",
        "run(command, shell=True)",
        "get(url, verify=False)",
        "URL = 'http://example.org/data'",
    ],
)
def test_offence_is_found(source: str) -> None:
    assert list(offences(source, "net.py"))


def test_downloads_are_over_https_and_have_a_hash_for_each_file() -> None:
    published = [value for value in vars(datasets).values() if isinstance(value, datasets._Published)]
    assert len(published) >= 2
    for data in published:
        assert all(mirror.startswith("https://") for mirror in data.mirrors)
        assert data.sha256.keys() == set(datasets.FILES)
        assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in data.sha256.values())


def test_actions_are_pinned_by_hash_and_tools_by_version() -> None:
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    if not workflows:
        pytest.skip("the workflows are not in this copy of the sources")
    for path in workflows:
        text = path.read_text("utf-8")
        for action in re.findall(r"uses: *(\S+)", text):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), f"{path.name}: {action}"
        for tool in re.findall(r"pipx run (\S+)", text):
            assert "==" in tool, f"{path.name}: {tool}"
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    for dependency in re.findall(r'additional_dependencies: \["([^"]+)"\]', hooks):
        assert "==" in dependency
