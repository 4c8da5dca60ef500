"""Brings an acceptor that has lost its disk back to its vote, group by group, in the background (safety rule 15).

What it asks for and what that comes to is decided in core/register/readmission.py; this asks all other owners, waits until what
they told is durable here, and begins with the next page. A page that could not be had is asked for again later, and ever more
rarely: each time a proposer of the group loses its ballot. Whole groups outlive the process, the pages of one that is not whole do
not. While records are being rebuilt it waits: it is not known yet what is lost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Sequence

from kvproto.errors import KvError, StorageError
from kvstore.cluster.view import RingHolder
from kvstore.core.register.ballot import node_tag, round_of
from kvstore.core.register.copying import Page, decode_page
from kvstore.core.register.messages import Ask, Reply, Step, Why, decode_reply, encode_ask
from kvstore.core.register.readmission import Copied, Readmission
from kvstore.crash_points import crash_point
from kvstore.repair.pace import Pace
from kvstore.repair.told import Told
from kvstore.storage.registers import Registers
from kvstore.telemetry import log
from kvstore.transport.peers import PeerTransport, RegisterChunk

LOOK_S = 1.0
GROUPS_AT_ONCE = 64
TIMEOUT_S = 5.0
WAIT_S_MAX = 8.0

TOLD = crash_point("readmission.told", "the other owners have promised and told a page; nothing of it is written")
STAGED = crash_point("readmission.staged", "a page is being written")
PROPOSED = crash_point(
    "readmission.proposed", "what was not chosen yet is accepted again by the others; the page may not be durable"
)
TAKEN = crash_point("readmission.taken", "a page is durable")
ENDING = crash_point("readmission.ending", "the last group is whole, and it is being written down that nothing is lost any more")
ENDED = crash_point("readmission.ended", "it is durable that nothing is lost any more")


class Readmitting:
    """One node's, from `start` to `stop`. `taken`: the highest ballot that its own proposer may have used in a group. `groups` and
    `registers` count what was copied."""

    def __init__(
        self,
        *,
        me: str,
        registers: Registers,
        taken: Callable[[bytes], bytes],
        peers: PeerTransport,
        ring: RingHolder,
        pace: Pace,
        rng: random.Random,
        read_catalog: Callable[[float], Awaitable[object]],
    ) -> None:
        """`read_catalog` makes this node go by the newest committed version of the namespaces, or raises `KvError`; it is given the
        seconds it may take."""
        self._me = me
        self._registers = registers
        self._taken = taken
        self._peers = peers
        self._ring = ring
        self._pace = pace
        self._rng = rng
        self._read_catalog = read_catalog
        self._begun: dict[bytes, Readmission] = {}
        self._waits: dict[bytes, tuple[float, float]] = {}
        """Groups of which nothing could be had: how long they wait, and until when."""
        self._task: asyncio.Task[None] | None = None
        self._without: frozenset[str] = frozenset()
        self.groups = 0
        self.copied = 0

    def start(self) -> None:
        """Begins to look whether there is something to do."""
        self._task = asyncio.get_running_loop().create_task(self._look(), name=f"readmitting@{self._me}")

    def stop(self) -> None:
        """Ends at once."""
        if self._task is not None:
            self._task.cancel()

    def accept_loss(self, nodes: Collection[str]) -> int:
        """From now on, until this node has its votes back or ends, what only `nodes` and this one held of registers is taken for
        lost: they are not waited for (docs/registers.md). How many groups that concerns; 0: none, this node has lost nothing, or
        does not know yet what."""
        if not self._registers.may_be_admitted:
            return 0
        given_up = self._without | frozenset(nodes)
        waiting = sum(not given_up.isdisjoint(owners) for owners in self._waited_for(given_up))
        if not waiting:
            return 0
        self._without = given_up
        self._waits.clear()
        log.warning("register_loss_accepted", node=self._me, without=sorted(self._without), groups=waiting)
        return waiting

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            while self._registers.may_be_admitted and await self._go_on():
                pass

    async def _go_on(self) -> bool:
        """Whether anything came of it."""
        open_groups = self.open_groups()
        if not open_groups:
            # It may have voted in namespaces that nobody has told it of since.
            try:
                await self._read_catalog(TIMEOUT_S)
            except KvError as error:
                log.info("catalog_not_read", node=self._me, reason=error.message)
                return False
            if self.open_groups():
                return True
            told = Told[StorageError | None]()
            self._registers.end_loss(told.take)
            await ENDING.passed()
            if await told.answer is None:
                self._without = frozenset()
                await ENDED.passed()
                log.info("registers_readmitted", node=self._me, groups=self.groups, registers=self.copied)
            return False
        now_s, ring_hash = asyncio.get_running_loop().time(), self._ring.view.ring.hash
        by_owners: dict[tuple[str, ...], list[Readmission]] = {}
        for group, owners in open_groups.items():
            begun = self._begun.get(group)
            if begun is None or {*begun.others, self._me} != set(owners):
                begun = self._begin(group, owners)
            begun.without = self._without
            reachable = [node for node in begun.others if self._peers.reachable(node)]
            if begun.is_enough(reachable) and self._waits.get(group, (0.0, 0.0))[1] <= now_s:
                by_owners.setdefault(tuple(sorted(begun.others)), []).append(begun)
        went_on = False
        for some in by_owners.values():
            went_on = await self._copy(some[:GROUPS_AT_ONCE], ring_hash) or went_on
        return went_on

    def open_groups(self) -> dict[bytes, tuple[str, ...]]:
        """Those that this node owns and has no vote on, with their owners."""
        view, admitted = self._ring.view, self._registers.admission.admitted
        return {
            prefix: homes
            for space in view.all_spaces()
            if space.info.mode == "linearizable"
            for prefix, owners in zip(space.prefixes, view.preference, strict=True)
            if self._me in (homes := tuple(owners[: space.info.n])) and prefix not in admitted
        }

    def _waited_for(self, given_up: frozenset[str]) -> list[set[str]]:
        """Of each group without a vote the owners that it waits for; where all of them are given up, this node as well."""
        return [set(owners) if given_up.issuperset(owners) else {*owners} - {self._me} for owners in self.open_groups().values()]

    @property
    def goes_on_without(self) -> frozenset[str]:
        """Nodes that are not waited for."""
        return self._without

    def _begin(self, group: bytes, owners: tuple[str, ...]) -> Readmission:
        above = max(round_of(self._registers.promised(group)), round_of(self._taken(group)))
        incarnation = self._rng.getrandbits(64)  # not the proposer's: their ballots must never be the same
        begun = Readmission(group, owners, self._me, tag=node_tag(self._me), incarnation=incarnation, round_above=above)
        self._begun[group] = begun
        return begun

    async def _copy(self, begun: Sequence[Readmission], ring_hash: int) -> bool:
        """The next page of each; they have the same owners. Whether one has got further, or knows a ballot to try next."""
        await self._pace.turn(operations=len(begun))
        loss, cursors = self._registers.admission.loss, [one.cursor for one in begun]
        ask = Ask(Step.COPY, cursors, [one.ballot for one in begun])
        others = begun[0].others
        replies = dict(zip(others, await asyncio.gather(*(self._ask(node, ask, ring_hash) for node in others)), strict=True))
        own_told = Told[tuple[StorageError | None, list[Page | None]]]()
        self._registers.pages(cursors, lambda error, pages: own_told.take((error, pages)))
        failure, own = await own_told.answer
        if failure is not None or loss != self._registers.admission.loss:
            return False
        copied: list[Copied] = []
        tries_again = False
        for position, one in enumerate(begun):
            ballot, lies_here = one.ballot, own[position]
            refused = [reply.refused[position] for reply in replies.values() if reply is not None and position in reply.refused]
            for why, promised in refused:
                if why is Why.PROMISED:
                    one.passed(round_of(promised))
            if one.ballot == ballot and lies_here is not None and Why.LATER not in [why for why, _ in refused]:
                page = one.take(_pages(replies, position, one.cursor), lies_here)
                if page is not None:
                    copied.append(page)
                elif one.ballot == ballot:
                    self._put_off(one.group)
            tries_again = tries_again or one.ballot != ballot
        return await self._take_in(copied, others, ring_hash) or tries_again

    def _put_off(self, group: bytes) -> None:
        wait_s = min(WAIT_S_MAX, 2 * self._waits.get(group, (LOOK_S / 4, 0.0))[0])
        self._waits[group] = wait_s, asyncio.get_running_loop().time() + wait_s

    async def _take_in(self, copied: Sequence[Copied], others: Sequence[str], ring_hash: int) -> bool:
        if not copied:
            return False
        await TOLD.passed()
        self._pace.charge(sum(len(held) for one in copied for _, held in one.writes), sum(len(one.writes) for one in copied))
        told = Told[KvError | None]()
        self._registers.take_in(copied, told.take)
        await STAGED.passed()
        proposed = [row for one in copied for row in one.proposed]
        if proposed:
            keys, stamps, payloads = map(list, zip(*proposed, strict=True))
            ask = Ask(Step.ACCEPT, keys, stamps, [0] * len(keys), payloads)
            # Whoever refuses has promised a later proposer, who has to find out by itself what is chosen.
            await asyncio.gather(*(self._ask(node, ask, ring_hash) for node in others))
            await PROPOSED.passed()
        if await told.answer is not None:
            return False
        await TAKEN.passed()
        for one in copied:
            self._waits.pop(one.group, None)
            self.copied += len(one.writes)
            if one.is_last:
                self.groups += 1
                del self._begun[one.group]
        return True

    async def _ask(self, node: str, ask: Ask, ring_hash: int) -> Reply | None:
        """The reply of `node`, by the ring that made it an owner; None: it cannot be asked, or says nothing that can be read."""
        told = Told[RegisterChunk]()
        deadline_s = asyncio.get_running_loop().time() + TIMEOUT_S
        self._peers.register(RegisterChunk(node, encode_ask(ask), len(ask.keys), deadline_s, told.take, ring_hash))
        chunk = await told.answer
        if chunk.error is not None:
            return None
        try:
            return decode_reply(chunk.reply, ask)
        except ValueError as failure:
            log.warning("register_reply_unreadable", node=node, reason=str(failure))
            return None


def _pages(replies: dict[str, Reply | None], position: int, cursor: bytes) -> dict[str, Page]:
    pages: dict[str, Page] = {}
    for node, reply in replies.items():
        if reply is None or position in reply.refused:
            continue
        try:
            pages[node] = decode_page(reply.states[position], cursor)
        except ValueError as failure:
            log.warning("register_page_unreadable", node=node, reason=str(failure))
    return pages
