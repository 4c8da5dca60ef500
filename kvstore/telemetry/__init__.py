"""What a node tells of itself: events (`logs`, bounded by `limiter`), counters that its logic adds to (`histogram`, `meters`) and
ids that lead from one to the other (`trace`). Pure but for the lines on stderr; whoever serves the numbers is in api/.

Nothing here is called per operation: a batch adds itself up.
"""

from __future__ import annotations

from kvstore.telemetry.logs import configure_logging, key_hash, log, set_log_level

__all__ = ["configure_logging", "key_hash", "log", "set_log_level"]
