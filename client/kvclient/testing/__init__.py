"""A store in memory for tests of programs that use this client: no server, no network, a clock that the test moves.

`FakeClient` and `FakeAsyncClient` are the real clients over a node that lives in this process (`store`), so keys, values, contexts,
siblings, levels, limits and errors are what they are against a cluster; one suite holds both to the same behaviour. What a test
adds is in `faults`: calls that fail, and a cluster that cannot be reached.
"""

from __future__ import annotations

from kvclient.testing.clients import FakeAsyncClient, FakeClient
from kvclient.testing.clock import FakeClock
from kvclient.testing.store import FakeStore

__all__ = ["FakeAsyncClient", "FakeClient", "FakeClock", "FakeStore"]
