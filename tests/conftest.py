"""For all tests: Ctrl-C works, even where the tests were started in the background of a shell."""

from __future__ import annotations

import signal


def pytest_configure() -> None:
    # A background job of a shell begins with SIGINT ignored, and so would the processes that tests interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
