"""On which scale the input of a net is: pixels, which count as p / 255, or numbers as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np

from fastmlp._samples import Samples

_FEWEST_ROWS: Final = 8
_MOST_ROWS: Final = 64
_ENOUGH_NUMBERS: Final = 2**18  # in fewer than the most rows
_MOST_OF_PIXELS: Final = 1.5  # pixels count as 1 at most; numbers that suit them may be a little more
_MOST_OF_CODES: Final = 16  # uint8 that is nowhere more is hardly of images: 0 and 1 of a table, rather

_TRAINED_ON: Final = "what this net was trained on"


class Scale(NamedTuple):
    """What is seen of some samples.

    Attributes
    ----------
    pixels : bool
        Whether they are pixels (uint8).
    largest : float
        The largest number in 8 to 64 of them, evenly spread over all, as it is in the array; 0 if that is not
        finite.
    """

    pixels: bool
    largest: float


def scale_of(samples: Samples) -> Scale:
    """Return on which scale samples are, of which there is at least one."""
    n_rows = max(_FEWEST_ROWS, min(_MOST_ROWS, _ENOUGH_NUMBERS // samples.n_features))
    largest = float(samples.X[:: -(-len(samples) // n_rows)].max())
    return Scale(_are_pixels(samples), largest if math.isfinite(largest) else 0.0)


def doubts_before_fit(
    samples: Samples, scale: Scale, validation: Samples | None, before: Scale | None
) -> Iterator[str]:
    """Yield what to warn of; `before` is the scale of an earlier fit."""
    if _may_be_codes(scale):
        yield _advice_on_codes(samples, scale)
    if validation is not None and _are_pixels(validation) != scale.pixels:
        other = scale_of(validation)
        if _differ(scale, other):
            yield (
                f"{_contrast(samples.name, scale, validation.name, other)}: these are two scales. Pass both "
                "as uint8, or divide the numbers by 255."
            )
    if before is not None and _differ(scale, before):
        yield f"{_contrast(samples.name, scale, _TRAINED_ON, before)}."


def doubt_before_prediction(samples: Samples, before: Scale | None) -> str | None:
    """Return what to warn of, if anything; `before` is the scale that the net was trained on."""
    if before is None or not len(samples) or before.pixels == _are_pixels(samples):
        return None
    scale = scale_of(samples)
    if scale.largest == 0:  # on every scale
        return None
    if _differ(scale, before):
        return (
            f"{_contrast(samples.name, scale, _TRAINED_ON, before)}: predictions will be wrong. Pass what it "
            "was trained on, in the same type and range."
        )
    return _advice_on_codes(samples, scale) if _may_be_codes(scale) else None


def _are_pixels(samples: Samples) -> bool:
    return samples.dtype == np.uint8


def _may_be_codes(scale: Scale) -> bool:
    return scale.pixels and 0 < scale.largest <= _MOST_OF_CODES


def _advice_on_codes(samples: Samples, scale: Scale) -> str:
    return (
        f"{samples.name} holds uint8 numbers up to {scale.largest:g}, which count as pixels, p / 255. If "
        f"they are none, pass {samples.name}.astype(np.float32)."
    )


def _differ(one: Scale, other: Scale) -> bool:
    """Whether one has pixels and the other numbers far above theirs."""
    if one.pixels == other.pixels:
        return False
    numbers = other if one.pixels else one
    return numbers.largest > _MOST_OF_PIXELS


def _contrast(name: str, scale: Scale, other_name: str, other: Scale) -> str:
    return f"{_described(name, scale)}, but {_described(other_name, other)}"


def _described(name: str, scale: Scale) -> str:
    if scale.pixels:
        return f"{name} holds pixels (uint8), which count as p / 255"
    return f"{name} holds numbers up to {scale.largest:g}"
