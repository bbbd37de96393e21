"""The examples in the docstrings of Net and what belongs to it."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    "_threads",
    "callbacks",
    "history",
    "initializers",
    "metrics",
    "net",
    "optimizers",
    "progress",
    "schedules",
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_run_and_are_right(name: str) -> None:
    module = importlib.import_module(f"fastmlp.{name}")
    done = doctest.testmod(module)
    assert done.attempted > 0
    assert done.failed == 0
