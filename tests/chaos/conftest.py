"""The real Toxiproxy for whatever asks for it: built before the first such test, however long that takes, and never skipped."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvchaos.faults.server_binary import find_server


@pytest.fixture(scope="session")
def toxiproxy_server() -> Path:
    """The server's binary. Tests that ask for it bound their own time only: `@pytest.mark.timeout(…, func_only=True)`."""
    return find_server()
