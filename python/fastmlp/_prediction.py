"""What a network makes of samples: computed some samples at a time, so that Ctrl-C is heard in between."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastmlp import _core, _validation
from fastmlp._samples import CoreSamples, Samples
from fastmlp._shared_network import CoreTargets, SharedNetwork
from fastmlp.errors import NonFiniteInputError, NonFiniteOutputError
from fastmlp.losses import Loss, Weights

_T = TypeVar("_T")


def outputs(
    network: SharedNetwork,
    samples: Samples,
    compute: Callable[[_core.Network, CoreSamples], NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return what `compute` makes of all samples, float32 (n_samples, n_classes)."""
    parts = _by_chunks(network, samples, lambda core, rows, _: compute(core, rows))
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty((0, network.layer_sizes[-1]), np.float32)


def loss_and_predicted(
    network: SharedNetwork,
    loss: Loss,
    samples: Samples,
    targets: CoreTargets,
    weights: Weights,
    threads: int,
) -> tuple[float, NDArray[Any]]:
    """Return the mean loss, and what is predicted for each sample."""

    def compute(core: _core.Network, rows: CoreSamples, place: slice) -> tuple[float, NDArray[Any]]:
        their_weights = None if weights is None else weights[place]
        return loss.evaluate(core, rows, targets[place], their_weights, threads)

    parts = _by_chunks(network, samples, compute)
    total_weight = len(samples) if weights is None else float(weights.sum(dtype=np.float64))
    mean_loss = math.fsum(sum_of_part for sum_of_part, _ in parts) / total_weight
    return mean_loss, np.concatenate([predicted for _, predicted in parts])


def non_finite_input(samples: Samples, row: int) -> NonFiniteInputError:
    """Return the error that names the first value in a row of samples that is not a finite float32."""
    message = _validation.row_with_non_finite(samples.X, row, samples.name, samples.first_row)
    return NonFiniteInputError(message, row=samples.first_row + row)


def _by_chunks(
    network: SharedNetwork, samples: Samples, compute: Callable[[_core.Network, CoreSamples, slice], _T]
) -> list[_T]:
    """Compute something of all samples, some at a time, all with the same weights."""

    def compute_all(core: _core.Network) -> list[_T]:
        results = []
        for place in samples.chunks(network.n_parameters):
            rows = samples.gather(place)
            try:
                results.append(compute(core, rows, place))
            except _core.NonFiniteInput as error:
                raise non_finite_input(samples, place.start + error.args[0]) from None
            except _core.NonFiniteOutput as error:
                row = samples.first_row + place.start + error.args[0]
                message = _validation.output_not_finite(samples.name, row)
                raise NonFiniteOutputError(message, row=row) from None
        return results

    return network.read(compute_all)
