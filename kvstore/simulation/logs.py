"""Catches what nodes log while a world runs, so that it becomes part of the world's events and nothing is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from typing import Any

import structlog

from kvstore.telemetry import log

Take = Callable[[str, str, dict[str, Any]], None]
"""Gets the level, the event and its facts."""


@contextmanager
def caught_logs(take: Take) -> Iterator[None]:
    """Until it is left, what is logged goes to `take` only. What was configured before is configured again then."""

    def catch(_: Any, level: str, event: MutableMapping[str, Any]) -> Any:
        facts = dict(event)
        take(level, facts.pop("event"), facts)
        raise structlog.DropEvent

    was_configured, before = structlog.is_configured(), structlog.get_config()
    bound = vars(log).pop("bind", None)  # what `cache_logger_on_first_use` keeps
    structlog.configure(processors=[catch], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        if was_configured:
            structlog.configure(**before)
        else:
            structlog.reset_defaults()
        if bound is not None:
            vars(log)["bind"] = bound
