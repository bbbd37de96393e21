"""What the kernel benchmark makes of its measurements."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

PRODUCT = {
    "seconds": 0.5,
    "flops": 4e9,
    "executed_flops": 1e9,
    "traffic": 1.0,
    "flops_ceiling": 16e9,
    "copy_ceiling": 0.0,
}
COPY = {
    "seconds": 0.5,
    "flops": 0.0,
    "executed_flops": 0.0,
    "traffic": 3e9,
    "flops_ceiling": 0.0,
    "copy_ceiling": 8e9,
}


@pytest.fixture(scope="module")
def kernels() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import kernels

        yield kernels


def test_row_of_a_product_gives_effective_and_executed_rates(kernels: ModuleType) -> None:
    cells = kernels.row("product", kernels.Timed([PRODUCT], []))
    assert cells == ("product", "500,000.0", "8.0 GFLOPS", "50%", "50%-50%", "2.0 GFLOPS", "12%", "")


def test_row_of_a_streaming_kernel_is_compared_with_copying(kernels: ModuleType) -> None:
    assert kernels.row("copy", kernels.Timed([COPY], []))[2:4] == ("6.0 GB/s  ", "75%")


def test_ratio_of_two_checkouts_is_made_within_each_round(kernels: ModuleType) -> None:
    timed = kernels.Timed([COPY, COPY | {"seconds": 1.0}], [COPY | {"seconds": 1.0}, COPY | {"seconds": 2.0}])
    assert timed.ratios == [2.0, 2.0]


def test_table_leaves_out_columns_that_say_nothing(kernels: ModuleType) -> None:
    header = kernels.table({"copy": kernels.Timed([COPY], [])}).splitlines()[0]
    assert "executed" not in header
    assert "ratio" not in header
