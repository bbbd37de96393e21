"""The table that a person reads, and the picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from results import Results, middle_half

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIMES = ("ms/step", "middle half", "ratio", "of FMA peak")
COLUMNS = ("peer", *TIMES, "accuracy", "peak MB", "import s", "first run s")


def table(results: Results) -> str:
    """Return one row per peer, fastest first."""
    rows = [COLUMNS, *(row(results, name) for name in by_ratio(results))]
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    padded = [[cell.rjust(width) for cell in column] for column, width in zip(columns, widths, strict=True)]
    padded[0] = [cell.ljust(widths[0]) for cell in columns[0]]
    return "\n".join("  ".join(cells) for cells in zip(*padded, strict=True))


def by_ratio(results: Results) -> list[str]:
    return sorted(results.peers, key=lambda name: median(results.ratios(name)))


def row(results: Results, name: str) -> tuple[str, ...]:
    peer = results.peers[name]
    low, high = middle_half(peer.ms_per_step)
    fractions = results.fractions_of_peak(name)
    return (
        name,
        f"{median(peer.ms_per_step):.3f}",
        f"{low:.3f}-{high:.3f}",
        f"{median(results.ratios(name)):.2f}",
        f"{median(fractions):.0%}" if fractions else "-",
        f"{peer.test_accuracy:.2%}",
        f"{peer.peak_memory_bytes / 1e6:,.0f}",
        f"{peer.import_seconds:.3f}",
        f"{peer.first_run_seconds:.1f}",
    )


def notes(results: Results) -> Iterator[str]:
    """Say what the columns mean, and what each peer's time includes."""
    yield f"ratio: a peer's time / {results.base}'s in the same round; median of {results.rounds} rounds"
    if results.no_ceilings is None:
        gflops, copying = (median(results.all_ceilings(what)) for what in ("gflops", "copy_gb_per_second"))
        mflop = results.case.flops_per_step * 1e-6
        yield f"FMA peak: {gflops:.0f} GFLOPS, measured before every turn; copying memory: {copying:.1f} GB/s"
        yield f"the matrix products of a step count {mflop:.0f} MFLOP, zeros included"
    else:
        yield f"no fraction of the FMA peak: {results.no_ceilings}"
    for name, peer in results.peers.items():
        facts = peer.description
        yield f"{name} {facts['version']}: {facts['setting']}; time: {facts['includes']}"


def save_plot(results: Results, path: Path) -> None:
    """Draw the ratio of every round, and each peer's median as a bar."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    names = by_ratio(results)[::-1]
    figure, ax = plt.subplots(figsize=(8, 1.7 + 0.45 * len(names)), layout="constrained")
    for position, name in enumerate(names):
        ratios, peer = results.ratios(name), results.peers[name]
        ax.barh(name, median(ratios), height=0.62, color="#0072b2" if name == results.base else "#b0b7bf")
        if name != results.base:
            ax.plot(ratios, [position] * len(ratios), "o", color="#222222", markersize=3, alpha=0.6)
        figures = f"{median(ratios):6.2f}  {median(peer.ms_per_step):8.2f}  {peer.test_accuracy:9.2%}"
        beside(ax, position, figures)
    beside(ax, len(names) - 0.4, " ratio   ms/step   accuracy")
    ax.axvline(1, color="#0072b2", linewidth=1)
    ax.set_xlabel(f"time per step, in {results.base}'s of the same round (dots: rounds; bar: their median)")
    net = "-".join(map(str, results.case.layer_sizes))
    title = f"Training {net}, batch {results.case.batch_size:,}, {results.data_name}"
    machine = f"{results.machine['cpu']}, threads: {results.threads}, commit {results.commit}"
    ax.set_title(f"{title}\n{machine}", loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def beside(ax: Axes, position: float, text: str) -> None:
    """Write to the right of the axes, at the height of a bar."""
    where = ax.get_yaxis_transform()
    ax.text(1.01, position, text, transform=where, va="center", fontsize=8, family="monospace")
