"""Logging is one for a process: tests that configure it put it back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from kvstore.telemetry import log, set_log_level
from kvstore.telemetry.logs import LEVEL_DEFAULT


@contextmanager
def logging_put_back() -> Iterator[None]:
    """Within the block logging may be configured; afterwards it is as it is without."""
    try:
        yield
    finally:
        set_log_level(LEVEL_DEFAULT)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
        # What was used once keeps its stream (`cache_logger_on_first_use`), and that of a test is closed when the test is over.
        vars(log).pop("bind", None)
