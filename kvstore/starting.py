"""A node's start, step by step: it listens, greets its peers, leases, is remembered, dials, and only then serves and hands over.

The order is the safety of it (safety rule 2): nothing is minted before the peers were asked what they remember of this node, nor
before they were told what it has leased now. One that was away for long waits for a peer to say how long (repair/absence.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kvproto.errors import AvailabilityError
from kvstore.assembly import Assembly
from kvstore.telemetry import log

ASK_AGAIN_S = 0.5
ALONE_S = 30.0
"""One that was away for long by its own clock waits so long for a peer, and then serves what it has: whoever starts nodes one after
the other waits for each."""
LINKS_WAIT_S = 1.0
"""A node that starts waits so long at the most for the links to those that have answered it."""


async def bring_up(parts: Assembly, go_on: Callable[[], None]) -> None:
    """Has the built `parts` begin their work. `go_on` is called after each wait and raises if the node was stopped meanwhile, or
    has failed: what was closed by then must not be opened again. Raises `ClusterError` or `NotAllowed` when a peer refuses this
    node."""
    local, peers, leases, server, directory = parts.local, parts.peers, parts.leases, parts.server, parts.directory
    assert local and peers and leases and server and directory and parts.detection, "built first"
    me = parts.config.node_id
    local.coordinator.stopped = AvailabilityError(f"{me} is starting", subject=me)
    local.returning.rebuilding.begin_if_new(has_peers=bool(parts.config.peers))
    local.ledger.ask()  # behind that note, and before anything that peers have stored here
    local.returning.absence.suspect()
    await parts.start_http()
    if parts.frames is not None:  # whoever hears of them can dial them
        await parts.frames.start()
        go_on()
    await server.start()
    parts.watch_certificates()
    present = await leases.greet(local.ledger, directory.clean_state, is_damaged=lambda: local.store.quarantined > 0)
    local.returning.rebuilding.all_asked()
    go_on()
    if local.returning.absence.must_ask:
        log.warning("away_for_long", node=me, waits_for="a peer")
    until_s = asyncio.get_running_loop().time() + ALONE_S
    while local.returning.absence.must_ask and asyncio.get_running_loop().time() < until_s:
        await asyncio.sleep(ASK_AGAIN_S)
        go_on()
        present = await leases.greet(local.ledger, None, is_damaged=lambda: True)
    await local.namespaces.spread.caught_up()  # what is ours to keep follows from the namespaces there are
    go_on()
    await local.returning.absence.settle()
    await local.ledger.leased()
    # What the peers remember is replaced by what they are told next: what follows from it has to outlive us before.
    await local.returning.rebuilding.noted()
    go_on()
    await leases.tell()
    go_on()
    peers.start()
    parts.detection.start()
    # Ready means: the first write finds its quorum.
    await peers.wait_open(present, LINKS_WAIT_S)
    await local.upkeep.owing.heard(present, LINKS_WAIT_S)
    # From here on nothing waits.
    go_on()
    local.coordinator.stopped = None
    local.start_background()
    await server.serve()
