"""Checks of arguments, and the words for what is wrong: what was expected, what came, what to do."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

ACTIVATIONS: Final = ("relu", "tanh", "sigmoid", "identity", "leaky_relu", "gelu")
PRECISIONS: Final = ("float32", "mixed_bfloat16")
LOSSES: Final = ("softmax_cross_entropy", "sigmoid_cross_entropy", "squared_error")
MAX_UNITS: Final = 2**31 - 1
MAX_PARAMETERS: Final = 2**40  # 4 TiB of float32: no mistake in the layers' sizes may reach the allocator
PROBABILITY_TOLERANCE: Final = 1e-3

_T = TypeVar("_T")

# Single numbers and names.


def whole_number(value: object, name: str, minimum: int = 1, maximum: int | None = None) -> int:
    """Return `value` as an int within the range, else raise TypeError or ValueError."""
    expected = f"{name} must be a whole number of at least {minimum}"
    if maximum is not None:
        expected = f"{name} must be a whole number from {minimum} to {maximum}"
    if isinstance(value, bool | np.bool_):
        raise TypeError(f"{expected}, not {value}.")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{expected}, not {_described(value)}.") from None
    if number < minimum or (maximum is not None and number > maximum):
        raise ValueError(f"{expected}, not {shortened(number)}.")
    return number


def real_number(value: object, name: str) -> float:
    """Return `value` as a finite float, else raise TypeError or ValueError."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a real number, not {_described(value)}.")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, not {shortened(value)}.")
    return number


def positive(value: object, name: str) -> float:
    """Return `value` as a float greater than 0."""
    number = real_number(value, name)
    if number <= 0:
        raise ValueError(f"{name} must be greater than 0, not {number:g}.")
    return number


def float32_not_negative(value: object, name: str) -> float:
    """Return `value` as a float of at least 0 that float32 can hold with room to spare."""
    return not_negative(float32_number(value, name), name)


def positive_normal(value: object, name: str) -> float:
    """Return `value` as a float that float32 holds as a positive normal number."""
    number = float32_number(value, name)
    smallest = float(np.finfo(np.float32).tiny)
    if number < smallest:
        raise ValueError(
            f"{name} must be at least {smallest:.2g}, the smallest normal float32, not {number:g}."
        )
    return number


def float32_number(value: object, name: str) -> float:
    """Return `value` as a float, small enough that sums of a few such numbers are still float32."""
    number = real_number(value, name)
    if abs(number) > 1e37:
        raise ValueError(f"{name} must be a number that float32 can hold with room to spare, not {number:g}.")
    return number


def fraction(value: object, name: str) -> float:
    """Return `value` as a float in [0, 1)."""
    number = real_number(value, name)
    if not 0 <= number < 1:
        raise ValueError(f"{name} must be at least 0 and less than 1, not {number:g}.")
    return number


def within(low: float, high: float, *, or_equal: bool = True) -> Callable[[object, str], float]:
    """Return a check for floats from `low` (itself excluded unless `or_equal`) to `high`."""

    def check(value: object, name: str) -> float:
        number = real_number(value, name)
        if low < number <= high or (or_equal and number == low):
            return number
        lowest = f"at least {low:,}" if or_equal else f"greater than {low:,}"
        raise ValueError(f"{name} must be {lowest} and at most {high:,}, not {number:g}.")

    return check


def proper_fraction(value: object, name: str) -> float:
    """Return `value` as a float in (0, 1)."""
    number = real_number(value, name)
    if not 0 < number < 1:
        raise ValueError(f"{name} must be greater than 0 and less than 1, not {number:g}.")
    return number


def not_negative(value: object, name: str) -> float:
    """Return `value` as a float of at least 0."""
    number = real_number(value, name)
    if number < 0:
        raise ValueError(f"{name} must be at least 0, not {number:g}.")
    return number


def or_none(check: Callable[[object, str], _T]) -> Callable[[object, str], _T | None]:
    """Return a check that lets None pass."""
    return lambda value, name: None if value is None else check(value, name)


def boolean(value: object, name: str) -> bool:
    """Return `value` if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, not {_described(value)}.")
    return bool(value)


def one_of(value: object, name: str, allowed: Sequence[str], or_else: str = "") -> str:
    """Return `value` if it is one of the allowed names."""
    expected = f"{name} must be one of {', '.join(allowed)}" + (f", or {or_else}" if or_else else "")
    if not isinstance(value, str):
        raise TypeError(f"{expected}, not {_described(value)}.")
    if value not in allowed:
        raise ValueError(f"{expected}, not {shortened(value)}.")
    return value


def set_checked(settings: object, name: str, check: Callable[[object, str], object]) -> None:
    """Replace an attribute of a frozen dataclass by its checked value; for use in __post_init__."""
    object.__setattr__(settings, name, check(getattr(settings, name), name))


# What makes up a net.


def layer_sizes(sizes: object) -> tuple[int, ...]:
    """Return the units of each layer as at least two ints."""
    expected = "layer_sizes must be the units of each layer, inputs first, such as [784, 200, 10]"
    if isinstance(sizes, str | bytes) or not isinstance(sizes, Iterable):
        raise TypeError(f"{expected}, not {_described(sizes)}.")
    checked = tuple(
        whole_number(size, f"layer_sizes[{index}]", maximum=MAX_UNITS) for index, size in enumerate(sizes)
    )
    if len(checked) < 2:
        raise ValueError(f"{expected}: at least inputs and outputs, not {len(checked)} number(s).")
    if n_parameters(checked) > MAX_PARAMETERS:
        raise ValueError(
            f"layer_sizes {shortened(list(checked))} make {n_parameters(checked):,} parameters, too many."
        )
    return checked


def n_parameters(sizes: Sequence[int], batch_norm: Sequence[bool] = ()) -> int:
    """Return how many numbers of a net are trained."""
    n_scales = sum(n_units for n_units, has_norm in zip(sizes[1:], batch_norm, strict=False) if has_norm)
    return sum((n_inputs + 1) * n_outputs for n_inputs, n_outputs in pairwise(sizes)) + n_scales


def too_large(sizes: Sequence[int], batch_norm: Sequence[bool]) -> str:
    """Return what to say where there is no memory for a net."""
    n = n_parameters(sizes, batch_norm)
    return f"There is no memory for a net of {n:,} parameters, which take {4e-9 * n:,.1f} GB."


def batch_norm(value: object, n_hidden: int) -> tuple[bool, ...]:
    """Return for each hidden layer whether it has batch normalisation."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        return (boolean(value, "batch_norm"),) * n_hidden
    flags = tuple(boolean(flag, f"batch_norm[{index}]") for index, flag in enumerate(value))
    if len(flags) != n_hidden:
        raise ValueError(
            f"batch_norm has {len(flags)} values, but this net has {n_hidden} hidden layer(s); the last "
            "layer has none."
        )
    return flags


def bias_shapes(sizes: Sequence[int], batch_norm: Sequence[bool]) -> list[tuple[int, ...]]:
    """Return the shapes of the layers' biases: shift, scale, mean and variance with batch normalisation."""
    return [
        (4, n_units) if has_norm else (n_units,)
        for n_units, has_norm in zip(sizes[1:], (*batch_norm, False), strict=True)
    ]


def check_variances(biases: NDArray[np.float32], name: str) -> None:
    """Raise ValueError if a running variance of batch normalisation, the last row, is negative."""
    if biases.ndim == 2 and biases[3].min() < 0:
        raise ValueError(f"{name} has a negative variance; its last row must be at least 0.")


def activations(activation: object, n_hidden: int) -> tuple[str, ...]:
    """Return one activation's name for each hidden layer."""
    if isinstance(activation, np.ndarray):
        activation = activation.tolist()  # of no dimension: a name
    # What has no order, such as a set, cannot say which layer a name is for.
    if isinstance(activation, str | bytes) or not isinstance(activation, Sequence):
        return (
            one_of(activation, "activation", ACTIVATIONS, "one such name for each hidden layer"),
        ) * n_hidden
    names = tuple(one_of(name, f"activation[{index}]", ACTIVATIONS) for index, name in enumerate(activation))
    if len(names) != n_hidden:
        raise ValueError(
            f"activation has {len(names)} names, but this net has {n_hidden} hidden layer(s); the last "
            "layer has none."
        )
    return names


def dropout_rates(rates: object, n_hidden: int) -> tuple[float, ...]:
    """Return rates of dropout for the input and each hidden layer; one number is for the latter alone."""
    if isinstance(rates, np.ndarray):
        rates = rates.tolist()  # of no dimension: a number
    # What has no order, such as a set, cannot say which layer a rate is for.
    if isinstance(rates, str | bytes) or not isinstance(rates, Sequence):
        return (0.0, *(fraction(rates, "dropout"),) * n_hidden)
    each = tuple(fraction(rate, f"dropout[{index}]") for index, rate in enumerate(rates))
    if len(each) != n_hidden + 1:
        raise ValueError(
            f"dropout has {len(each)} rates, but this net takes {n_hidden + 1}: one for the input and one "
            "for each hidden layer; or give one number for all hidden layers."
        )
    return each


def seed(value: object) -> int:
    """Return a seed of 64 bits."""
    return whole_number(value, "seed", minimum=0, maximum=2**64 - 1)


def image_shape(shape: object, n_features: int) -> tuple[int, ...] | None:
    """Return the dimensions of one sample, or None."""
    if shape is None:
        return None
    if isinstance(shape, str | bytes) or not isinstance(shape, Iterable):
        raise TypeError(f"image_shape must be the dimensions of one sample, not {_described(shape)}.")
    dimensions = tuple(whole_number(size, "a dimension of image_shape", maximum=MAX_UNITS) for size in shape)
    if math.prod(dimensions) != n_features:
        raise ValueError(
            f"image_shape {dimensions} makes {math.prod(dimensions)} features, but this net takes "
            f"{n_features}."
        )
    return dimensions


def class_names(names: object, n_classes: int) -> tuple[str, ...] | None:
    """Return one name for each class, or None."""
    if names is None:
        return None
    if isinstance(names, str | bytes) or not isinstance(names, Iterable):
        raise TypeError(f"class_names must be a sequence of {n_classes} names, not {_described(names)}.")
    checked = tuple(names)
    for name in checked:
        if not isinstance(name, str):
            raise TypeError(f"class_names must be strings, not {_described(name)}.")
        if not _is_text(name):
            raise ValueError(
                f"class_names has {shortened(repr(name))}, which holds half of a surrogate pair and cannot "
                "be shown; give the whole character."
            )
    if len(checked) != n_classes:
        raise ValueError(f"class_names has {len(checked)} names, but this net has {n_classes} classes.")
    return checked


def _is_text(string: str) -> bool:
    try:
        string.encode()
    except UnicodeEncodeError:
        return False
    return True


def parameters(
    weights: object,
    biases: object,
    sizes: Sequence[int],
    batch_norm: Sequence[bool],
    precision: str = "float32",
) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Return new float32 arrays of such a net's shapes, all of them finite as the net takes them."""
    checked = (
        _parameter_arrays(weights, "weights", list(pairwise(sizes))),
        _parameter_arrays(biases, "biases", bias_shapes(sizes, batch_norm)),
    )
    for layer, array in enumerate(checked[0]):
        if not finite_weights(array, precision):
            raise ValueError(
                f"weights[{layer}] holds values too large for bfloat16, in which products take them."
            )
    for layer, array in enumerate(checked[1]):
        check_variances(array, f"biases[{layer}]")
    return checked


def finite_weights(weights: NDArray[np.float32], precision: str) -> bool:
    """Whether weights are finite as products take them."""
    limit = BFLOAT16_OVERFLOW if precision == "mixed_bfloat16" else np.float32(np.inf)
    return bool((np.abs(weights) < limit).all())


def _parameter_arrays(
    arrays: object, name: str, shapes: Sequence[tuple[int, ...]]
) -> list[NDArray[np.float32]]:
    if isinstance(arrays, str | bytes) or not isinstance(arrays, Iterable):
        raise TypeError(f"{name} must be a list of {len(shapes)} arrays, not {_described(arrays)}.")
    given = list(arrays)
    if len(given) != len(shapes):
        raise ValueError(f"{name} has {len(given)} arrays, but this net has {len(shapes)} layers of weights.")
    checked = []
    for layer, (array, shape) in enumerate(zip(given, shapes, strict=True)):
        real = real_array(array, f"{name}[{layer}]")
        if real.shape != shape:
            raise ValueError(f"{name}[{layer}] has the shape {real.shape}, but must have {shape}.")
        with np.errstate(over="ignore"):
            converted = np.array(real, dtype=np.float32, order="C")
        if not np.isfinite(converted).all():
            raise ValueError(f"{name}[{layer}] holds values that are not finite numbers of float32.")
        checked.append(converted)
    return checked


# Samples and their targets.

MAX_IMAGE_SIDE: Final = 2048  # the core's kMaxImageSide


def real_array(values: object, name: str) -> NDArray[Any]:
    """Return `values` as an array of bools, integers or floats; a view where that is possible."""
    array = _as_array(values, name)
    if array.dtype.kind not in "biuf":
        came = type(values).__name__ if array.ndim == 0 else f"an array of {array.dtype}"
        if array.dtype == object and array.ndim > 0:
            came += f"; np.asarray({name}, float) is one if all that it holds are numbers"
        raise TypeError(f"{name} must be an array of real numbers, not {came}.")
    return array


def _as_array(values: object, name: str) -> NDArray[Any]:
    if type(values) is not np.ndarray:
        _refuse_look_alikes(values, name)
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(f"{name} cannot be read as one array ({error}).") from None


def _refuse_look_alikes(values: object, name: str) -> None:
    """Refuse what np.asarray would take for something else than it is."""
    if hasattr(values, "tocsr") or hasattr(values, "todense"):
        raise TypeError(f"{name} is a sparse matrix; pass {name}.toarray(), if that fits into memory.")
    if isinstance(values, np.ndarray) and np.any(getattr(values, "mask", False)):
        raise TypeError(
            f"{name} is a masked array, and some of it is masked; fill those values in or leave the rows out."
        )


def samples(X: object, n_features: int, shape: Sequence[int] | None = None, name: str = "X") -> NDArray[Any]:
    """Return `X` as an array of samples with this many features each; a view where that is possible.

    shape: dimensions of one sample, if known, for the message.
    """
    array = real_array(X, name)
    if array.ndim and math.prod(array.shape[1:]) == n_features:
        return array
    if array.shape == (0,):  # an empty list
        return array.reshape(0, n_features)
    takes = f"this net takes {n_features}"
    if shape is not None and len(shape) > 1:
        takes += f" ({' x '.join(map(str, shape))} pixels)"
    if array.size == n_features:
        raise ValueError(
            f"{name} has the shape {array.shape}, which looks like a single sample; pass {name}[np.newaxis], "
            "since the first dimension counts the samples."
        )
    if array.ndim == 0:
        raise ValueError(
            f"{name} is a single number, but must be an array of samples; {takes} features each."
        )
    raise ValueError(f"{name} has {math.prod(array.shape[1:])} features per sample, but {takes}.")


def pixel_dimensions(X: NDArray[Any], name: str = "X", shape: Sequence[int] | None = None) -> tuple[int, int]:
    """Return height and width of the images that X consists of, which must be pixels.

    shape: dimensions of one sample, if they are known from elsewhere, for samples that are flat.
    """
    if X.dtype != np.uint8:
        raise TypeError(
            f"{name} holds {X.dtype} numbers, but only pixels can be distorted: uint8 numbers from 0 to 255. "
            f"Pass such pixels, or distort the images yourself."
        )
    dimensions = tuple(size for size in X.shape[1:] if size != 1) if X.ndim > 3 else X.shape[1:]
    if len(dimensions) == 1:
        side = math.isqrt(dimensions[0])
        dimensions = tuple(shape) if shape is not None and len(shape) == 2 else (side, side)
    if len(dimensions) != 2 or math.prod(dimensions) != math.prod(X.shape[1:]):
        raise ValueError(
            f"{name} has the shape {X.shape}, which does not say what images it holds; to be distorted, they "
            "must be (n_images, height, width), or square."
        )
    if not all(1 <= size <= MAX_IMAGE_SIDE for size in dimensions):
        raise ValueError(
            f"{name} has images of {dimensions[0]} x {dimensions[1]} pixels; to be distorted, they must have "
            f"from 1 to {MAX_IMAGE_SIDE:,} pixels a side."
        )
    return dimensions[0], dimensions[1]


def targets(
    y: object, n_samples: int, n_classes: int, name: str = "y", X_name: str = "X"
) -> NDArray[np.int64] | NDArray[np.float32]:
    """Return labels as int64 (n_samples,), or probabilities as float32 (n_samples, n_classes), contiguous."""
    array = _target_array(y, name, n_classes)
    if array.ndim == 2 and array.shape[1] == 1 != n_classes:
        raise ValueError(
            f"{name} has the shape {array.shape}; pass np.ravel({name}) if it holds labels, or {n_classes} "
            "class probabilities for each sample."
        )
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] != n_classes):
        raise ValueError(
            f"{name} has the shape {array.shape}, but must be labels ({n_samples},) or class probabilities "
            f"({n_samples}, {n_classes})."
        )
    if len(array) != n_samples:
        raise ValueError(f"{name} has {len(array)} entries, but {X_name} has {n_samples} samples.")
    if array.ndim == 2:
        _check_probabilities(array, name)
        return np.require(array, np.float32, ["C", "A"])
    _check_labels(array, n_classes, name)
    return np.require(array, np.int64, ["C", "A"])


def label_rows(
    y: object, n_samples: int, n_outputs: int, name: str = "y", X_name: str = "X"
) -> NDArray[np.float32]:
    """Return labels that do not exclude one another as float32 (n_samples, n_outputs), each in [0, 1]."""
    rows = _rows_of_targets(y, n_samples, n_outputs, name, X_name, "labels from 0 to 1")
    _check_targets(rows, name, lambda chunk: (chunk >= 0) & (chunk <= 1), "labels must be from 0 to 1")
    return np.require(rows, np.float32, ["C", "A"])


def number_rows(
    y: object, n_samples: int, n_outputs: int, name: str = "y", X_name: str = "X"
) -> NDArray[np.float32]:
    """Return numbers to be learnt as float32 (n_samples, n_outputs), all of them finite."""
    rows = _rows_of_targets(y, n_samples, n_outputs, name, X_name, "numbers")
    with np.errstate(over="ignore"):
        rows = np.require(rows, np.float32, ["C", "A"])
    _check_targets(rows, name, np.isfinite, "targets must be finite numbers of float32")
    return rows


def _rows_of_targets(
    y: object, n_samples: int, n_outputs: int, name: str, X_name: str, what: str
) -> NDArray[Any]:
    """Return an array of real numbers as (n_samples, n_outputs); with one output, (n_samples,) will do."""
    array = real_array(y, name)
    rows = array.reshape(-1, 1) if array.ndim == 1 and n_outputs == 1 else array
    if rows.ndim != 2 or rows.shape[1] != n_outputs:
        flat = f" or ({n_samples},)" if n_outputs == 1 else ""
        raise ValueError(
            f"{name} has the shape {array.shape}, but must be {what} ({n_samples}, {n_outputs}){flat} for "
            f"the {n_outputs} output(s) of this net."
        )
    if len(rows) != n_samples:
        raise ValueError(f"{name} has {len(rows)} entries, but {X_name} has {n_samples} samples.")
    return rows


def _check_targets(
    rows: NDArray[Any], name: str, is_sound: Callable[[NDArray[Any]], NDArray[np.bool_]], rule: str
) -> None:
    rows_at_a_time = max(1, 2**20 // rows.shape[1])  # for the sake of memory
    for first in range(0, len(rows), rows_at_a_time):
        sound = is_sound(rows[first : first + rows_at_a_time])
        if not sound.all():
            row, column = (int(index[0]) for index in np.nonzero(~sound))
            raise ValueError(f"{name}[{first + row}, {column}] is {rows[first + row, column]}, but {rule}.")


_ONE_OUTPUT: Final = (
    'this net has one output; for numbers it needs loss="squared_error", for a label that is 0 or 1 '
    'loss="sigmoid_cross_entropy" or two outputs.'
)


def _target_array(y: object, name: str, n_classes: int) -> NDArray[Any]:
    array = _as_array(y, name)
    labels = f"class labels from 0 to {n_classes - 1}"
    if array.dtype.kind in "USOT":
        raise TypeError(
            f"{name} must hold {labels} or class probabilities, not {array.dtype} values; "
            f"`names, labels = np.unique({name}, return_inverse=True)` numbers the classes."
        )
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must hold {labels} or class probabilities, not {array.dtype} values.")
    if array.dtype.kind == "f" and array.ndim == 1 and array.size:
        if n_classes == 1:
            raise TypeError(f"{name} holds {array.dtype} numbers, but {_ONE_OUTPUT}")
        raise TypeError(
            f"{name} holds {array.dtype} numbers, but {labels} must be integers; pass "
            f"{name}.astype(np.int64) if it holds labels. (Class probabilities need one column for each "
            "class.)"
        )
    return array


def _check_labels(labels: NDArray[Any], n_classes: int, name: str) -> None:
    if labels.size == 0 or (labels.min() >= 0 and labels.max() < n_classes):
        return
    wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(wrong) == 0:  # another thread has changed them meanwhile; the core checks the copy that it uses
        return
    index = int(wrong[0])
    classes = f"this net has {n_classes} classes: labels must be from 0 to {n_classes - 1}."
    raise ValueError(f"{name}[{index}] is {labels[index]}, but {classes if n_classes > 1 else _ONE_OUTPUT}")


def _check_probabilities(probabilities: NDArray[Any], name: str) -> None:
    rows = max(1, 2**20 // probabilities.shape[1])  # some at a time, for the sake of memory
    for first in range(0, len(probabilities), rows):
        chunk = probabilities[first : first + rows]
        with np.errstate(invalid="ignore", over="ignore"):
            sums = chunk.sum(axis=1, dtype=np.float64)
            sound = (chunk >= 0).all(axis=1) & (np.abs(sums - 1) <= PROBABILITY_TOLERANCE)  # False for NaN
        if sound.all():
            continue
        row = int(np.flatnonzero(~sound)[0])
        raise ValueError(
            f"{name}[{first + row}] is {shortened(chunk[row].tolist())}, with the sum {sums[row]:g}; class "
            "probabilities must be at least 0 and sum to 1."
        )


def sample_weights(weights: object, n_samples: int) -> NDArray[np.float64]:
    """Return weights as a new array of finite numbers of at least 0, float64 (n_samples,)."""
    array = real_array(weights, "sample_weight")
    if array.shape != (n_samples,):
        raise ValueError(
            f"sample_weight has the shape {array.shape}, but must be ({n_samples},): one weight for each "
            "sample of X."
        )
    numbers = array.astype(np.float64)
    sound = np.isfinite(numbers) & (numbers >= 0)
    if not sound.all():
        index = int(np.flatnonzero(~sound)[0])
        raise ValueError(
            f"sample_weight[{index}] is {array[index]}, but weights must be finite numbers of at least 0."
        )
    return numbers


def class_weights(weights: object, n_classes: int) -> dict[int, float]:
    """Return the weights of some classes, each at least 0, by their labels."""
    if not isinstance(weights, Mapping):
        raise TypeError(
            'class_weight must be "balanced" or a dict such as {0: 1.0, 1: 10.0}, not '
            f"{_described(weights)}."
        )
    return {
        whole_number(label, "a label in class_weight", 0, n_classes - 1): float32_not_negative(
            weight, f"class_weight[{shortened(label)}]"
        )
        for label, weight in weights.items()
    }


def has_classes(loss: str) -> None:
    """Refuse class weights for a loss without classes."""
    if loss != LOSSES[0]:
        raise ValueError(f"class_weight needs classes, but with {loss} there are none; use sample_weight.")


def has_labels(loss: str) -> None:
    """Refuse label smoothing for a loss without labels."""
    if loss == "squared_error":
        raise ValueError("label_smoothing needs labels, but with squared_error there are none.")


ALL_WEIGHTS_ZERO: Final = "All weights of the samples are 0; at least one must be greater."
NO_PROBABILITIES: Final = (
    "This net's loss is squared_error: its outputs are numbers, not logits, and there are no probabilities. "
    "predict returns the outputs."
)


BFLOAT16_OVERFLOW: Final = np.float32(2.0**128 - 2.0**119)  # rounded to bfloat16, this is infinite


def row_with_non_finite(X: NDArray[Any], row: int, name: str, first_row: int) -> str:
    """Say which value of a row of X is not finite as the net takes it; first_row is the number of row 0."""
    with np.errstate(over="ignore"):
        values = np.asarray(X[row]).reshape(-1)
        numbers = values.astype(np.float32)
    bad = np.flatnonzero(~np.isfinite(numbers))
    kind = "float32"
    if not bad.size:
        bad = np.flatnonzero(np.abs(numbers) >= BFLOAT16_OVERFLOW)
        kind = "bfloat16 (precision mixed_bfloat16)"
    if not bad.size:
        return (
            f"{name} held a value in row {first_row + row} that was not finite, and has been changed since."
        )
    column = int(bad[0])
    indices = np.unravel_index(column, X.shape[1:])
    where = f"{name}[{', '.join(map(str, (first_row + row, *map(int, indices))))}]"
    too_large = "" if not np.isfinite(values[column]) else f", too large for {kind}"
    return (
        f"{where} is {values[column]}{too_large}; every feature must be a finite number. Leave such samples "
        "out, or replace the values (np.nan_to_num)."
    )


def output_not_finite(name: str, row: int) -> str:
    """Say that a net makes no finite numbers of a sample."""
    return (
        f"The outputs of this net for {name}[{row}] are not all finite numbers, though the features are: "
        "these, or the net's weights, are so large that sums of their products overflow. Bring the features "
        "to similar sizes (around 1), in training and in prediction alike."
    )


def not_finite(happened: str, step: int, epoch: int, learning_rate: float) -> str:
    """Say that training has left the numbers; `happened` is what of the step is not finite."""
    return (
        f"{happened} step {step} (epoch {epoch}, learning rate {learning_rate:g}) is not a finite number; "
        "the net holds the latest weights that gave a finite loss. Use a smaller learning rate, and bring "
        "the features to similar sizes (around 1) if they are very large."
    )


# What fit is told.

NESTEROV_WITHOUT_MOMENTUM: Final = (
    "nesterov=True looks ahead along the momentum, but momentum is 0; give one, such as momentum=0.9."
)

FIT_UNDER_WAY: Final = (
    "This net is being fitted already, by another thread or by the fit whose callback called this one. Wait "
    "until that has ended, or fit a copy (copy.deepcopy)."
)

NOTHING_TO_RESUME: Final = (
    "There is no fit to resume: either the last one came to its end, or there was none, or the net is from a "
    "file without its training state. Leave out resume=True to begin a new fit."
)


def not_storable(kind: type) -> str:
    """Say that no file can hold a setting of this kind."""
    return (
        f"{kind.__module__}.{kind.__qualname__} is not one of fastmlp's own optimizers, schedules and "
        "augmentations, and a file with the state of training can hold no others. Use one of these, or train "
        "without Checkpoint, and save without training_state."
    )


STATE_IN_MID_FIT: Final = (
    "This net is being fitted, so its training state can be saved by the callbacks of that fit alone, not by "
    "another thread or a signal handler. Give that fit a Checkpoint among its callbacks, or save without "
    "training_state."
)

CHANGE_UNDER_WAY: Final = (
    "A signal handler, or a __del__, has interrupted what is setting the weights of this net, and cannot set "
    "them, or save the training state, itself. Do so afterwards, or in a callback."
)


def callback_state(state: object, kind: str) -> dict[str, Any]:
    """Return what the method state of a callback of this kind returned, if it is a dict with names."""
    if not isinstance(state, dict):
        raise TypeError(f"{kind}.state returned {_described(state)}, but must return a dict.")
    for key in state:
        if not isinstance(key, str):
            raise TypeError(f"{kind}.state returned a dict with the key {_described(key)}, not a string.")
    return state


def state_not_storable(kind: str, key: str, value: object) -> str:
    """Say that no file can hold this part of a callback's state."""
    what = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else _described(value)
    return (
        f"{kind}.state returned {what} for {shortened(repr(key))}, which no file can hold; return arrays of "
        "numbers, and what JSON can hold."
    )


def factors(values: object, n_steps: int, name: str) -> NDArray[np.float64]:
    """Return what a schedule made for so many steps as float64 (n_steps,), all finite and at least 0."""
    array = real_array(values, name)
    if array.shape != (n_steps,):
        raise ValueError(
            f"{name} returned the shape {array.shape}, but must return ({n_steps},): a factor for each step."
        )
    numbers = array.astype(np.float64, copy=False)
    sound = np.isfinite(numbers) & (numbers >= 0)
    if not sound.all():
        raise ValueError(
            f"{name} returned {numbers[~sound][0]} for a step, but a factor must be a finite number of at "
            "least 0."
        )
    return numbers


def too_many_epochs(n_before: int, n_epochs: int, maximum: int) -> str:
    """Return what to say of a fit that makes a net's life longer than it may be."""
    return (
        f"A net can be trained for {maximum:,} epochs in its life; this one has had {n_before:,}, and "
        f"{n_epochs:,} more are too many. Train for fewer, or give the weights to a new net (set_weights)."
    )


def epochs_or_steps(epochs: object, steps: object) -> tuple[int | None, int | None]:
    """Return for how many epochs or steps to train, of which at most one is given."""
    if epochs is not None and steps is not None:
        raise ValueError(f"Give either epochs or steps, not both (epochs={epochs}, steps={steps}).")
    return (
        None if epochs is None else whole_number(epochs, "epochs", maximum=2**31),
        None if steps is None else whole_number(steps, "steps", maximum=2**62),
    )


def some_samples(n_samples: int, name: str, purpose: str) -> None:
    """Refuse an empty set of samples."""
    if n_samples == 0:
        raise ValueError(f"{name} has no samples; {purpose} needs at least one.")


def monitored(watcher: object, monitor: str, has_validation: bool, *, has_accuracy: bool) -> None:
    """Refuse to watch a number of validation samples that is not there."""
    name = type(watcher).__name__
    if not has_validation and monitor.startswith("validation"):
        raise ValueError(
            f"{name} watches {monitor}, but there are no validation data; pass validation_data or "
            f'validation_split to fit, or {name}(monitor="loss").'
        )
    if not has_accuracy and monitor == "validation_accuracy":
        raise ValueError(
            f"{name} watches {monitor}, but with squared_error there is none; use "
            f'{name}(monitor="validation_loss").'
        )


def pair(data: object, name: str) -> tuple[object, object]:
    """Return `data` as the two arrays it must consist of."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        came = f"{len(data)} of them" if isinstance(data, tuple | list) else _described(data)
        raise TypeError(f"{name} must be two arrays, (X, y), not {came}.")
    return data[0], data[1]


def n_training_samples(n_samples: int, validation_split: float, validation_data: object) -> int:
    """Return how many of the first samples are trained on; the others are for validation."""
    if validation_split == 0:
        return n_samples
    if validation_data is not None:
        raise ValueError("Give either validation_data or validation_split, not both.")
    n_validation = int(n_samples * validation_split)
    if n_validation == 0:
        raise ValueError(
            f"validation_split={validation_split:g} of {n_samples} sample(s) leaves none for validation."
        )
    return n_samples - n_validation


def instance(value: object, kind: type[_T], name: str, example: str) -> _T:
    """Return `value` if it is an instance of `kind`."""
    if isinstance(value, kind):
        return value
    if isinstance(value, type) and issubclass(value, kind):
        raise TypeError(f"{name} is the class {value.__name__}; pass an instance of it, such as {example}.")
    raise TypeError(f"{name} must be an instance such as {example}, not {_described(value)}.")


def instances(values: object, kind: type[_T], name: str, example: str) -> list[_T]:
    """Return `values` as a list of instances of `kind`; a single one counts as a list of one."""
    if isinstance(values, kind):
        return [values]
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a sequence such as [{example}], not {_described(values)}.")
    return [instance(value, kind, f"{name}[{index}]", example) for index, value in enumerate(values)]


def threads(value: object, maximum: int) -> int | None:
    """Return a number of threads, or None."""
    return None if value is None else whole_number(value, "threads", maximum=maximum)


# Words for values.


def _described(value: object) -> str:
    if value is None or isinstance(value, bool | int | float | str):
        return shortened(repr(value))
    return type(value).__name__


def shortened(value: object) -> str:
    """Return `value` in words that fit into a message, whatever it is."""
    try:
        text = str(value)
    except ValueError:  # an int of very many digits
        return "a far larger number"
    return text if len(text) <= 60 else f"{text[:57]}..."
