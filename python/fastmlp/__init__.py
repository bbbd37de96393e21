"""Train multilayer perceptrons on a CPU, fast.

>>> from fastmlp import Net, Adam, datasets, plots

`Net` is the centre: fit, evaluate, predict, save, load. `datasets` has MNIST and others, `plots` draws, `idx`
reads and writes MNIST's file format. Only NumPy is loaded with this package; what else a function needs, it
imports itself.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fastmlp import _core  # noqa: F401  (before NumPy: it refuses subinterpreters, in which NumPy misbehaves)
from fastmlp.augment import Augmentation, Elastic
from fastmlp.callbacks import Callback, Checkpoint, CSVLogger, EarlyStopping, TensorBoard
from fastmlp.errors import (
    DownloadError,
    IdxFormatError,
    ModelFileError,
    NonFiniteInputError,
    NonFiniteLossError,
    NonFiniteOutputError,
)
from fastmlp.history import History
from fastmlp.initializers import Normal
from fastmlp.metrics import Evaluation
from fastmlp.net import Net
from fastmlp.optimizers import SGD, Adam, AdamW
from fastmlp.progress import Progress

if TYPE_CHECKING:
    from fastmlp import datasets, idx, plots, schedules

    __version__: str

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Augmentation",
    "CSVLogger",
    "Callback",
    "Checkpoint",
    "DownloadError",
    "EarlyStopping",
    "Elastic",
    "Evaluation",
    "History",
    "IdxFormatError",
    "ModelFileError",
    "Net",
    "NonFiniteInputError",
    "NonFiniteLossError",
    "NonFiniteOutputError",
    "Normal",
    "Progress",
    "TensorBoard",
    "__version__",
    "datasets",
    "idx",
    "plots",
    "schedules",
]

_LAZY_MODULES = ("datasets", "idx", "plots", "schedules")


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return importlib.import_module(f"fastmlp.{name}")
    if name == "__version__":
        metadata = importlib.import_module("importlib.metadata")  # takes longer than all of fastmlp
        return metadata.version("fastmlp")
    raise AttributeError(f"module 'fastmlp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
