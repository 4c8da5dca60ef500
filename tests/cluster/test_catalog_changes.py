"""A change of the catalog over a register: what happens once, what happens not at all, and what nobody can tell.

The register is in memory and does what it is told to: loses answers, is out of reach, or has somebody else be quicker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproto.columns import NamespaceWish
from kvproto.errors import (
    AvailabilityError,
    ConditionFailed,
    DeadlineExceeded,
    KvError,
    NamespaceConfigured,
    NamespaceExists,
    Overloaded,
    QuorumUnreachable,
    UnknownNamespace,
)
from kvstore.cluster.catalog_changes import ATTEMPTS_MAX, CatalogChanges
from kvstore.core.catalog.catalog import RUN_TIME_ID_MIN, Catalog
from kvstore.core.catalog.encoding import decode_catalog

UNREACHABLE = QuorumUnreachable("one of three", needed=2, received=1, contacted=3)
UNTOLD = DeadlineExceeded("no answer", may_have_applied=True)


class MemoryRegister:
    """As `CatalogRegister`. `before_swap` is called before each swap; `answers` are raised by the next swaps, None: none, after
    the swap where `applies`."""

    def __init__(self) -> None:
        self.version, self.value = 0, b""
        self.refusal: KvError | None = None
        self.answers: list[tuple[KvError, bool]] = []
        self.before_swap: list[Callable[[], None]] = []
        self.swaps = 0

    async def read(self, timeout_s: float) -> tuple[bytes, bytes]:
        await asyncio.sleep(0)
        if self.refusal is not None:
            raise self.refusal
        return (b"%d" % self.version if self.version else b"", self.value)

    async def swap(self, version: bytes, value: bytes, timeout_s: float) -> None:
        await asyncio.sleep(0)
        self.swaps += 1
        if self.before_swap:
            self.before_swap.pop(0)()
        answer, applies = self.answers.pop(0) if self.answers else (None, True)
        if applies:
            if version != (b"%d" % self.version if self.version else b""):
                raise ConditionFailed("somebody was quicker")
            self.version, self.value = self.version + 1, value
        if answer is not None:
            raise answer

    @property
    def catalog(self) -> Catalog:
        return decode_catalog(self.value)


class Side:
    """A node's changes, and what it was told of as committed."""

    def __init__(self, register: MemoryRegister) -> None:
        self.heard: list[int] = []

        async def committed(catalog: Catalog) -> None:
            self.heard.append(catalog.revision)

        self.changes = CatalogChanges(register, size=lambda: (3, 3), configured=lambda: frozenset({"default"}), committed=committed)

    async def create(self, name: str, preset: str = "pa-ec") -> int:
        _, entry = await self.changes.create(NamespaceWish(name=name, preset=preset), 5.0)
        return entry.id


async def test_what_was_agreed_on_is_committed_before_anybody_is_told() -> None:
    register = MemoryRegister()
    side = Side(register)
    assert await side.create("orders") == RUN_TIME_ID_MIN
    assert register.catalog.entry("orders").id == RUN_TIME_ID_MIN
    assert side.heard == [0, 1]


async def test_of_two_that_make_one_name_with_different_settings_one_wins_and_the_other_is_told_what_differs() -> None:
    register = MemoryRegister()
    told = await asyncio.gather(
        Side(register).create("orders", "pa-el"), Side(register).create("orders", "pc-ec"), return_exceptions=True
    )
    refused = [one for one in told if isinstance(one, NamespaceExists)]
    assert len(refused) == 1 and "preset is" in refused[0].message
    assert register.catalog.revision == 1


async def test_making_and_dropping_again_is_told_apart_from_what_was_never_there() -> None:
    register = MemoryRegister()
    side = Side(register)
    first = await side.create("orders")
    assert await side.create("orders") == first
    await side.changes.drop("orders", 5.0)
    with pytest.raises(UnknownNamespace):
        await side.changes.drop("orders", 5.0)
    with pytest.raises(NamespaceConfigured):
        await side.changes.drop("default", 5.0)
    assert await side.create("orders") == first + 1


async def test_without_a_majority_nothing_is_changed_and_the_error_says_so() -> None:
    register = MemoryRegister()
    register.refusal = UNREACHABLE
    with pytest.raises(QuorumUnreachable) as refused:
        await Side(register).create("orders")
    assert (refused.value.needed, refused.value.received, refused.value.may_have_applied) == (2, 1, False)
    assert register.swaps == 0


@pytest.mark.parametrize("applies", [True, False])
async def test_a_swap_of_which_nobody_told_is_found_out_by_what_is_committed_next(applies: bool) -> None:
    register = MemoryRegister()
    register.answers = [(UNTOLD, applies)]
    assert await Side(register).create("orders") == RUN_TIME_ID_MIN
    assert register.catalog.revision == 1


async def test_a_creation_that_may_have_been_dropped_again_is_not_made_once_more() -> None:
    """1. our swap is applied, its answer lost; 2. somebody drops what it made; 3. we read: was that ours? Nobody knows."""
    register = MemoryRegister()
    side, other = Side(register), Side(register)
    lost = DeadlineExceeded("no answer", may_have_applied=True)
    register.answers = [(lost, True)]
    read = register.read
    waiting = asyncio.Event()

    async def read_later(timeout_s: float) -> tuple[bytes, bytes]:
        if register.swaps and not waiting.is_set():
            waiting.set()
            register.read = read  # type: ignore[method-assign]
            await other.changes.drop("orders", 5.0)
        return await read(timeout_s)

    register.read = read_later  # type: ignore[method-assign]
    with pytest.raises(DeadlineExceeded) as untold:
        await side.create("orders")
    assert untold.value.may_have_applied
    assert register.catalog.live == {}


async def test_a_drop_never_takes_another_namespace_that_got_the_name_meanwhile() -> None:
    """1. we want to drop; 2. before our swap somebody drops the same and makes the name again; 3. the new one stays."""
    register = MemoryRegister()
    side, other = Side(register), Side(register)
    first = await side.create("orders", "pa-el")

    async def made_again() -> None:
        await other.changes.drop("orders", 5.0)
        await other.create("orders", "pc-ec")

    read, again = register.read, [made_again]

    async def read_and_be_late(timeout_s: float) -> tuple[bytes, bytes]:
        found = await read(timeout_s)
        if again:
            await again.pop()()
        return found

    register.read = read_and_be_late  # type: ignore[method-assign]
    _, was = await side.changes.drop("orders", 5.0)
    assert was.id == first
    assert register.catalog.entry("orders").settings.preset == "pc-ec"


async def test_an_outcome_that_could_not_be_found_out_in_time_says_that_it_may_have_been_applied() -> None:
    register = MemoryRegister()
    register.answers = [(UNTOLD, True)]
    register.before_swap = [lambda: setattr(register, "refusal", AvailabilityError("gone"))]
    with pytest.raises(AvailabilityError) as untold:
        await Side(register).create("orders")
    assert untold.value.may_have_applied


async def test_whoever_is_always_too_late_gives_up_and_nothing_was_changed() -> None:
    register = MemoryRegister()
    register.before_swap = [lambda: setattr(register, "version", register.version + 1)] * (ATTEMPTS_MAX + 1)
    with pytest.raises(Overloaded) as late:
        await Side(register).create("orders")
    assert not late.value.may_have_applied
    assert register.swaps == ATTEMPTS_MAX


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["create", "drop"]), st.sampled_from(["a", "b"]), st.sampled_from(["pa-el", "pc-ec"]), st.booleans()
        ),
        max_size=8,
    ),
    st.lists(st.tuples(st.just(UNTOLD), st.booleans()), max_size=4),
)
def test_whatever_is_lost_an_id_that_was_told_is_of_what_it_was_told_for(
    wanted: list[tuple[str, str, str, bool]], answers: list[tuple[KvError, bool]]
) -> None:
    async def work() -> None:
        register = MemoryRegister()
        register.answers = [(DeadlineExceeded("no answer", may_have_applied=True), applies) for _, applies in answers]
        sides = [Side(register), Side(register)]
        told: dict[int, tuple[str, str]] = {}

        async def one(what: str, name: str, preset: str, which: bool) -> None:
            try:
                if what == "create":
                    number = await sides[which].create(name, preset)
                    assert told.setdefault(number, (name, preset)) == (name, preset)
                else:
                    await sides[which].changes.drop(name, 5.0)
            except (NamespaceExists, UnknownNamespace, AvailabilityError):
                pass

        await asyncio.gather(*(one(*each) for each in wanted))
        for entry in register.catalog.live.values():
            assert told.get(entry.id, (entry.name, entry.settings.preset)) == (entry.name, entry.settings.preset)

    asyncio.run(work())
