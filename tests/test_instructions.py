"""The guard that compares counts of instructions: it must notice what has changed, and only that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
COMMITTED = {"forward": 10_000, "adam": 500}

Check = Callable[..., int]


@pytest.fixture(scope="module")
def instructions() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import instructions

        yield instructions


@pytest.fixture
def check(instructions: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Check:
    """Give a function that runs the script on given counts; it returns the exit status."""

    def run(counts: dict[str, int], *options: str, compiler: str = "g++ 1.2.3") -> int:
        monkeypatch.setattr(instructions, "build", lambda *_, **__: None)
        monkeypatch.setattr(instructions, "count", lambda _: (compiler, counts))
        return instructions.main(["--figures", str(tmp_path / "figures.json"), *options])

    (tmp_path / "figures.json").write_text(json.dumps({"g++ 1.2.3": COMMITTED}))
    return run


@pytest.mark.parametrize(
    ("counts", "status", "said"),
    [
        ({"forward": 10_200, "adam": 490}, 0, "within 3%"),
        ({"forward": 10_400, "adam": 500}, 1, "forward: +4.0% instructions, which is slower"),
        ({"forward": 10_000, "adam": 480}, 1, "adam: -4.0% instructions: let the figure follow"),
        ({"forward": 10_000}, 1, "adam: has a figure, but does not exist"),
        ({"forward": 10_000, "adam": 500, "sgd": 1}, 1, "sgd: no figure is committed"),
    ],
)
def test_check_allows_three_percent_and_names_the_rest(
    check: Check, capsys: pytest.CaptureFixture[str], counts: dict[str, int], status: int, said: str
) -> None:
    assert check(counts) == status
    assert said in capsys.readouterr().out


def test_check_with_an_unknown_compiler_reports_and_passes(
    check: Check, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check({"forward": 99_999, "adam": 500}, compiler="clang 99") == 0
    assert "There are no figures for clang 99, only for g++ 1.2.3" in capsys.readouterr().out


def test_update_replaces_one_compilers_figures_and_keeps_the_others(check: Check, tmp_path: Path) -> None:
    assert check({"forward": 7}, "--update", compiler="clang 99") == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures == {"g++ 1.2.3": COMMITTED, "clang 99": {"forward": 7}}
    assert check({"forward": 7}, compiler="clang 99") == 0


def test_total_of_a_dump_is_read_from_its_line(instructions: ModuleType) -> None:
    dump = "version: 1\nevents: Ir\nsummary: 11153935\n\nfn=(1) f\n1 7\n\ntotals: 11153935\n"
    assert instructions.total(dump) == 11_153_935


def test_committed_figures_cover_the_same_workloads_for_every_compiler(instructions: ModuleType) -> None:
    figures = instructions.read_figures(instructions.FIGURES)
    assert figures
    assert len({frozenset(counts) for counts in figures.values()}) == 1
