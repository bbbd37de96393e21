"""The house's rules, held against the source: who may import whom, and what each part of the C++ may know."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "python" / "fastmlp"

# The rooms, lowest first. A module imports only from rooms below its own; the package's own __init__ is the
# front door, which may show all of them and which none of them may use.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"_core"}),
    frozenset({"_atomic_file", "_numpy_net", "_random", "_samples", "_threads", "_validation", "errors"}),
    frozenset(
        {"_notes", "_safetensors", "_scale", "augment", "history", "idx", "initializers", "optimizers"}
    ),
    frozenset({"_schedule", "_shared_network", "callbacks", "metrics"}),
    frozenset({"_sample_weights", "losses", "progress", "schedules"}),
    frozenset({"_run"}),
    frozenset({"_job", "_observers", "_prediction", "model_file"}),
    frozenset({"_training"}),
    frozenset({"glyphs", "net"}),
    frozenset({"datasets", "images", "plots"}),
    frozenset({"benchmark"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
LEVEL = {module: level for level, room in enumerate(LAYERS) for module in room}

# Net, fit, predict, save and load work without these, so no module may need one in order to be imported. The
# command line is imported by its own script alone, and is made of click's decorators.
LAZY_PACKAGES = frozenset({"matplotlib", "PIL", "pooch", "tqdm", "click"})
EAGER_BY_DESIGN = {"cli": frozenset({"click"})}

# Which folders of cpp/ each of them may include from; "kernel_table.h" is the one door into cpp/kernels.
CPP_MAY_INCLUDE = {
    "kernels": frozenset({"kernels", "kernel_table.h"}),
    "dispatch": frozenset({"dispatch", "kernel_table.h"}),
    "core": frozenset({"core", "kernel_table.h"}),
    "bindings": frozenset({"bindings", "core", "dispatch", "kernel_table.h"}),
}
KNOWS_PYTHON = frozenset({"bindings"})
KNOWS_INSTRUCTION_SETS = frozenset({"kernels", "dispatch"})
KNOWS_OPENMP = frozenset({"core/parallel.h", "core/parallel.cpp"})

PYTHON_IN_CPP = re.compile(r"pybind11|Python\.h|\bpy::|\bPy[A-Z_]\w*")
INSTRUCTION_SET_IN_CPP = re.compile(
    r"avx|neon|\bsse|sse[234]|_mm\d*_|__m(128|256|512)|\w+mmintrin|immintrin|\bsve|\bamx|cpuid",
    re.IGNORECASE,
)
OPENMP_IN_CPP = re.compile(r"#\s*pragma\s+omp\b|<omp\.h>|\bomp_\w+|\b_OPENMP\b")
QUOTED_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


def imported_names(source: str) -> Iterator[tuple[str, bool]]:
    """Yield the dotted name of everything imported, and whether importing the module already imports it.

    `from a import b` gives "a.b"; a relative import is one from fastmlp. Imports for the type checker alone
    count as imports, but not as made when the module is imported.
    """

    def visit(node: ast.AST, eager: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, eager) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = (["fastmlp"] if node.level else []) + ([node.module] if node.module else [])
            yield from ((".".join([*parts, alias.name]), eager) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for statement in node.body:
                yield from visit(statement, False)
            for statement in node.orelse:
                yield from visit(statement, eager)
        else:
            inner = eager and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(node):
                yield from visit(child, inner)

    yield from visit(ast.parse(source), True)


def module_imports_against_the_rules(module: str, source: str) -> list[str]:
    """List what `module` imports from its own room, from one above, through the front door, or too early."""
    complaints = []
    for name, eager in imported_names(source):
        package, _, rest = name.partition(".")
        if package == "fastmlp" and module != "__init__":
            target = rest.partition(".")[0]
            if target not in LEVEL:
                complaints.append(f"{module} imports {name} through the front door; name the module it is in")
            elif LEVEL[target] >= LEVEL[module]:
                complaints.append(f"{module} imports {target}, which is not in a room below it")
        elif package in LAZY_PACKAGES - EAGER_BY_DESIGN.get(module, frozenset()) and eager:
            complaints.append(f"{module} imports {package} at its top; import it where it is needed")
    return complaints


def cpp_against_the_rules(path: str, source: str, folder_of: dict[str, str]) -> list[str]:
    """List what the file at `path`, relative to cpp/, names or includes but should not.

    folder_of: header name to the folder of cpp/ that holds it.
    """
    folder = path.partition("/")[0]
    complaints = []
    rules = (
        (PYTHON_IN_CPP, folder in KNOWS_PYTHON, "Python"),
        (INSTRUCTION_SET_IN_CPP, folder in KNOWS_INSTRUCTION_SETS, "an instruction set"),
        (OPENMP_IN_CPP, path in KNOWS_OPENMP, "OpenMP"),
    )
    for pattern, allowed, what in rules:
        found = pattern.search(source)
        if found and not allowed:
            line = source.count("\n", 0, found.start()) + 1
            complaints.append(f"{path}:{line} names {what}: {found.group()}")
    for include in QUOTED_INCLUDE.findall(source):
        name = include.rpartition("/")[2]
        if not {name, folder_of.get(name, include)} & CPP_MAY_INCLUDE[folder]:
            complaints.append(f"{path} includes {include}, which {folder} must not know")
    return complaints


def python_modules() -> list[Path]:
    return sorted(PACKAGE.glob("**/*.py"))


def cpp_files() -> list[Path]:
    return sorted(path for path in (ROOT / "cpp").rglob("*") if path.suffix in {".cpp", ".h", ".inl"})


def header_folders() -> dict[str, str]:
    return {path.name: path.relative_to(ROOT / "cpp").parts[0] for path in cpp_files()}


@pytest.mark.parametrize("path", python_modules(), ids=lambda path: path.stem)
def test_python_module_imports_only_from_rooms_below_it(path: Path) -> None:
    assert path.stem == "__init__" or path.stem in LEVEL, f"give {path.name} a room in LAYERS"
    assert module_imports_against_the_rules(path.stem, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("path", cpp_files(), ids=lambda path: str(path.relative_to(ROOT / "cpp")))
def test_cpp_file_knows_only_what_its_folder_may(path: Path) -> None:
    relative = path.relative_to(ROOT / "cpp").as_posix()
    assert cpp_against_the_rules(relative, path.read_text(encoding="utf-8"), header_folders()) == []


def test_source_tree_is_where_the_rules_look_for_it() -> None:
    assert {"net", "cli", "idx"} <= {path.stem for path in python_modules()}
    assert {path.relative_to(ROOT / "cpp").parts[0] for path in cpp_files()} == set(CPP_MAY_INCLUDE)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("idx", "from fastmlp.net import Net"),
        ("idx", "import fastmlp.cli"),
        ("net", "from fastmlp import plots"),
        ("net", "from . import datasets"),
        ("net", "from .net import Net"),
        ("optimizers", "from fastmlp.initializers import Normal"),
        ("cli", "from fastmlp import Net"),
        ("errors", "def late():\n    from fastmlp.history import History"),
        ("history", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from fastmlp.net import Net"),
        ("plots", "import matplotlib.pyplot as plt"),
        ("plots", "try:\n    from matplotlib import cm\nexcept ImportError:\n    cm = None"),
        ("net", "class Late:\n    import tqdm"),
        ("__init__", "from PIL import Image"),
        ("datasets", "import click"),
    ],
)
def test_import_rule_refuses_a_bad_module(module: str, source: str) -> None:
    assert len(module_imports_against_the_rules(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("net", "import numpy as np\nfrom fastmlp import _core\nfrom .history import History"),
        ("plots", "def draw():\n    import matplotlib.pyplot"),
        ("plots", "import typing\nif typing.TYPE_CHECKING:\n    from matplotlib.axes import Axes"),
        ("cli", "import click\nfrom fastmlp import plots, net"),
        ("__init__", "from fastmlp.net import Net\nfrom fastmlp import idx"),
    ],
)
def test_import_rule_lets_a_good_module_pass(module: str, source: str) -> None:
    assert module_imports_against_the_rules(module, source) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/network.cpp", "#include <pybind11/pybind11.h>"),
        ("core/network.cpp", "#include <Python.h>"),
        ("core/network.cpp", "#include <immintrin.h>"),
        ("core/network.cpp", "#include <arm_neon.h>"),
        ("core/network.cpp", "#ifdef __AVX2__"),
        ("core/network.cpp", "// as wide as SSE2"),
        ("core/trainer.cpp", "const auto& table = kAvx512;"),
        ("bindings/module.cpp", 'm.def("has_neon", f);'),
        ("core/trainer.cpp", "#pragma omp parallel"),
        ("core/trainer.cpp", "const int team = omp_get_num_threads();"),
        ("bindings/module.cpp", "#include <omp.h>"),
        ("kernels/kernels.cpp", "  #  pragma omp simd"),
        ("core/trainer.cpp", '#include "dispatch/dispatch.h"'),
        ("core/trainer.cpp", '#include "kernels/simd.h"'),
        ("kernels/kernels.cpp", '#include "core/network.h"'),
        ("core/trainer.cpp", '#include "unheard_of.h"'),
    ],
)
def test_cpp_rule_refuses_a_bad_file(path: str, source: str) -> None:
    folder_of = {"dispatch.h": "dispatch", "simd.h": "kernels", "network.h": "core"}
    assert len(cpp_against_the_rules(path, source, folder_of)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("core/parallel.cpp", '#include <omp.h>\n#include "core/parallel.h"'),
        ("core/network.cpp", '#include "../kernels/kernel_table.h"\n// processes classes, missed by nobody'),
        ("kernels/simd.h", "#include <immintrin.h>\n__m512 v;"),
        ("dispatch/dispatch.cpp", "return cpu_has(kAvx2);"),
        ("bindings/module.cpp", '#include <pybind11/pybind11.h>\nbuild_info["OpenMP"] = openmp_version();'),
    ],
)
def test_cpp_rule_lets_a_good_file_pass(path: str, source: str) -> None:
    assert cpp_against_the_rules(path, source, {"parallel.h": "core"}) == []
