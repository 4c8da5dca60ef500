"""What importing the client costs."""

from __future__ import annotations

import subprocess
import sys

import kvclient


def imported_by(statement: str) -> set[str]:
    """The modules that a fresh interpreter has after `statement`."""
    code = f"import sys; sys.path[:] = {sys.path!r}; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_importing_the_package_loads_next_to_nothing() -> None:
    assert not {"grpc", "asyncio", "google.protobuf"} & imported_by("import kvclient")


def test_making_a_client_does_not_load_grpc_before_it_dials() -> None:
    assert "grpc" not in imported_by("import kvclient; kvclient.open_async('127.0.0.1:1')")


def test_every_public_name_can_be_had() -> None:
    assert all(getattr(kvclient, name) is not None for name in dir(kvclient))
    assert kvclient.open_async("127.0.0.1:1").timeout_s == 5.0
