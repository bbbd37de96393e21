"""What random numbers are drawn for: the second part of a number's address (seed, purpose, stream, index)."""

from __future__ import annotations

import os
from typing import Final

# A number once given stays: another would change what a seed trains.
PURPOSE_WEIGHTS: Final = 1  # stream: the layer, counted from 0
PURPOSE_BIASES: Final = 2  # stream: the layer, counted from 0
PURPOSE_SHUFFLE: Final = 3  # stream: the epoch, counted from 0 over the net's life
# 5, 6 and 7 are the core's: cpp/core/random.h.


def draw_seed() -> int:
    """Return a seed that nobody can foresee, drawn from the operating system."""
    return int.from_bytes(os.urandom(8), "little")
