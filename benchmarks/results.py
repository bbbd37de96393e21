"""What was measured, and the figures made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from cases import Case
from footprint import Footprint


@dataclass(frozen=True)
class Turn:
    """One timed turn of one peer, and the ceilings measured right before it."""

    seconds: float
    steps: int
    ceilings: Mapping[str, float | None] | None

    @property
    def ms_per_step(self) -> float:
        return 1e3 * self.seconds / self.steps


@dataclass
class PeerResult:
    """All that is known about one peer in one case; its turns are in the order of the rounds.

    Attributes
    ----------
    ceiling : str
        Which of the measured ceilings bounds its products.
    accuracy_after : dict of int to float
        Test accuracy by number of steps, where it was recorded.
    """

    description: dict[str, Any]
    ceiling: str
    threads: int
    first_run_seconds: float
    losses: list[float]
    test_accuracy: float
    peak_memory_bytes: int
    largest_deviation: float | None
    turns: list[Turn] = field(default_factory=list)
    accuracy_after: dict[int, float] = field(default_factory=dict)

    @property
    def ms_per_step(self) -> list[float]:
        return [turn.ms_per_step for turn in self.turns]


@dataclass
class CaseResults:
    """One case. Ratios and fractions are made round by round, and only then summarised."""

    case: Case
    data_name: str
    peers: dict[str, PeerResult]

    @property
    def base(self) -> str:
        """The peer that the others are compared with."""
        return next(iter(self.peers))

    @property
    def rounds(self) -> int:
        return len(self.peers[self.base].turns)

    def by_ratio(self) -> list[str]:
        return sorted(self.peers, key=lambda name: median(self.ratios(name)))

    def ratios(self, name: str, base: str | None = None) -> list[float]:
        """Divide a peer's time per step by the base's, round by round."""
        its = self.peers[base or self.base].ms_per_step
        return [mine / other for mine, other in zip(self.peers[name].ms_per_step, its, strict=True)]

    def gflops(self, name: str) -> list[float]:
        return [self.case.flops_per_step / ms * 1e-6 for ms in self.peers[name].ms_per_step]

    def fractions(self, name: str, ceiling: str | None = None) -> list[float]:
        """Return what part the matrix products' rate is of a ceiling measured right before.

        By default the ceiling is that of the peer's own kind of products. Empty if it was not measured.
        """
        peer = self.peers[name]
        ceilings = [turn.ceilings and turn.ceilings[ceiling or peer.ceiling] for turn in peer.turns]
        return [rate / top for rate, top in zip(self.gflops(name), ceilings, strict=True) if top]

    def ceilings(self, quantity: str) -> list[float]:
        """Return all measurements with the usual number of threads."""
        threads = max(peer.threads for peer in self.peers.values())
        turns = [turn for peer in self.peers.values() if peer.threads == threads for turn in peer.turns]
        return [value for turn in turns if turn.ceilings and (value := turn.ceilings[quantity])]

    def as_json(self) -> dict[str, Any]:
        return {
            **asdict(self.case),
            "data_name": self.data_name,
            "rounds": self.rounds,
            "flops_per_step": self.case.flops_per_step,
            "bytes_per_step": self.case.bytes_per_step,
            "base": self.base,
            "ceilings": {name: summary(self.ceilings(name)) for name in CEILINGS},
            "peers": {name: self.peer_as_json(name) for name in self.peers},
        }

    def peer_as_json(self, name: str) -> dict[str, Any]:
        peer = self.peers[name]
        return {
            **peer.description,
            "threads": peer.threads,
            "ms_per_step": summary(peer.ms_per_step),
            "ratio": summary(self.ratios(name)),
            "ceiling": peer.ceiling,
            "fraction_of_ceiling": summary(self.fractions(name)),
            "test_accuracy": peer.test_accuracy,
            "accuracy_after": peer.accuracy_after,
            "peak_memory_mb": round(peer.peak_memory_bytes / 1e6, 1),
            "first_run_seconds": round(peer.first_run_seconds, 3),
            "largest_deviation": peer.largest_deviation,
            "every_50th_loss": [round(loss, 6) for loss in peer.losses[::50]],
        }


CEILINGS = ("fma_gflops", "fma_256_gflops", "bf16_gflops", "copy_gb_per_second")


@dataclass
class Run:
    """One run of the benchmark: some cases, and what belongs to none of them."""

    commit: str
    machine: dict[str, Any]
    versions: dict[str, str]
    threads: int
    quick: bool
    no_ceilings: str | None
    cases: dict[str, CaseResults] = field(default_factory=dict)
    footprint: Footprint | None = None
    accuracies: dict[str, list[float]] | None = None
    """Test accuracies of several seeds, by precision."""

    def save(self, path: Path, targets: Sequence[Mapping[str, Any]] = ()) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        facts = {
            "commit": self.commit,
            "quick": self.quick,
            "threads": self.threads,
            "machine": self.machine,
            "versions": self.versions,
            "no_ceilings": self.no_ceilings,
            "footprint": self.footprint and asdict(self.footprint),
            "accuracies": self.accuracies,
            "targets": list(targets),
            "cases": {name: case.as_json() for name, case in self.cases.items()},
        }
        path.write_text(json.dumps(facts, indent=1) + "\n")


def summary(values: Sequence[float]) -> dict[str, Any] | None:
    if not values:
        return None
    low, high = middle_half(values)
    return {
        "median": significant(median(values)),
        "middle_half": [significant(low), significant(high)],
        "all": [significant(value) for value in values],
    }


def middle_half(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(low), float(high)


def significant(value: float) -> float:
    return float(f"{value:.5g}")
