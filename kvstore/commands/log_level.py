"""How much a node tells: by its file, by KV_LOG_LEVEL where that is set, and by its file again whenever it gets a SIGHUP."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from kvproto.errors import UserError
from kvstore.config import ConfigError, NodeConfig, load_config
from kvstore.config.table import did_you_mean
from kvstore.telemetry import log, set_log_level
from kvstore.telemetry.logs import LEVELS

VARIABLE = "KV_LOG_LEVEL"


def level_at_start(config: NodeConfig) -> str:
    """The level to begin with. Raises `UserError` for a KV_LOG_LEVEL that is none."""
    level = os.environ.get(VARIABLE, "") or config.telemetry.log_level
    if level not in LEVELS:
        raise UserError(f"{VARIABLE}={level!r} is not a level; {did_you_mean(level, list(LEVELS))}", subject=VARIABLE)
    return level


def follow_file_on_hangup(path: Path) -> None:
    """From now on a SIGHUP has the level read from the file again. In a terminal it goes on to mean that the terminal is gone."""
    if not sys.stderr.isatty():
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, follow_file, path)


def follow_file(path: Path) -> None:
    """Sets the level that the file says now; one that cannot be read changes nothing, and is told."""
    try:
        level = load_config(path).telemetry.log_level
    except ConfigError as error:
        log.error("log_level_kept", reason=error.message)
        return
    set_log_level(level)
    log.warning("log_level_set", to=level)
