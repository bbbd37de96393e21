"""What a net and its data show at a glance: dead units, features that say nothing."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fastmlp import _core
from fastmlp._samples import CHUNK_BYTES, CoreSamples, Samples

_MOST_ROWS: Final = 1000
_FEWEST_ROWS: Final = 100  # a unit that is silent for fewer than these may speak for others
_ROWS_PER_LOOK: Final = 500  # which two threads share
_SHARE_OF_TRAINING: Final = 20  # rows trained on for each row looked at: at most 1/40 of the work is to look
_SHARE_WORTH_A_NOTE: Final = 0.25  # a few units die in most nets, and are not missed
_CAN_DIE: Final = ("relu", "gelu")  # whose output and slope are exactly 0 for inputs that are negative enough


def look_at(
    *,
    network: _core.Network,
    layer_sizes: Sequence[int],
    activations: Sequence[str],
    samples: Samples,
    n_samples_seen: int,
    threads: int,
) -> tuple[list[str], list[str]]:
    """Look at what the net makes of up to 1,000 training samples, evenly spread over all of them.

    Parameters
    ----------
    network : _core.Network
        The trained network.
    layer_sizes, activations : sequence
        Its units, inputs first, and the activation of each hidden layer.
    samples : Samples
        What it was trained on.
    n_samples_seen : int
        How many samples it was trained on, repetitions counted; after few of them nothing is looked at.
    threads : int
        The most threads to use.

    Returns
    -------
    notes, warnings : list of str
        What was noticed; and that a layer is dead as a whole, which is also among the notes.
    """
    n_rows = min(len(samples), _MOST_ROWS, samples.n_rows_at_a_time, n_samples_seen // _SHARE_OF_TRAINING)
    if n_rows < max(2, min(len(samples), _FEWEST_ROWS)):
        return [], []
    X = samples.gather(samples.spread(n_rows))
    sees_all = n_rows == len(samples)
    seen = f"{n_rows:,}" if sees_all else f"{n_rows:,} of {len(samples):,}"
    notes = _constant_features(X, seen, sees_all)
    warnings: list[str] = []
    n_layers = max((layer for layer, name in enumerate(activations, start=1) if name in _CAN_DIE), default=0)
    try:
        active_units = _active_units(network, layer_sizes[1 : n_layers + 1], X, threads)
    except _core.NonFiniteInput:  # of a sample that was not trained on
        return notes, warnings
    for layer, (activation, active) in enumerate(zip(activations, active_units, strict=False), start=1):
        if activation not in _CAN_DIE:
            continue
        n_units, n_dead = len(active), int((~active).sum())
        where = f"units of hidden layer {layer} ({activation}) give 0 for each of {seen} training samples"
        if n_dead == n_units:
            warnings.append(
                f"All {n_units:,} {where}: the layers up to it learn nothing any more. Train a new net with "
                'a smaller learning rate, another initializer, or activation="leaky_relu".'
            )
            notes.append(warnings[-1])
            break  # what follows sees one and the same input for all samples
        if n_dead >= _SHARE_WORTH_A_NOTE * n_units:
            condition = "" if sees_all else "if they do for all, "
            notes.append(
                f"{n_dead:,} of {n_units:,} {where}: {condition}they are dead and take no part in training."
            )
    return notes, warnings


def _active_units(
    network: _core.Network, n_units: Sequence[int], X: CoreSamples, threads: int
) -> list[NDArray[np.bool_]]:
    """Tell of so many units of the first layers whether they give anything but 0 for any sample."""
    if not n_units:
        return []
    active = np.zeros(sum(n_units), np.bool_)
    n_rows = max(1, min(_ROWS_PER_LOOK, CHUNK_BYTES // (4 * max(n_units))))
    for first in range(0, len(X), n_rows):
        if active.all():
            break
        active |= network.active_units(X[first : first + n_rows], len(n_units), threads)
    return np.split(active, list(accumulate(n_units[:-1])))


def _constant_features(X: CoreSamples, seen: str, sees_all: bool) -> list[str]:
    constant: NDArray[np.intp] = np.flatnonzero((X[0] == X).all(axis=0) & (X[0] != 0))
    if not constant.size:
        return []
    shown = ", ".join(map(str, constant[:5])) + (", ..." if constant.size > 5 else "")
    condition = "" if sees_all else "if they have it in all, "
    return [
        f"{constant.size:,} of {X.shape[1]:,} features have one and the same value, not 0, in {seen} "
        f"training samples (features {shown}): {condition}they say nothing about the targets and can be left "
        "out."
    ]
