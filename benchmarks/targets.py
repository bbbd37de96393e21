"""What fastmlp is to reach, and whether a run reached it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from results import Run

TORCH_BF16 = ("torch-bf16", "torch-bf16-compile")


@dataclass(frozen=True)
class Target:
    """A figure with a floor, which must be reached, and a goal, which should be; either may be missing.

    Attributes
    ----------
    measure : callable
        Takes the figure from a run; None if the run does not have it.
    at_most : bool
        Whether smaller is better.
    format : str
        How to print the figure and its bounds.
    """

    name: str
    measure: Callable[[Run], float | None]
    floor: float | None = None
    goal: float | None = None
    at_most: bool = False
    format: str = "{:.2f}x"

    def judge(self, run: Run) -> Verdict:
        value = self.measure(run)
        return Verdict(self, value, self.reached(value, self.floor), self.reached(value, self.goal))

    def reached(self, value: float | None, bound: float | None) -> bool | None:
        if value is None or bound is None:
            return None
        return value <= bound if self.at_most else value >= bound


@dataclass(frozen=True)
class Verdict:
    """A target, what was measured, and whether floor and goal were reached; None where there is nothing."""

    target: Target
    measured: float | None
    floor_reached: bool | None
    goal_reached: bool | None

    def as_json(self) -> dict[str, Any]:
        return {
            "target": self.target.name,
            "measured": self.measured,
            "floor": self.target.floor,
            "floor_reached": self.floor_reached,
            "goal": self.target.goal,
            "goal_reached": self.goal_reached,
        }


@dataclass(frozen=True)
class SpeedUp(Target):
    """How many times faster in a case a peer is to be than another, or than the fastest of several."""

    case: str = ""
    peer: str = ""
    others: tuple[str, ...] = ()


def speed_up(
    case: str, peer: str, against: str | tuple[str, ...], floor: float, goal: float | None = None
) -> SpeedUp:
    others = (against,) if isinstance(against, str) else against

    def measure(run: Run) -> float | None:
        results = run.cases.get(case)
        if results is None or peer not in results.peers:
            return None
        medians = [median(results.ratios(name, peer)) for name in others if name in results.peers]
        return min(medians, default=None)

    name = f"{case}: {peer} against {' or '.join(others)}"
    return SpeedUp(name, measure, floor, goal, case=case, peer=peer, others=others)


def of_ceiling(case: str, peer: str, floor: float | None, goal: float) -> Target:
    """Demand a part of the ceiling of the peer's products."""

    def measure(run: Run) -> float | None:
        results = run.cases.get(case)
        fractions = results.fractions(peer) if results and peer in results.peers else []
        return median(fractions) if fractions else None

    return Target(f"{case}: {peer}, part of the FMA ceiling", measure, floor, goal, format="{:.0%}")


def cost(case: str, peer: str, most: float) -> Target:
    """Allow a peer so many times the time of the case's first one."""

    def measure(run: Run) -> float | None:
        results = run.cases.get(case)
        return median(results.ratios(peer)) if results and peer in results.peers else None

    return Target(f"{case}: time of {peer} in terms of a plain fit's", measure, most, at_most=True)


def wheel_megabytes(run: Run) -> float | None:
    size = run.footprint and run.footprint.wheel_bytes
    return size / 1e6 if size else None


def accuracy_lost(run: Run) -> float | None:
    """Percentage points that mixed_bfloat16 loses against float32, on average over the seeds."""
    if run.accuracies is None:
        return None
    return 100 * (mean(run.accuracies["float32"]) - mean(run.accuracies["mixed_bfloat16"]))


TARGETS = [
    speed_up("lesson", "fastmlp", "jax", 3.1, 3.6),
    speed_up("lesson", "fastmlp-bf16", "jax", 4.8, 6.0),
    speed_up("dense", "fastmlp", "jax", 1.25, 1.45),
    speed_up("dense", "fastmlp-bf16", "jax", 2.4, 2.8),
    speed_up("batch128", "fastmlp", "jax", 3.4, 4.0),
    speed_up("batch128", "fastmlp-bf16", "jax", 4.3),
    speed_up("batch32", "fastmlp", "jax", 3.1, 4.0),
    speed_up("batch32", "fastmlp-bf16", "jax", 3.4),
    speed_up("big", "fastmlp", "jax", 1.3),
    of_ceiling("big", "fastmlp", 0.80, 0.90),
    speed_up("big", "fastmlp-bf16", TORCH_BF16, 1.5, 1.8),
    speed_up("table", "fastmlp", "sklearn", 15, 25),
    speed_up("predict1", "fastmlp", "numpy", 3, 5),
    speed_up("predict10000", "fastmlp", "jax", 3.5),
    speed_up("predict10000", "fastmlp-bf16", TORCH_BF16, 2.5),
    speed_up("one-thread", "fastmlp-1-thread", "jax", 1.0),
    of_ceiling("avx2-dense", "fastmlp-avx2", None, 0.85),
    of_ceiling("avx2-big", "fastmlp-avx2", None, 0.85),
    cost("augment", "fastmlp-affine", 1.5),
    cost("augment", "fastmlp-elastic", 1.5),
    Target(
        "import of fastmlp beyond NumPy",
        lambda run: run.footprint and 1e3 * run.footprint.import_seconds["fastmlp"],
        50,
        at_most=True,
        format="{:.0f} ms",
    ),
    Target("wheel", wheel_megabytes, 2.0, at_most=True, format="{:.2f} MB"),
    Target(
        "peak memory of the lesson's run, loading included",
        lambda run: run.footprint and run.footprint.lesson_peak_bytes / 1e6,
        150,
        at_most=True,
        format="{:.0f} MB",
    ),
    Target("accuracy lost by mixed_bfloat16", accuracy_lost, 0.1, at_most=True, format="{:.2f} points"),
]


def verdicts(run: Run) -> list[Verdict]:
    return [target.judge(run) for target in TARGETS]
