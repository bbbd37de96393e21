"""A fit's arguments, checked: what to train on, who looks on, and how many threads do it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from numpy.typing import NDArray

from fastmlp import _core, _validation
from fastmlp._run import Settings, encoded_settings
from fastmlp._sample_weights import combined_weights
from fastmlp._samples import Samples
from fastmlp._scale import Scale, scale_of
from fastmlp._shared_network import CoreTargets
from fastmlp._threads import MAX_THREADS, ThreadCount, thread_count
from fastmlp.callbacks import Callback, Checkpoint
from fastmlp.losses import Loss, Weights
from fastmlp.progress import Progress


class Data(NamedTuple):
    """What to train on and to validate with."""

    samples: Samples
    targets: CoreTargets
    weights: Weights
    validation: tuple[Samples, CoreTargets] | None
    image_shape: tuple[int, ...] | None
    scale: Scale

    def checksums(self) -> tuple[int, int | None]:
        """Return what tells these data from others: of those for training, and of those for validation."""
        training = self.samples.checksum(self.targets, self.weights)
        return training, None if self.validation is None else self.validation[0].checksum(self.validation[1])


class Job(NamedTuple):
    """A fit's arguments besides its settings, checked."""

    data: Data
    callbacks: list[Callback]
    threads: ThreadCount
    augmentation: _core.Augmentation | None


def checked_job(
    X: object,
    y: object,
    settings: Settings,
    *,
    layer_sizes: Sequence[int],
    image_shape: Sequence[int] | None,
    loss: Loss,
    seed: int,
    validation_data: object,
    sample_weight: object,
    class_weight: object,
    callbacks: object,
    threads: object,
    progress: object,
) -> Job:
    """Return a fit's arguments, or raise TypeError or ValueError."""
    if settings.label_smoothing:
        _validation.has_labels(loss.name)
    data = _checked_data(
        X,
        y,
        validation_data,
        settings.validation_split,
        layer_sizes,
        image_shape,
        loss,
        sample_weight,
        class_weight,
    )
    settings.schedule._check_validation(data.validation is not None, loss.has_accuracy)
    observers = _validation.instances(callbacks, Callback, "callbacks", "EarlyStopping(patience=5)")
    for observer in observers:
        observer._check_methods()
    if progress is not None and _validation.boolean(progress, "progress"):
        observers.append(Progress())
    checkpoints = [observer for observer in observers if isinstance(observer, Checkpoint)]
    if checkpoints:  # what the first of them would raise, hours later
        encoded_settings(settings)
    for checkpoint in checkpoints:
        checkpoint._require_folder()
    augmentation = None
    if settings.augment is not None:
        height, width = _validation.pixel_dimensions(data.samples.X, "X", image_shape)
        augmentation = settings.augment._of_size(height, width, seed)
    return Job(data, observers, thread_count(_validation.threads(threads, MAX_THREADS)), augmentation)


def checked_samples_and_targets(
    X: object,
    y: object,
    layer_sizes: Sequence[int],
    image_shape: Sequence[int] | None,
    loss: Loss,
    names: tuple[str, str] = ("X", "y"),
    purpose: str = "training",
) -> tuple[NDArray[Any], CoreTargets]:
    """Return samples and as many targets, at least one, or raise TypeError or ValueError."""
    array = _validation.samples(X, layer_sizes[0], image_shape, names[0])
    _validation.some_samples(len(array), names[0], purpose)
    return array, loss.targets(y, len(array), layer_sizes[-1], names[1], names[0])


def _checked_data(
    X: object,
    y: object,
    validation_data: object,
    validation_split: float,
    layer_sizes: Sequence[int],
    image_shape: Sequence[int] | None,
    loss: Loss,
    sample_weight: object,
    class_weight: object,
) -> Data:
    array, targets = checked_samples_and_targets(X, y, layer_sizes, image_shape, loss)
    n_training = _validation.n_training_samples(len(array), validation_split, validation_data)
    n_features = layer_sizes[0]
    validation = None
    if validation_data is not None:
        pair = _validation.pair(validation_data, "validation_data")
        names = ("validation_data's X", "validation_data's y")
        samples, validation_targets = checked_samples_and_targets(
            *pair, layer_sizes, image_shape, loss, names, "validation"
        )
        validation = Samples(samples, n_features, names[0]), validation_targets
    elif n_training < len(array):
        held_out = Samples(array[n_training:], n_features, first_row=n_training)
        validation = held_out, targets[n_training:]
    if sample_weight is not None:
        sample_weight = _validation.sample_weights(sample_weight, len(array))[:n_training]
    training, targets = Samples(array[:n_training], n_features), targets[:n_training]
    return Data(
        training,
        targets,
        combined_weights(sample_weight, class_weight, targets, layer_sizes[-1], loss.name),
        validation,
        image_shape=array.shape[1:] if array.ndim > 2 else None,
        scale=scale_of(training),
    )
