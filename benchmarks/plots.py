"""The pictures of a run: ratios, roofline, time against accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from cases import ACCURACY_CASE
from results import CaseResults, Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart; a compiled variant has its eager one's.
STYLES: dict[str, dict[str, str]] = {
    "fastmlp": {"color": "#0072b2", "marker": "o"},
    "fastmlp-bf16": {"color": "#d55e00", "marker": "D"},
    "fastmlp-1-thread": {"color": "#0072b2", "marker": "v"},
    "fastmlp-avx2": {"color": "#0072b2", "marker": "s"},
    "numpy": {"color": "#555555", "marker": "^"},
    "jax": {"color": "#009e73", "marker": "P"},
    "torch": {"color": "#cc79a7", "marker": "<"},
    "torch-compile": {"color": "#cc79a7", "marker": ">", "linestyle": "--"},
    "torch-bf16": {"color": "#e69f00", "marker": "h"},
    "torch-bf16-compile": {"color": "#e69f00", "marker": "X", "linestyle": "--"},
    "keras": {"color": "#56b4e9", "marker": "d"},
    "sklearn": {"color": "#a08000", "marker": "*"},
}
OTHERS_BAR = "#b0b7bf"


def save_plots(run: Run, stem: Path) -> list[Path]:
    """Draw what the run has figures for; each file's name begins with the stem's."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    drawn: dict[str, Callable[[Run], Figure]] = {"ratios": ratios}
    if run.no_ceilings is None:
        drawn["roofline"] = roofline
    if ACCURACY_CASE in run.cases:
        drawn["accuracy"] = time_against_accuracy
    paths = []
    for name, draw in drawn.items():
        figure = draw(run)
        paths.append(stem.with_name(f"{stem.name}-{name}.png"))
        figure.savefig(paths[-1], dpi=150)
        plt.close(figure)
    return paths


def machine_line(run: Run) -> str:
    quick = ", quick run" if run.quick else ""
    return f"{run.machine['cpu']}, threads: {run.threads}, commit {run.commit}{quick}"


def make_logarithmic(axis: Axis) -> None:
    """Give an axis a logarithmic scale with plain numbers at 1, 2 and 5 times the powers of ten."""
    from matplotlib.ticker import LogLocator, NullLocator

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:,g}")


def ratios(run: Run) -> Figure:
    """Draw a panel per case: each peer's ratio as a bar, those of the rounds as dots."""
    from matplotlib import pyplot as plt

    n_columns = min(3, len(run.cases))
    n_rows = math.ceil(len(run.cases) / n_columns)
    cases = list(run.cases.values())
    rows = [cases[i : i + n_columns] for i in range(0, len(cases), n_columns)]
    most_bars = [max(len(results.peers) for results in row) for row in rows]
    heights = [1.1 + 0.24 * n for n in most_bars]
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(max(7, 4.6 * n_columns), 0.8 + sum(heights)),
        height_ratios=heights,
        layout="constrained",
        squeeze=False,
    )
    for i, results in enumerate(cases):
        ax = axes.flat[i]
        draw_ratios(ax, results)
        # Bars of the same thickness everywhere, from the top.
        n = len(results.peers)
        ax.set_ylim(n - most_bars[i // n_columns] - 0.6, n - 0.4)
    for ax in axes.flat[len(run.cases) :]:
        ax.set_axis_off()
    figure.suptitle(
        f"Time per step in terms of that of the bar at 1 (dots: rounds)\n{machine_line(run)}", fontsize=11
    )
    return figure


def draw_ratios(ax: Axes, results: CaseResults) -> None:
    names = results.by_ratio()[::-1]
    longest = max(max(results.ratios(name)) for name in names)
    for position, name in enumerate(names):
        of_rounds = results.ratios(name)
        style = STYLES.get(name, STYLES["fastmlp"])  # with a feature on it has no style of its own
        color = style["color"] if name.startswith("fastmlp") else OTHERS_BAR
        ax.barh(position, median(of_rounds), height=0.66, color=color)
        if name != results.base:
            ax.plot(of_rounds, [position] * len(of_rounds), "o", color="#222222", markersize=2.5, alpha=0.6)
        end = max([median(of_rounds), *of_rounds])
        ax.text(end + 0.03 * longest, position, f" {median(of_rounds):.2f}", va="center", fontsize=8)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.set_xlim(0, 1.18 * longest)
    ax.axvline(1, color="#0072b2", linewidth=0.8)
    case = results.case
    net = "-".join(map(str, case.layer_sizes))
    what = f"{case.batch_size:,} at a time" if case.kind == "predict" else f"batch {case.batch_size:,}"
    ax.set_title(f"{case.name}\n{net}, {what}, {results.data_name}", loc="left", fontsize=8.5)
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=8)


ROOFLINE_PEERS = ("fastmlp", "fastmlp-bf16", "fastmlp-avx2", "fastmlp-1-thread", "jax", "numpy", "torch-bf16")
ROOFS = {"fma_gflops": ("FMA", "#0072b2"), "bf16_gflops": ("bf16 dot", "#d55e00")}


def roofline(run: Run) -> Figure:
    """Draw rate against arithmetic intensity: a column of points per case, and the machine's roofs."""
    from matplotlib import pyplot as plt

    figure, ax = plt.subplots(figsize=(9.5, 6.2), layout="constrained")
    columns: dict[float, list[str]] = {}
    drawn: dict[str, list[tuple[float, float]]] = {}
    for results in run.cases.values():
        intensity = results.case.flops_per_step / results.case.bytes_per_step
        columns.setdefault(round(intensity, 6), []).append(results.case.name)
        for name in (name for name in ROOFLINE_PEERS if name in results.peers):
            drawn.setdefault(name, []).append((intensity, median(results.gflops(name))))
    for intensity, names in columns.items():
        ax.axvline(intensity, color="#dddddd", linewidth=0.8, zorder=0)
        ax.annotate(
            ", ".join(names),
            (intensity, 1.01),
            xycoords=("data", "axes fraction"),
            rotation=45,
            ha="left",
            va="bottom",
            rotation_mode="anchor",
            fontsize=8,
        )
    for name in (name for name in ROOFLINE_PEERS if name in drawn):
        style = {key: value for key, value in STYLES[name].items() if key != "linestyle"}
        ax.plot(
            *zip(*drawn[name], strict=True), linestyle="none", markersize=7, alpha=0.85, label=name, **style
        )
    draw_roofs(ax, run, min(columns), max(columns))
    make_logarithmic(ax.xaxis)
    make_logarithmic(ax.yaxis)
    ax.set_xlabel(
        "operations of the matrix products per byte that must come from memory if nothing stays in caches"
    )
    ax.set_ylabel("GFLOPS in matrix products, skipped zeros included")
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.35), fontsize=8, frameon=False)
    ax.spines[["top", "right"]].set_visible(False)
    above = "Points above a roof: data stayed in caches (slope), or zeros were skipped (top)"
    figure.suptitle(f"Roofline. {machine_line(run)}\n{above}", fontsize=10)
    return figure


def draw_roofs(ax: Axes, run: Run, lowest: float, highest: float) -> None:
    def typical(quantity: str) -> float | None:
        values = [value for results in run.cases.values() for value in results.ceilings(quantity)]
        return median(values) if values else None

    copying = typical("copy_gb_per_second")
    assert copying is not None
    left, right = min(lowest / 2, 1), max(highest, 100) * 10
    for quantity, (text, color) in ROOFS.items():
        top = typical(quantity)
        if top is None:
            continue
        ridge = top / copying
        ax.plot([left, ridge], [left * copying, top], color="#555555", linewidth=1.2)
        ax.plot([ridge, right], [top, top], color=color, linewidth=1.2, zorder=1)
        ax.text(right, top, f"{text} {top:.0f}", color=color, fontsize=8, ha="right", va="bottom")
    text = f"memory copy {copying:.0f} GB/s  "
    ax.text(4, 4 * copying, text, fontsize=8, ha="right", va="bottom", color="#555555")
    ax.set_xlim(left, right)


def time_against_accuracy(run: Run) -> Figure:
    """Draw each peer's test accuracy after runs of several lengths against the time that those take."""
    from matplotlib import pyplot as plt

    results = run.cases[ACCURACY_CASE]
    figure, ax = plt.subplots(figsize=(9, 5), layout="constrained")
    for name in results.by_ratio():
        peer = results.peers[name]
        steps = sorted(peer.accuracy_after)
        seconds = [1e-3 * median(peer.ms_per_step) * n for n in steps]
        accuracy = [100 * peer.accuracy_after[n] for n in steps]
        ax.plot(seconds, accuracy, markersize=5, linewidth=1.3, label=name, **STYLES[name])
    make_logarithmic(ax.xaxis)
    ax.set_xlabel("seconds: the run's steps at the peer's median time per step")
    ax.set_ylabel("test accuracy, %")
    ax.grid(alpha=0.3)
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9, frameon=False)
    ax.set_title(f"{results.case}, {results.data_name}\n{machine_line(run)}", loc="left", fontsize=10)
    return figure
