"""The tables that a person reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import mean, median

from results import CaseResults, Run, middle_half
from targets import Verdict

COLUMNS = ("ratio", "of FMA", "of bf16", "accuracy", "peak MB", "first run s")


def case_table(results: CaseResults) -> str:
    """Return one row per peer, fastest first."""
    unit, factor = time_unit(results)
    header = ("", f"{unit}/step", "middle half", *COLUMNS)
    return aligned([header, *(row(results, name, factor) for name in results.by_ratio())])


def time_unit(results: CaseResults) -> tuple[str, float]:
    fastest = min(median(peer.ms_per_step) for peer in results.peers.values())
    return ("ms", 1.0) if fastest >= 0.5 else ("µs", 1e3)


def row(results: CaseResults, name: str, factor: float) -> tuple[str, ...]:
    peer = results.peers[name]
    low, high = middle_half(peer.ms_per_step)
    is_bfloat16 = peer.ceiling == "bf16_gflops"
    return (
        name,
        time_text(factor * median(peer.ms_per_step)),
        f"{time_text(factor * low)}-{time_text(factor * high)}",
        f"{median(results.ratios(name)):.2f}",
        percent(results.fractions(name, "fma_gflops" if is_bfloat16 else peer.ceiling)),
        percent(results.fractions(name)) if is_bfloat16 else "-",
        f"{peer.test_accuracy:.2%}",
        f"{peer.peak_memory_bytes / 1e6:,.0f}",
        f"{peer.first_run_seconds:.1f}",
    )


def time_text(time: float) -> str:
    return f"{time:.3f}" if time < 10 else f"{time:.1f}" if time < 1000 else f"{time:,.0f}"


def percent(fractions: Sequence[float]) -> str:
    return f"{median(fractions):.0%}" if fractions else "-"


def ceilings_line(results: CaseResults) -> str:
    names = {"fma_gflops": "FMA", "fma_256_gflops": "256-bit FMA", "bf16_gflops": "bf16 dot"}
    rates = [
        f"{text} {median(values):.0f} GFLOPS"
        for name, text in names.items()
        if (values := results.ceilings(name))
    ]
    copying = results.ceilings("copy_gb_per_second")
    if not copying:
        return "no ceilings"
    work = f"a step: {results.case.flops_per_step * 1e-6:,.3g} MFLOP in products, zeros included"
    return f"ceilings: {', '.join(rates)}, copying {median(copying):.0f} GB/s; {work}"


def settings(run: Run) -> Iterator[str]:
    """Say once what each peer is, and what its time includes, by kind of case."""
    said = set()
    for results in run.cases.values():
        for name, peer in results.peers.items():
            facts = peer.description
            line = f"{name} {facts['version']}: {facts['setting']}; time: {facts['includes']}"
            if line not in said:
                said.add(line)
                yield line


def footprint_lines(run: Run) -> Iterator[str]:
    if run.footprint is not None:
        facts = run.footprint
        seconds = sorted(facts.import_seconds.items(), key=lambda item: item[1])
        imports = ", ".join(f"{module} {time:.3f}" for module, time in seconds)
        yield f"import, seconds beyond NumPy: {imports}"
        yield f"peak memory of fastmlp's lesson, loading included: {facts.lesson_peak_bytes / 1e6:.0f} MB"
        if facts.wheel_bytes is not None:
            yield f"wheel: {facts.wheel}, {facts.wheel_bytes:,} bytes"
    if run.accuracies is not None:
        means = ", ".join(f"{name} {mean(values):.3%}" for name, values in run.accuracies.items())
        n_seeds = len(next(iter(run.accuracies.values())))
        yield f"test accuracy of the lesson's net, mean of {n_seeds} seeds: {means}"


def targets_table(verdicts: Sequence[Verdict]) -> str:
    header = ("target", "measured", "floor", "reached", "goal", "reached")
    return aligned([header, *(target_row(verdict) for verdict in verdicts if verdict.measured is not None)])


def target_row(verdict: Verdict) -> tuple[str, ...]:
    target = verdict.target

    def text(value: float | None) -> str:
        return "-" if value is None else target.format.format(value)

    words = {True: "yes", False: "NO", None: "-"}
    return (
        target.name,
        text(verdict.measured),
        text(target.floor),
        words[verdict.floor_reached],
        text(target.goal),
        words[verdict.goal_reached],
    )


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as lines: the first column flush left, the others flush right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    padded = [[cell.rjust(width) for cell in column] for column, width in zip(columns, widths, strict=True)]
    padded[0] = [cell.ljust(widths[0]) for cell in columns[0]]
    return "\n".join("  ".join(cells) for cells in zip(*padded, strict=True))
