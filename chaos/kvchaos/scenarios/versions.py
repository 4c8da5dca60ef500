"""What a run was made with: a verdict holds for these and no others."""

from __future__ import annotations

import platform
from importlib import metadata

from kvchaos.faults.server_binary import VERSION
from kvclient import __version__


def versions() -> dict[str, str]:
    """By name."""
    return {
        "kvstore": __version__,
        "python": platform.python_version(),
        "grpcio": metadata.version("grpcio"),
        "toxiproxy": VERSION,
    }
