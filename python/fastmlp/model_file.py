"""Model files: safetensors, with everything that is not a tensor as JSON in the header's metadata.

Any program that reads the format, such as the library of that name, can have the weights:

- ``layers.0.weight`` (n_inputs, n_outputs) and ``layers.0.bias`` (n_outputs,), float32, and so on for each
  layer; the bias is (4, n_outputs) with batch normalisation: shift, scale, running mean, running variance;
- ``history.loss`` and the other columns of `fastmlp.History`, float64 or int64 (n_epochs,),
  ``history.step_loss`` and ``history.step_right``, what the train accuracy is made of, float32;
- with the state of training, ``training.first_moment.layers.0.weight`` and so on: what the optimiser has,
  shaped like the weights; ``training.parameters.layers.0.weight`` are the live weights, if other ones, the
  best or the averages, are in use;
- with a fit that can be resumed, ``callbacks.0.`` and a name: arrays that callbacks need to go on;
- the metadata have one key, "fastmlp", with JSON of what `StoredModel` lists besides.

Version 1 of the format has nothing of training; it is read as ever.

Nothing in a file is trusted. What is not a fastmlp model is refused once its header is read, before the rest
of it is; nothing is unpickled. Files are read, not memory-mapped: one that another process cuts short
meanwhile is refused, where a map of it would end the process.

References
----------
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
from itertools import pairwise
from typing import Any, BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastmlp import _validation
from fastmlp._atomic_file import atomic_writer
from fastmlp._run import MAX_EPOCHS, Run, decoded_run, decoded_settings, encoded_run, encoded_settings
from fastmlp._safetensors import (
    Tensor,
    code_of,
    described_tensors,
    encode_header,
    read_tensors,
    write_tensors,
)
from fastmlp._scale import Scale
from fastmlp._shared_network import Parameters, TrainingState, same_parameters
from fastmlp._validation import shortened
from fastmlp.errors import ModelFileError
from fastmlp.history import COLUMNS, OPTIONAL_COLUMNS, STEP_COLUMNS, History
from fastmlp.initializers import Initializer, Normal, checked_initializer
from fastmlp.optimizers import Optimizer

FORMAT_VERSION: Final = 2  # a file of version 1 has no loss: it is of a net that has the first of LOSSES
MAX_HEADER_BYTES: Final = 2**20  # enough for 9,000 tensors; json takes up to 26 times as much to decode one
PICKLED: Final = "The pickled model"
"""What messages call a model that is in no file."""

_FLOAT32: Final = np.dtype(np.float32)
_HISTORY_DTYPES: Final[dict[str, np.dtype[Any]]] = {
    f"history.{name}": dtype for name, dtype in (COLUMNS | dict.fromkeys(STEP_COLUMNS, _FLOAT32)).items()
}
_OPTIONAL: Final = tuple(f"history.{name}" for name in OPTIONAL_COLUMNS)
_ADDED_LATER: Final = ("history.train_accuracy", "history.step_right")  # older files do not have them
_ARENAS: Final = ("parameters", "first_moment", "second_moment", "average")  # all that training may have
_MUST_BE_FINITE: Final = (
    "",
    "training.parameters.",
    "training.average.",
)  # what stands before the name of the layer


class StoredModel(NamedTuple):
    """What a model file holds.

    Attributes
    ----------
    layer_sizes : tuple of int
        Units of each layer, inputs first.
    activations : tuple of str
        One for each hidden layer.
    initializer : str or Normal
        What the weights were drawn from at first.
    precision : str
        "float32" or "mixed_bfloat16".
    loss : str
        What was made small; one of `fastmlp.losses`.
    batch_norm : tuple of bool
        For each hidden layer, whether it has batch normalisation.
    dropout : tuple of float
        Rates for the input and each hidden layer.
    seed : int
        In [0, 2**64).
    n_epochs : int
        Epochs begun in the net's life; the order of samples in the next one depends on it.
    image_shape : tuple of int or None
        Dimensions of one sample, if known.
    scale : Scale or None
        Of the samples that the weights were trained on, if known.
    class_names : tuple of str or None
        One for each class, if known.
    weights, biases : list of numpy.ndarray
        float32 (n_inputs, n_outputs) and (n_outputs,) or (4, n_outputs) for each layer of weights, all
        finite.
    history : History
        Of the last fit.
    training : TrainingState or None
        What a further fit goes on from, if it is known.
    run : Run or None
        The fit that can be resumed, if there is one.
    """

    layer_sizes: tuple[int, ...]
    activations: tuple[str, ...]
    initializer: Initializer
    precision: str
    loss: str
    batch_norm: tuple[bool, ...]
    dropout: tuple[float, ...]
    seed: int
    n_epochs: int
    image_shape: tuple[int, ...] | None
    scale: Scale | None
    class_names: tuple[str, ...] | None
    weights: list[NDArray[np.float32]]
    biases: list[NDArray[np.float32]]
    history: History
    training: TrainingState | None = None
    run: Run | None = None


def save(path: str | os.PathLike[str], model: StoredModel) -> None:
    """Write a model file; it appears whole or not at all.

    Raises
    ------
    ValueError
        If a weight or bias is not finite, since no such file could be loaded, or the header becomes too long.
    OSError
        If the file cannot be written; the one that was there before is then unharmed.
    """
    header, tensors = _encoded(model)
    with atomic_writer(path) as file:
        file.write(header)
        write_tensors(file, tensors)


def load(path: str | os.PathLike[str]) -> StoredModel:
    """Read a model file.

    Raises
    ------
    fastmlp.errors.ModelFileError
        If the file is not exactly one fastmlp model; the message names the file.
    OSError
        If the file cannot be read.
    """
    name = os.fspath(path)
    if not isinstance(name, str):
        raise TypeError(f"path must be a str or an os.PathLike of one, not {_validation.shortened(name)}.")
    mode = os.stat(name).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # to open a pipe could take forever
        raise ModelFileError(f"{name} is not a regular file.")
    with open(name, "rb") as file:
        return _read(file, os.fstat(file.fileno()).st_size, name)


def to_bytes(model: StoredModel) -> bytes:
    """Return what `save` would write."""
    header, tensors = _encoded(model)
    file = io.BytesIO()
    file.write(header)
    write_tensors(file, tensors)
    return file.getvalue()


def _encoded(model: StoredModel) -> tuple[bytes, dict[str, NDArray[Any]]]:
    """Return the header of a model's file, with its length in front, and the tensors."""
    import json

    tensors: dict[str, NDArray[Any]] = {
        f"history.{name}": column for name, column in model.history._to_arrays().items()
    }
    for layer, (weight, bias) in enumerate(zip(model.weights, model.biases, strict=True)):
        if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
            raise ValueError(
                f"Layer {layer} has weights that are not finite numbers; such a net is of no use and is not "
                "saved. Train again with a smaller learning rate."
            )
        tensors[f"layers.{layer}.weight"] = weight
        tensors[f"layers.{layer}.bias"] = bias
    settings = _encoded_settings(model)
    if model.training is not None:
        settings["training"] = {
            "optimizer": encoded_settings(model.training.optimizer),
            "beta_powers": model.training.beta_powers,
            "average_power": model.training.average_power,
        }
        tensors |= _encoded_arrays(model.training, (model.weights, model.biases))
    if model.run is not None:
        settings["run"], arrays = encoded_run(model.run)
        tensors |= {f"callbacks.{name}": array for name, array in arrays.items()}
    header = encode_header(tensors, {"fastmlp": json.dumps(settings)})
    if len(header) - 8 > MAX_HEADER_BYTES:
        raise ValueError(
            f"The model's description takes {len(header) - 8:,} bytes, more than the {MAX_HEADER_BYTES:,} "
            "that can be loaded again; shorten class_names, or the states of callbacks."
        )
    return header, tensors


def from_bytes(data: bytes) -> StoredModel:
    """Read what `to_bytes` returned, with the checks of `load`."""
    return _read(io.BytesIO(data), len(data), PICKLED)


def refusal(name: str, error: Exception) -> ModelFileError:
    """Return the error for a model that is wrong."""
    return ModelFileError(f"{name} is not a model that fastmlp can load: {error}")


def _encoded_settings(model: StoredModel) -> dict[str, object]:
    initializer: object = model.initializer
    if isinstance(initializer, Normal):
        initializer = {"mean": initializer.mean, "std": initializer.std, "bias_too": initializer.bias_too}
    return {
        "format_version": FORMAT_VERSION,
        "layer_sizes": model.layer_sizes,
        "activations": model.activations,
        "initializer": initializer,
        "precision": model.precision,
        "loss": model.loss,
        "batch_norm": model.batch_norm,
        "dropout": model.dropout,
        "seed": model.seed,
        "n_epochs": model.n_epochs,
        "image_shape": model.image_shape,
        "scale": None if model.scale is None else model.scale._asdict(),
        "class_names": model.class_names,
        "notes": model.history.notes,
    }


def _encoded_arrays(training: TrainingState, in_use: Parameters) -> dict[str, NDArray[np.float32]]:
    """Return the arrays of training by name; live weights that are in use need no second copy."""
    tensors = {}
    for arena, arrays in training.arrays.items():
        if arena == "parameters" and same_parameters(in_use, arrays):
            continue
        for index, array in enumerate(arrays):
            tensors[f"training.{arena}.{_layer_name(index)}"] = array
    return tensors


def _layer_name(index: int) -> str:
    """Return the name of an array in a list of weights and biases, layer after layer."""
    layer, is_bias = divmod(index, 2)
    return f"layers.{layer}.{'bias' if is_bias else 'weight'}"


def _read(file: BinaryIO, n_bytes: int, name: str) -> StoredModel:
    """Decode a model from the start of a file, refusing it at the first thing that is wrong."""
    try:
        start = _read_header(file, n_bytes)
        header = _json_object(str(start[8:], "utf-8"), "its header")
        stored = _fastmlp_metadata(header.pop("__metadata__", None))
        settings = _decoded_settings(stored)
        n_layers = len(settings["layer_sizes"]) - 1
        arenas = _arenas_of_training(header) if stored.get("training") is not None else []
        absent = [name for name in _ADDED_LATER if name not in header]
        _check_names(header, n_layers, arenas, _HISTORY_DTYPES.keys() - absent)
        described = described_tensors(header, n_bytes - len(start))
        shapes = _layer_shapes(settings["layer_sizes"], settings["batch_norm"])
        parameter_shapes = shapes | {
            f"training.{arena}.{name}": shape for arena in arenas for name, shape in shapes.items()
        }
        _check_types_and_shapes(described, parameter_shapes)
        read = read_tensors(file, described)
        tensors = {name: read[name] for name in parameter_shapes} | read  # layer after layer
        _check_finite(tensors, settings["precision"])
        notes = settings.pop("notes")
        tensors |= {name: np.empty(0, _HISTORY_DTYPES[name]) for name in absent}
        columns = {name.removeprefix("history."): tensors[name] for name in _HISTORY_DTYPES}
        model = StoredModel(
            **settings,
            weights=[tensors[name] for name in shapes if name.endswith(".weight")],
            biases=[tensors[name] for name in shapes if name.endswith(".bias")],
            history=History._from_arrays(columns, notes),
        )
        return _with_training(model, stored, tensors)
    except RecursionError as error:
        raise refusal(name, ValueError("its metadata are nested too deeply.")) from error
    except (TypeError, ValueError) as error:
        raise refusal(name, error) from error


def _with_training(
    model: StoredModel, stored: dict[str, Any], tensors: dict[str, NDArray[Any]]
) -> StoredModel:
    """Add the state of training and the fit to resume, as far as they are stored."""
    training = run = None
    if stored.get("training") is not None:
        training = _decoded_training(stored["training"], tensors, (model.weights, model.biases))
    if stored.get("run") is not None:
        if training is None:
            raise ValueError("it has a fit to resume, but no state of training.")
        arrays = {
            name.removeprefix("callbacks."): array
            for name, array in tensors.items()
            if name.startswith("callbacks.")
        }
        run = decoded_run(stored["run"], arrays, model.history)
    return model._replace(training=training, run=run)


def _decoded_training(stored: object, tensors: dict[str, NDArray[Any]], in_use: Parameters) -> TrainingState:
    if not isinstance(stored, dict) or not isinstance(stored.get("beta_powers"), list):
        raise ValueError("its training is not described by optimizer and beta_powers.")
    powers = [_validation.within(0, 1)(power, "a beta power") for power in stored["beta_powers"]]
    if len(powers) != 2:
        raise ValueError("its beta_powers are not two numbers.")
    average_power = _validation.within(0, 1)(stored.get("average_power", 1.0), "average_power")
    arrays: dict[str, list[NDArray[np.float32]]] = {}
    for name, tensor in tensors.items():  # in the order of the layers
        if name.startswith("training."):
            arrays.setdefault(name.split(".")[1], []).append(tensor)
    weights, biases = in_use
    live = [array for layer in zip(weights, biases, strict=True) for array in layer]
    optimizer = _validation.instance(
        decoded_settings(stored.get("optimizer")), Optimizer, "optimizer", "Adam()"
    )
    return TrainingState(optimizer, {"parameters": live} | arrays, (powers[0], powers[1]), average_power)


def _read_header(file: BinaryIO, n_bytes: int) -> bytes:
    """Return the header with its length in front, as in the file."""
    prefix = file.read(8)
    if len(prefix) < 8:
        raise ValueError(f"it has {len(prefix)} bytes, too few for a safetensors file.")
    (length,) = struct.unpack("<Q", prefix)
    if length > n_bytes - 8:
        begins_well = file.read(1) in (b"{", b"")
        raise ValueError("it is cut short." if begins_well else "it is not a safetensors file.")
    if length > MAX_HEADER_BYTES:
        raise ValueError(f"its header takes {length:,} bytes, more than the limit of {MAX_HEADER_BYTES:,}.")
    return prefix + file.read(length)


def _json_object(text: str | bytes, what: str) -> dict[str, Any]:
    import json

    try:
        decoded = json.loads(text, object_pairs_hook=_object_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} is not valid JSON ({error}).") from error
    if not isinstance(decoded, dict):
        raise ValueError(f"{what} is not a JSON object.")
    return decoded


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    decoded = dict(pairs)
    if len(decoded) != len(pairs):
        raise ValueError("a name occurs twice")
    return decoded


def _fastmlp_metadata(metadata: object) -> dict[str, Any]:
    text = metadata.get("fastmlp") if isinstance(metadata, dict) else None
    if not isinstance(text, str):
        raise ValueError("it is a safetensors file, but has no fastmlp metadata: another program wrote it.")
    return _json_object(text, "its fastmlp metadata")


def _decoded_settings(stored: dict[str, Any]) -> dict[str, Any]:
    """Return what `StoredModel` holds of the net besides tensors, and the notes of its history."""
    version = _validation.whole_number(_required(stored, "format_version"), "format_version")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"it has format version {version}, written by a later fastmlp; this one reads up to version "
            f"{FORMAT_VERSION}. Upgrade fastmlp."
        )
    sizes = _validation.layer_sizes(_required(stored, "layer_sizes"))
    loss = _validation.LOSSES[0] if version == 1 else _required(stored, "loss")
    return {
        "layer_sizes": sizes,
        "activations": _validation.activations(_required(stored, "activations"), len(sizes) - 2),
        "initializer": _decoded_initializer(_required(stored, "initializer")),
        "precision": _validation.one_of(_required(stored, "precision"), "precision", _validation.PRECISIONS),
        "loss": _validation.one_of(loss, "loss", _validation.LOSSES),
        "batch_norm": _validation.batch_norm(stored.get("batch_norm", False), len(sizes) - 2),
        "dropout": _validation.dropout_rates(stored.get("dropout", 0.0), len(sizes) - 2),
        "seed": _validation.seed(_required(stored, "seed")),
        "n_epochs": _validation.whole_number(_required(stored, "n_epochs"), "n_epochs", 0, MAX_EPOCHS),
        "image_shape": _validation.image_shape(stored.get("image_shape"), sizes[0]),
        "scale": _decoded_scale(stored.get("scale")),
        "class_names": _validation.class_names(stored.get("class_names"), sizes[-1]),
        "notes": _decoded_notes(stored.get("notes", [])),
    }


def _required(stored: dict[str, Any], key: str) -> Any:
    if key not in stored:
        raise ValueError(f"its fastmlp metadata have no {key!r}.")
    return stored[key]


def _decoded_initializer(stored: object) -> Initializer:
    if not isinstance(stored, dict):
        return checked_initializer(stored)
    if set(stored) != {"mean", "std", "bias_too"}:
        raise ValueError("its initializer is not described by mean, std and bias_too.")
    return Normal(**stored)


def _decoded_scale(stored: object) -> Scale | None:
    if stored is None:
        return None
    if not isinstance(stored, dict) or set(stored) != set(Scale._fields):
        raise ValueError("its scale is not described by pixels and largest.")
    largest = _validation.real_number(stored["largest"], "largest of its scale")
    return Scale(_validation.boolean(stored["pixels"], "pixels of its scale"), largest)


def _decoded_notes(notes: object) -> list[str]:
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError("its notes are not a list of strings.")
    return notes


def _layer_shapes(sizes: tuple[int, ...], batch_norm: tuple[bool, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    bias_shapes = _validation.bias_shapes(sizes, batch_norm)
    for layer, (weight_shape, bias_shape) in enumerate(zip(pairwise(sizes), bias_shapes, strict=True)):
        shapes[f"layers.{layer}.weight"] = weight_shape
        shapes[f"layers.{layer}.bias"] = bias_shape
    return shapes


def _arenas_of_training(header: dict[str, Any]) -> list[str]:
    """Return which arrays of training a file has, each of them with the shapes of the layers."""
    return [arena for arena in _ARENAS if f"training.{arena}.{_layer_name(0)}" in header]


def _check_names(header: dict[str, Any], n_layers: int, arenas: list[str], of_history: set[str]) -> None:
    """Check that a header has the tensors of such a net, and no others.

    The metadata may speak of far more layers than the header has tensors: nothing is made of a layer before
    its names have been found.
    """
    for name in of_history - header.keys():
        raise ValueError(f"tensor {name!r} is missing.")
    expected = set(of_history)
    for before in ("", *(f"training.{arena}." for arena in arenas)):
        for index in range(2 * n_layers):
            name = before + _layer_name(index)
            if name not in header:
                raise ValueError(f"tensor {name!r} is missing.")
            expected.add(name)
    for name in header:
        if name not in expected and not name.startswith("callbacks."):
            raise ValueError(f"tensor {shortened(repr(name))} has no place in a net of its layer_sizes.")


def _check_types_and_shapes(described: dict[str, Tensor], shapes: dict[str, tuple[int, ...]]) -> None:
    lengths = {name: math.prod(described[name].shape) for name in _HISTORY_DTYPES if name in described}
    columns = {name: (lengths["history.loss"],) for name in lengths}
    columns["history.step_loss"] = (lengths["history.step_loss"],)
    if "history.step_right" in lengths:
        columns["history.step_right"] = columns["history.step_loss"]
    columns |= {name: (0,) for name in (*_OPTIONAL, "history.step_right") if lengths.get(name) == 0}
    for name, shape in (shapes | columns).items():
        code = code_of(_HISTORY_DTYPES.get(name, _FLOAT32))
        came = described[name].code, described[name].shape
        if came != (code, shape):
            raise ValueError(
                f"tensor {name!r} is {came[0]} of shape {shortened(came[1])}, but must be {code} of shape "
                f"{shape}."
            )


def _check_finite(tensors: dict[str, NDArray[Any]], precision: str) -> None:
    for name, tensor in tensors.items():
        before, is_of_a_layer, _ = name.partition("layers.")
        if not is_of_a_layer or before not in _MUST_BE_FINITE:
            continue
        is_weight = name.endswith(".weight")
        if not _validation.finite_weights(tensor, precision if is_weight else "float32"):
            raise ValueError(f"tensor {name!r} holds values that are infinite or not numbers as {precision}.")
        if not is_weight:
            _validation.check_variances(tensor, f"tensor {name!r}")
