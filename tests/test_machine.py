"""What the core knows of the machine."""

import os

import pytest

from fastmlp import _core


def test_l2_cache_has_the_size_that_the_c_library_finds():
    try:
        size = os.sysconf("SC_LEVEL2_CACHE_SIZE")
    except (AttributeError, ValueError, OSError):
        size = 0
    if size <= 0:
        pytest.skip("the C library does not say")
    assert _core.l2_cache_size() == size
