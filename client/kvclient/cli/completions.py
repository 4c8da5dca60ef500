"""What the Tab key offers where only the cluster knows: keys, namespaces and nodes.

Whoever presses it waits for an answer: the cluster is given 200 ms (KV_COMPLETION_TIMEOUT, in seconds, for one that is far away).
Where it does not answer, or is not there, nothing is offered and nothing is said.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from importlib import import_module
from typing import TYPE_CHECKING

from kvclient.cli import connection
from kvclient.cli.arguments import to_bytes
from kvclient.cli.options import Options
from kvproto.errors import KvError

if TYPE_CHECKING:
    import click

    from kvclient.cli.connection import Client

TIMEOUT_S = 0.2
TIMEOUT_VARIABLE = "KV_COMPLETION_TIMEOUT"
KEYS_MAX = 50


def keys(context: click.Context, _: object, incomplete: str) -> list[str]:
    """The first keys of the chosen namespace that begin with `incomplete`, but for those that cannot be typed."""
    options = Options.of(context)

    async def ask(client: Client) -> list[str]:
        found = client.namespace(options.namespace).scan(prefix=to_bytes(incomplete), limit=KEYS_MAX)
        return [entry.key.decode("utf-8", "replace") async for entry in found]

    return [key for key in _answer(context, ask) if key.isprintable() and "\N{REPLACEMENT CHARACTER}" not in key]


def namespaces(context: click.Context, _: object, incomplete: str) -> list[str]:
    """The cluster's namespaces that begin with `incomplete`."""

    async def ask(client: Client) -> list[str]:
        return [namespace.name for namespace in (await client.admin.describe()).namespaces]

    return [name for name in _answer(context, ask) if name.startswith(incomplete)]


def nodes(context: click.Context, _: object, incomplete: str) -> list[str]:
    """The ids of the cluster's members that begin with `incomplete`."""

    async def ask(client: Client) -> list[str]:
        return [member.id for member in (await client.admin.describe()).members]

    return [node_id for node_id in _answer(context, ask) if node_id.startswith(incomplete)]


def _answer(context: click.Context, ask: Callable[[Client], Awaitable[list[str]]]) -> list[str]:
    """What the cluster says within the time, through the shell's session where there is one; else nothing."""
    options = Options.of(context)
    keeper: connection.Keeper | None = context.meta.get(connection.KEEPER)

    timeout_s = _timeout_s()

    async def with_client() -> list[str]:
        async with asyncio.timeout(timeout_s), AsyncExitStack() as stack:
            return await ask(await connection.enter(stack, options))

    try:
        if keeper is not None:
            return keeper.run(options, ask, timeout_s=timeout_s)
        import_module("kvclient.grpc_transport")  # not at the cluster's expense
        return asyncio.run(with_client())
    except (KvError, OSError, TimeoutError):
        return []


def _timeout_s() -> float:
    try:
        return float(os.environ[TIMEOUT_VARIABLE])
    except (KeyError, ValueError):
        return TIMEOUT_S
