"""Structured logs: one event per fact, none per operation. JSON for machines, readable on a terminal.

Keys of users never appear in a log line. Metrics come with the http address.
"""

from __future__ import annotations

import sys
from typing import Any

import structlog

log: Any = structlog.get_logger("kvstore")


def _renderer(as_json: bool) -> Any:
    """Tracebacks come without the values of local variables: those are users' keys and values."""
    if as_json:
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def configure_logging(*, json: bool | None = None, node_id: str = "") -> None:
    """Sends events to stderr: as JSON lines, or coloured on a terminal (`json` None decides by that)."""
    as_json = not sys.stderr.isatty() if json is None else json
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _renderer(as_json),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    if node_id:
        structlog.contextvars.bind_contextvars(node=node_id)
