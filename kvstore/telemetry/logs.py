"""Structured logs: one event per fact, none per operation. JSON for machines, readable on a terminal.

Events are named in docs/telemetry.md. Keys of users never appear in one, only their hashes, and what others have sent is shown with
its control characters escaped and cut to a length. The level can be changed while the node runs.
"""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any

from xxhash import xxh3_64_hexdigest

from kvstore.telemetry.structlog_import import structlog

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
LEVEL_DEFAULT = "info"
TEXT_CHARS_MAX = 500

log: Any = structlog.get_logger("kvstore")


class _Threshold:
    """Drops events below a level that can be changed: structlog's own filter is fixed once a logger was used."""

    def __init__(self) -> None:
        self.level = LEVELS[LEVEL_DEFAULT]

    def __call__(self, _: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if LEVELS.get("error" if method == "exception" else method, self.level) < self.level:
            raise structlog.DropEvent
        return event


_threshold = _Threshold()


def set_log_level(level: str) -> None:
    """From now on events below `level`, a key of `LEVELS`, are dropped."""
    _threshold.level = LEVELS[level]


def configure_logging(*, json: bool | None = None, node_id: str = "", level: str = LEVEL_DEFAULT) -> None:
    """Sends events to stderr: as JSON lines, or coloured on a terminal (`json` None decides by that)."""
    as_json = not sys.stderr.isatty() if json is None else json
    set_log_level(level)
    structlog.configure(
        processors=[
            _threshold,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            _made_safe,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _renderer(as_json),
        ],
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    if node_id:
        structlog.contextvars.bind_contextvars(node=node_id)


def key_hash(key: bytes) -> str:
    """What stands for a key in a log line."""
    return xxh3_64_hexdigest(key)


def _made_safe(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A node's name or an error's text may come from a stranger: it must neither steer a terminal nor fill a disk."""
    for name, value in event.items():
        if isinstance(value, str) and name != "exception":
            event[name] = _shown(value)
    return event


def _shown(text: str) -> str:
    cut = text if len(text) <= TEXT_CHARS_MAX else text[:TEXT_CHARS_MAX] + "…"
    return cut if cut.isprintable() else cut.encode("unicode_escape").decode("ascii")


def _renderer(as_json: bool) -> Any:
    """Tracebacks come without the values of local variables: those are users' keys and values."""
    if as_json:
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
