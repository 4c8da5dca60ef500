"""What one node asks a peer's trees before anybody reads a record: which of them differ, in which leaves, and whether that stands.

The shell of core/merkle/standing.py and exchange.py: it waits and asks. exchange_round.py lists and repairs what is found here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field

from kvproto.errors import AvailabilityError
from kvstore.core.merkle.exchange import Answer
from kvstore.core.merkle.forest import Forest
from kvstore.core.merkle.questions import Nodes, Question, Reply, Roots, Summary
from kvstore.core.merkle.standing import Differing, at_both, begin_look, differs, is_known, pair_roots, sort_roots
from kvstore.core.merkle.standing import Roots as RootRows
from kvstore.repair.lanes import in_lanes

AGAIN_S = 0.25
"""Between two looks: a write is on its way for some milliseconds, and for longer where much is written."""
LOOKS_MAX = 4
"""At one leaf. What is on its way is at four looks in the same leaf where most leaves have something on its way."""


@dataclass(slots=True)
class Suspects:
    """What two nodes' trees came to: how many prefixes were `differing` at first and how many are `unknown` on a side; those that
    were `equal` at one look at least; and where keys are to be listed: the depth of the peer's tree, or the leaves that differ each
    time."""

    differing: int
    unknown: int
    equal: set[bytes]
    at: dict[bytes, int | Differing] = field(default_factory=dict)


class Looking:
    """Looks at the trees of `peer`. `ask` raises the `KvError` that breaks it off; `rest` is awaited after each tree, with
    the time when it was begun."""

    def __init__(
        self, peer: str, forest: Forest, *, ask: Callable[[Question], Awaitable[Reply]], rest: Callable[[float], Awaitable[None]]
    ) -> None:
        self._peer = peer
        self._forest = forest
        self._ask = ask
        self._rest = rest
        self.unsure: set[bytes] = set()
        """Prefixes of which the peer may have lost records itself, as it has said at any look."""

    async def suspects(self, prefixes: Sequence[bytes], rng: random.Random, *, at_once: bool) -> Suspects:
        """What is to be listed, in random order. `at_once`: by one look at the roots."""
        first = await self._roots(prefixes)
        known = [prefix for prefix in prefixes if is_known(first[prefix])]
        differing = [prefix for prefix in known if differs(first[prefix])]
        rng.shuffle(differing)
        out = Suspects(len(differing), len(prefixes) - len(known), set(known) - set(differing))
        depths = {prefix: first[prefix][1][0] for prefix in differing}
        out.at.update(depths)
        if not differing or at_once:
            return out
        await asyncio.sleep(AGAIN_S)
        equal, moving = sort_roots(first, await self._roots(differing))
        for prefix, found in (await self._standing({prefix: depths[prefix] for prefix in differing if prefix in moving})).items():
            if found is None:
                out.unknown += 1
                del out.at[prefix]
            elif found.leaves:
                out.at[prefix] = found
            else:
                equal.add(prefix)
        for prefix in equal:
            del out.at[prefix]
        out.equal |= equal
        return out

    async def leaves(self, prefix: bytes, at: int | Differing) -> Differing | None:
        """The leaves of one tree that differ now (`at` as in `begin_look`); None: the tree is unknown on one side."""
        exchange = begin_look(self._forest, prefix, at)
        if exchange is None:
            return None
        while (ask := exchange.ask()) is not None:
            reply = await self._ask(Nodes(prefix, ask))
            if not isinstance(reply, Answer):
                return None
            try:
                exchange.take(ask, reply)
            except ValueError as error:
                raise self._nonsense(error) from error
        found = Differing(exchange.depth, exchange.differing)
        return found if isinstance(at, int) else at_both(at, found)

    async def _standing(self, depths: Mapping[bytes, int]) -> dict[bytes, Differing | None]:
        """Of trees that both sides go on changing, by the depths of theirs: the leaves that differ at each of `LOOKS_MAX` looks.
        None as in `leaves`. Where most leaves differ nothing is left to be narrowed down."""
        at: Mapping[bytes, int | Differing] = depths
        found: dict[bytes, Differing | None] = {}

        async def look(item: tuple[bytes, int | Differing]) -> None:
            began_s = asyncio.get_running_loop().time()
            prefix, before = item
            found[prefix] = await self.leaves(prefix, before)
            await self._rest(began_s)

        for times in range(LOOKS_MAX):
            if times:
                await asyncio.sleep(AGAIN_S)
            await in_lanes(at.items(), look)
            at = {prefix: now for prefix in at if (now := found[prefix]) is not None and now.leaves and not _is_most(now)}
        return found

    async def _roots(self, prefixes: Sequence[bytes]) -> RootRows:
        theirs = await self._ask(Roots(prefixes))
        assert isinstance(theirs, Summary)
        self.unsure.update(prefixes[at] for at in theirs.unsure if at < len(prefixes))
        try:
            return pair_roots(self._forest, prefixes, theirs.roots)
        except ValueError as error:
            raise self._nonsense(error) from error

    def _nonsense(self, error: ValueError) -> AvailabilityError:
        return AvailabilityError(f"{self._peer} answered something else: {error}", subject=self._peer)


def _is_most(found: Differing) -> bool:
    return 2 * len(found.leaves) > 1 << found.depth
