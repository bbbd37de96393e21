"""The comparison of the C++ driver's output between machines: it must notice whatever differs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]
GOOD = (
    "baseline multiply 1x1 00\navx2 multiply 1x1 aa\navx2 adam 16 bb\nneon multiply 1x1 aa\nneon adam 16 bb\n"
)


@pytest.fixture(scope="module")
def compare_bits() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compare_bits", ROOT / "tests" / "cpp" / "compare_bits.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("old", "new", "n_differences"),
    [
        ("neon adam 16 bb", "neon adam 16 bc", 1),
        ("neon adam 16 bb\n", "", 1),
        ("avx2 adam 16 bb\n", "", 1),
        ("neon", "avx2", 1),
        ("multiply", "multiply", 0),
        ("baseline multiply 1x1 00", "baseline multiply 1x1 01", 0),
        ("neon adam", "neon train_mixed_bfloat16 0\nneon adam", 0),
        ("neon adam", "neon train_mixed_bfloat16_odd 0\nneon adam", 0),
        ("neon adam", "neon pairs_multiply 1x1x1 0\nneon adam", 0),
    ],
)
def test_differences_count_what_fused_sets_do_not_share(
    compare_bits: ModuleType, old: str, new: str, n_differences: int
) -> None:
    sets = compare_bits.hashes_by_set([GOOD.replace(old, new)])
    assert len(compare_bits.differences(sets)) == n_differences


def test_main_one_set_alone_fails(compare_bits: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "alone.txt"
    path.write_text("avx2 multiply 1x1 aa\n", encoding="utf-8")
    assert compare_bits.main([str(path)]) == 1


def test_main_same_bits_passes(compare_bits: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "good.txt"
    path.write_text(GOOD, encoding="utf-8")
    assert compare_bits.main([str(path)]) == 0


def test_hashes_by_set_contradicting_files_raise(compare_bits: ModuleType) -> None:
    with pytest.raises(ValueError, match="avx2 adam 16 came out twice"):
        compare_bits.hashes_by_set([GOOD, "avx2 adam 16 cc\n"])
