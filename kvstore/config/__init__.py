"""What a node is told before it starts: read, checked as a whole and frozen.

`ClusterConfig` must be equal on every node (its canonical JSON travels in Hello, so that a mismatch is refused by name);
`NodeConfig` may differ. `values` holds both and what follows from them, `table` reads TOML tables and collects every problem,
`loading` turns a file into a `NodeConfig` and `checks` judges settings that only make sense together. Nothing here starts anything.
"""

from __future__ import annotations

from kvstore.config.loading import ConfigError, load_config, parse_config
from kvstore.config.values import (
    AUTO,
    OFF,
    ClusterConfig,
    MembershipConfig,
    NamespaceConfig,
    NodeConfig,
    NodeLimits,
    TelemetryConfig,
    TlsConfig,
)

__all__ = [
    "AUTO",
    "OFF",
    "ClusterConfig",
    "ConfigError",
    "MembershipConfig",
    "NamespaceConfig",
    "NodeConfig",
    "NodeLimits",
    "TelemetryConfig",
    "TlsConfig",
    "load_config",
    "parse_config",
]
