"""A change of the catalog, agreed on: read what is committed, decide on it, swap; again from the start when somebody was quicker.

Nothing is decided on what this node happens to go by, and nothing counts before the swap is committed (safety rule 6). A swap whose
outcome nobody told is found out by what is committed afterwards: an id has one meaning for ever, so what became of the id that it
would have taken tells what became of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from kvproto.columns import NamespaceWish
from kvproto.errors import ConditionFailed, DeadlineExceeded, KvError, Overloaded, QuorumUnreachable
from kvstore.cluster.catalog_register import CatalogRegister
from kvstore.core.catalog.catalog import Catalog, Entry, Meaning, create, drop
from kvstore.core.catalog.encoding import decode_catalog, encode_catalog
from kvstore.core.catalog.settings import Settings, decide_settings
from kvstore.crash_points import crash_point

ATTEMPTS_MAX = 32
"""So often may somebody else be quicker."""

READ = crash_point("catalog.read", "what is committed is read, and a change of it decided on")
SWAPPED = crash_point("catalog.swapped", "a change is committed, and nobody goes by it yet")

Committed = Callable[[Catalog], Awaitable[None]]
"""Is told of a version that is committed."""


class CatalogChanges:
    """One node's. `size` gives (replicas that the ring keeps, its nodes), `configured` the names in node.toml; `committed` is told
    of every version that was found or made, before the change is over. `value_bytes_max`: the cluster's, 0: whatever is asked."""

    def __init__(
        self,
        register: CatalogRegister,
        *,
        size: Callable[[], tuple[int, int]],
        configured: Callable[[], frozenset[str]],
        committed: Committed,
        value_bytes_max: int = 0,
    ) -> None:
        self._register = register
        self._size = size
        self._configured = configured
        self._committed = committed
        self._value_bytes_max = value_bytes_max

    async def read(self, timeout_s: float) -> Catalog:
        """The committed version, which no committed one is newer than. Raises `KvError`."""
        _, value = await self._register.read(timeout_s)
        catalog = decode_catalog(value)
        await self._committed(catalog)
        return catalog

    async def create(self, wish: NamespaceWish, timeout_s: float) -> tuple[Catalog, Entry]:
        """The version in which the namespace is live, and what it is. Raises as `decide_settings` and `core.catalog.create`;
        `QuorumUnreachable` and other `AvailabilityError`s as the register says."""
        replicas, nodes = self._size()
        settings = decide_settings(wish, replicas=replicas, nodes=nodes, value_bytes_max=self._value_bytes_max)
        change = _Creation(wish.name, settings, self._configured())
        catalog = await self._agree(change.decide, change.unsure, timeout_s)
        return catalog, catalog.entry(wish.name)

    async def drop(self, name: str, timeout_s: float) -> tuple[Catalog, Entry]:
        """The version in which it is gone, and what it was. Raises `UnknownNamespace`, `NamespaceConfigured`, and as `create`."""
        change = _Removal(name, self._configured())
        catalog = await self._agree(change.decide, change.unsure, timeout_s)
        assert change.entry is not None
        return catalog, change.entry

    async def _agree(self, decide: Callable[[Catalog], Catalog], unsure: Callable[[KvError], None], timeout_s: float) -> Catalog:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + timeout_s
        doubted: bytes | None = None  # the version in whose place a swap of ours may stand, or may still come to
        try:
            for _ in range(ATTEMPTS_MAX):
                version, value = await self._register.read(_left_s(until_s, loop.time()))
                if version != doubted:
                    doubted = None
                before = decode_catalog(value)
                await self._committed(before)
                after = decide(before)
                if after is before:
                    return before
                await READ.passed()
                error = await self._swap(version, after, _left_s(until_s, loop.time()))
                if error is None:
                    await SWAPPED.passed()
                    await self._committed(after)
                    return after
                if error.may_have_applied:  # what is committed next says what became of it, if there is time left to ask
                    doubted = version
                    unsure(error)
                elif not isinstance(error, ConditionFailed):  # else somebody was quicker
                    raise error
            raise Overloaded(f"others changed the namespaces {ATTEMPTS_MAX} times meanwhile: try again", retry_after_s=1.0)
        except KvError as error:
            if doubted is not None:
                error.may_have_applied = True
            elif isinstance(error, QuorumUnreachable) and not error.may_have_applied:
                raise _refusal(error) from error
            raise

    async def _swap(self, version: bytes, after: Catalog, timeout_s: float) -> KvError | None:
        try:
            await self._register.swap(version, encode_catalog(after), timeout_s)
        except KvError as error:
            return error
        return None


class _Creation:
    """One creation, over all of its attempts."""

    def __init__(self, name: str, settings: Settings, configured: frozenset[str]) -> None:
        self._name = name
        self._settings = settings
        self._configured = configured
        self._tried_id = 0
        self._unsure: dict[int, KvError] = {}

    def decide(self, catalog: Catalog) -> Catalog:
        """Raises what became of an attempt that nobody told of, if that cannot be found out."""
        for number, error in self._unsure.items():
            if catalog.meaning(number) is Meaning.DROPPED:  # ours, perhaps, made and dropped again: not to be made once more
                raise error
        self._tried_id = catalog.next_id
        return create(catalog, self._name, self._settings, configured=self._configured)

    def unsure(self, error: KvError) -> None:
        """The last attempt may have been made: it would have taken the id that was next."""
        self._unsure[self._tried_id] = error


class _Removal:
    """One removal, over all of its attempts: of what the name stood for at first, and of nothing else."""

    def __init__(self, name: str, configured: frozenset[str]) -> None:
        self._name = name
        self._configured = configured
        self.entry: Entry | None = None

    def decide(self, catalog: Catalog) -> Catalog:
        """Nothing is left to do when the id is gone, whoever dropped it."""
        if self.entry is not None and catalog.meaning(self.entry.id) is Meaning.DROPPED:
            return catalog
        dropped = drop(catalog, self._name, configured=self._configured)
        self.entry = catalog.entry(self._name)
        return dropped

    def unsure(self, error: KvError) -> None:
        """What is committed by then says it."""


def _left_s(until_s: float, now_s: float) -> float:
    left_s = until_s - now_s
    if left_s <= 0:
        raise DeadlineExceeded("no time was left to agree on a change of the namespaces")
    return left_s


def _refusal(error: QuorumUnreachable) -> QuorumUnreachable:
    return QuorumUnreachable(
        f"the nodes agree on namespaces by majority, and none can be reached from here: nothing was changed ({error.message})",
        needed=error.needed,
        received=error.received,
        contacted=error.contacted,
    )
