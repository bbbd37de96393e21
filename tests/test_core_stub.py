"""The stub `_core.pyi`, which type checkers read, says what the extension has: no more, no less."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import fastmlp
from fastmlp import _core

STUB = Path(fastmlp.__file__).with_name("_core.pyi").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Parameter:
    """One parameter as a caller sees it."""

    name: str
    keyword_only: bool
    optional: bool


# What stands under a dotted name: a function's parameters, or "property", or "class" with its bases. A stub
# can declare a submodule only as a class of static methods, so a submodule counts as a class too.
Face = tuple[Parameter, ...] | str


def stub_faces(source: str) -> dict[str, Face]:
    """Read the names that a stub declares."""

    def visit(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Face]]:
        for node in body:
            if isinstance(node, ast.FunctionDef):
                decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
                is_property = "property" in decorators
                yield prefix + node.name, "property" if is_property else stub_parameters(node.args)
            elif isinstance(node, ast.ClassDef):
                yield prefix + node.name, class_face([ast.unparse(base) for base in node.bases])
                yield from visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.AnnAssign):
                yield prefix + ast.unparse(node.target), "property"

    return dict(visit(ast.parse(source).body, ""))


def stub_parameters(arguments: ast.arguments) -> tuple[Parameter, ...]:
    positional = [*arguments.posonlyargs, *arguments.args]
    n_required = len(positional) - len(arguments.defaults)
    return tuple(
        [Parameter(argument.arg, False, i >= n_required) for i, argument in enumerate(positional)]
        + [
            Parameter(argument.arg, True, default is not None)
            for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        ]
    )


def extension_faces(module: ModuleType) -> dict[str, Face]:
    """Read the names that a compiled module has, from its objects and the signatures in their docstrings."""

    def visit(owner: object, prefix: str) -> Iterator[tuple[str, Face]]:
        for name, value in vars(owner).items():
            if name.startswith("_") and not (name == "__init__" and has_signature(value)):
                continue
            if inspect.isclass(value):
                yield prefix + name, class_face([base.__name__ for base in value.__bases__])
                yield from visit(value, f"{prefix}{name}.")
            elif inspect.ismodule(value):
                yield prefix + name, class_face([])
                yield from visit(value, f"{prefix}{name}.")
            elif isinstance(value, property):
                yield prefix + name, "property"
            else:
                yield prefix + name, docstring_parameters(value)

    return dict(visit(module, ""))


def class_face(bases: list[str]) -> str:
    return f"class({', '.join(base for base in bases if base not in {'object', 'pybind11_object'})})"


def has_signature(function: object) -> bool:
    return (inspect.getdoc(function) or "").startswith("__init__(self: ")


def docstring_parameters(function: object) -> tuple[Parameter, ...]:
    """Parse the first line of what pybind11 writes: `name(self: Type, a: int, *, b: str = '') -> None`."""
    signature = (inspect.getdoc(function) or "").partition("\n")[0]
    inside = signature[signature.index("(") + 1 : signature.rindex(")", 0, signature.rindex("->"))]
    parameters = []
    keyword_only = False
    for part in top_level_parts(inside):
        if part == "*":
            keyword_only = True
        else:
            name = part.partition(":")[0].partition("=")[0].strip()
            parameters.append(Parameter(name, keyword_only, " = " in part))
    return tuple(parameters)


def top_level_parts(text: str) -> Iterator[str]:
    """Split at the commas that no bracket encloses."""
    depth = start = 0
    for i, character in enumerate(text):
        depth += (character in "[(<{") - (character in "])>}")
        if character == "," and depth == 0:
            yield text[start:i].strip()
            start = i + 1
    if text[start:].strip():
        yield text[start:].strip()


def differences(stub: dict[str, Face], extension: dict[str, Face]) -> list[str]:
    found = [f"{name} is in the stub alone" for name in stub.keys() - extension.keys()]
    found += [f"{name} is in the extension alone" for name in extension.keys() - stub.keys()]
    found += [
        f"{name}: the stub says {stub[name]}, the extension {extension[name]}"
        for name in stub.keys() & extension.keys()
        if stub[name] != extension[name]
    ]
    return sorted(found)


def test_core_and_its_types_tell_where_they_are_found() -> None:
    types = [value for value in vars(_core).values() if inspect.isclass(value)]
    assert types
    assert {_core.__name__, *(kind.__module__ for kind in types)} == {"fastmlp._core"}


def test_stub_declares_exactly_what_the_extension_has() -> None:
    assert differences(stub_faces(STUB), extension_faces(_core)) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("def cpu_name(", "def processor_name("),
        ("def cpu_name() ->", "def cpu_name(long: bool) ->"),
        ("    def sum_rows(", "    def sum_columns("),
        ("class TrainerState:", "class State:"),
        ("stopped: str", "stop_reason: str"),
        ("    def snapshot(self)", "    def copy(self)"),
        ("n_layers: int, threads", "layers: int, threads"),
        ("mixed_bfloat16: bool = False", "mixed_bfloat16: bool"),
        ("        *,\n        mixed_bfloat16", "        mixed_bfloat16"),
        ("class Network:", "class Network(ValueError):"),
        ("    @property\n    def instruction_set(self)", "    def instruction_set(self)"),
    ],
)
def test_differences_altered_stub_is_noticed(old: str, new: str) -> None:
    assert STUB.count(old) >= 1
    altered = STUB.replace(old, new, 1)
    assert len(differences(stub_faces(altered), extension_faces(_core))) >= 1


def test_docstring_parameters_nested_types_and_defaults_are_read() -> None:
    def sample() -> None: ...

    sample.__doc__ = "sample(self: A, x: dict[str, tuple[int, T]], *, y: B = 'p', z: int = -1) -> list[int]"
    assert docstring_parameters(sample) == (
        Parameter("self", False, False),
        Parameter("x", False, False),
        Parameter("y", True, True),
        Parameter("z", True, True),
    )
