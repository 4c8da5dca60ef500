"""A node's counters as Prometheus metrics: read when they are scraped, and never in between. docs/telemetry.md lists every one, and
a test compares it with a living node.
"""

from __future__ import annotations
