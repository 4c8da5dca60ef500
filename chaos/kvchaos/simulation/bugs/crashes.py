"""Steps of background work that a crash takes back: found where a node is killed at a named point of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from kvchaos.simulation.bugs.planting import bug
from kvchaos.simulation.patch import Patch
from kvproto.errors import StorageError
from kvstore.core.heard import Heard
from kvstore.core.merkle.questions import Held
from kvstore.core.register.readmission import Copied
from kvstore.repair import rebuilding
from kvstore.repair.exchange_round import ExchangeRound
from kvstore.repair.readmitting import Readmitting
from kvstore.repair.rebuilding import Rebuilding
from kvstore.repair.told import Told
from kvstore.repair.unnoted import Unnoted
from kvstore.storage.commit import Commit
from kvstore.storage.epochs import ActorLedger
from kvstore.storage.registers import Registers


@bug(
    "crash-takes-hints",
    "who missed a write is noted after the reply; after a crash nobody looks for it (safety rule 11)",
    scenario="crash-in-missed-write",
)
def forget_who_missed(patch: Patch) -> None:
    """Enough replicas have the write, one has not, and without an interval nothing ever tells it."""

    def init(self: Unnoted, engine: Any, committer: Any, others: Iterable[str], **_: bool) -> None:
        init_before(self, engine, committer, others, may_have_lost=False)

    init_before = patch.set(Unnoted, "__init__", init)


@bug(
    "rebuilt-by-one",
    "a node that has lost its disk counts as whole when one other owner of each partition was heard (safety rule 5)",
    scenario="crash-in-lone-rebuild",
)
def hear_one_owner(patch: Patch) -> None:
    """What was acknowledged by it and another is not found by it and the one that it heard."""
    patch.set(rebuilding, "owners_needed", lambda space: 1)


@bug(
    "rebuilt-by-the-lost",
    "a node that has lost its disk counts others as heard that have lost theirs as well (safety rule 5)",
    scenario="two-lost-disks",
)
def hear_the_lost(patch: Patch) -> None:
    """They have told what they hold, which is nothing: a third one that is away has what all three had acknowledged."""

    def take(self: Heard, peer: str, prefixes: Iterable[bytes], _: Collection[bytes] = ()) -> None:
        take_before(self, peer, prefixes)

    take_before = patch.set(Heard, "take", take)


@bug(
    "leased-before-noted",
    "a node with a new directory leases before it writes down that the directory is new (safety rule 5)",
    scenario="crash-in-first-life",
)
def lease_first(patch: Patch) -> None:
    """Found by the swarm: killed in between, it finds a lease in its next life, and takes itself for one that has lost nothing."""

    def init(self: ActorLedger, *args: Any, **named: Any) -> None:
        init_before(self, *args, **named)
        self._renew()

    init_before = patch.set(ActorLedger, "__init__", init)


@bug(
    "rebuild-forgotten",
    "a node that is killed while it rebuilds what it has lost counts as whole in its next life (safety rule 5)",
    scenario="crash-in-lone-rebuild",
)
def forget_the_rebuild(patch: Patch) -> None:
    """Whom it had told of its new life, remembers nothing that it would miss."""

    def init(self: Rebuilding, me: str, engine: Any, store: Any, *args: Any, **named: Any) -> None:
        init_before(self, me, engine, store, *args, **named)
        self.reason, store.is_rebuilding = "", False

    init_before = patch.set(Rebuilding, "__init__", init)


@bug(
    "rebuilt-before-durable",
    "a node that has lost its disk counts as whole while what it has fetched is still being written (safety rule 3)",
    scenario="slow-rebuild",
)
def wait_for_no_write(patch: Patch) -> None:
    """Until then it says "not found" of it, and is believed."""

    async def take(self: ExchangeRound, _: bytes, held: Held) -> tuple[bool, list[bytes]]:
        self._store.merge(list(held.store_keys), list(held.records), lambda error, refused: None)
        return True, []

    patch.set(ExchangeRound, "_take", take)


@bug(
    "vote-before-copy",
    "that an acceptor votes again is durable before what the others have told it (safety rule 15)",
    scenario="crash-in-lone-readmission",
)
def admit_first(patch: Patch) -> None:
    """Killed in between, it votes as if it had never accepted anything."""

    def admit(self: Registers, copied: Sequence[Copied], done: Callable[[StorageError | None], None]) -> None:
        self._committer.submit(Commit([self.admission.row(one.group) for one in copied if one.is_last], 64, done))

    async def take_in(self: Readmitting, copied: Sequence[Copied], *args: Any) -> bool:
        told = Told[StorageError | None]()
        admit(self._registers, copied, told.take)
        await told.answer
        took: bool = await take_in_before(self, copied, *args)
        return took

    take_in_before = patch.set(Readmitting, "_take_in", take_in)
