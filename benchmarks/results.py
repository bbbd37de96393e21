"""What was measured, and the figures made of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from cases import Case


@dataclass(frozen=True)
class Turn:
    """One timed run of one peer, and the ceilings measured right before it."""

    seconds: float
    steps: int
    ceilings: dict[str, float] | None

    @property
    def ms_per_step(self) -> float:
        return 1e3 * self.seconds / self.steps


@dataclass
class PeerResult:
    """All that is known about one peer; its turns are in the order of the rounds."""

    description: dict[str, Any]
    first_run_seconds: float
    losses: list[float]
    test_accuracy: float
    peak_memory_bytes: int
    largest_deviation: float | None
    import_seconds: float = float("nan")
    turns: list[Turn] = field(default_factory=list)

    @property
    def ms_per_step(self) -> list[float]:
        return [turn.ms_per_step for turn in self.turns]


@dataclass
class Results:
    """One run of the benchmark. Ratios and fractions are made round by round, and only then summarised."""

    case: Case
    data_name: str
    steps: int
    threads: int
    commit: str
    machine: dict[str, Any]
    versions: dict[str, str]
    peers: dict[str, PeerResult]
    no_ceilings: str | None

    @property
    def base(self) -> str:
        """The peer that the others are compared with."""
        return "fastmlp" if "fastmlp" in self.peers else next(iter(self.peers))

    @property
    def rounds(self) -> int:
        return len(self.peers[self.base].turns)

    def ratios(self, name: str) -> list[float]:
        """Divide a peer's time per step by the base's, round by round."""
        base = self.peers[self.base].ms_per_step
        return [mine / its for mine, its in zip(self.peers[name].ms_per_step, base, strict=True)]

    def gflops(self, name: str) -> list[float]:
        return [self.case.flops_per_step / ms * 1e-6 for ms in self.peers[name].ms_per_step]

    def fractions_of_peak(self, name: str) -> list[float] | None:
        """Operations per second of the matrix products, in terms of the rate measured right before."""
        ceilings = [turn.ceilings for turn in self.peers[name].turns]
        return [
            rate / ceiling["gflops"]
            for rate, ceiling in zip(self.gflops(name), ceilings, strict=True)
            if ceiling is not None
        ] or None

    def all_ceilings(self, quantity: str) -> list[float]:
        turns = [turn for peer in self.peers.values() for turn in peer.turns]
        return [turn.ceilings[quantity] for turn in turns if turn.ceilings is not None]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.as_json(), indent=1) + "\n")

    def as_json(self) -> dict[str, Any]:
        quantities = ("gflops", "copy_gb_per_second")
        ceilings = {quantity: summary(self.all_ceilings(quantity)) for quantity in quantities}
        return {
            "case": str(self.case),
            "data": self.data_name,
            "steps": self.steps,
            "rounds": self.rounds,
            "threads": self.threads,
            "commit": self.commit,
            "machine": self.machine,
            "versions": self.versions,
            "base": self.base,
            "ceilings": self.no_ceilings or ceilings,
            "peers": {name: self.peer_as_json(name) for name in self.peers},
        }

    def peer_as_json(self, name: str) -> dict[str, Any]:
        peer = self.peers[name]
        return {
            **peer.description,
            "ms_per_step": summary(peer.ms_per_step),
            "ratio": summary(self.ratios(name)),
            "fraction_of_peak": summary(self.fractions_of_peak(name)),
            "test_accuracy": peer.test_accuracy,
            "peak_memory_mb": round(peer.peak_memory_bytes / 1e6, 1),
            "import_seconds": round(peer.import_seconds, 4),
            "first_run_seconds": round(peer.first_run_seconds, 3),
            "largest_deviation": peer.largest_deviation,
            "every_50th_loss": [round(loss, 6) for loss in peer.losses[::50]],
        }


def summary(values: Sequence[float] | None) -> dict[str, Any] | None:
    if not values:
        return None
    low, high = middle_half(values)
    return {
        "median": round(median(values), 4),
        "middle_half": [round(low, 4), round(high, 4)],
        "all": [round(value, 4) for value in values],
    }


def middle_half(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [0.25, 0.75])
    return float(low), float(high)
