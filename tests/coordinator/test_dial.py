"""What this version's nodes cannot do is refused while a batch is planned, by name; nothing of it is ignored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace

import pytest

from kvproto.columns import EVENTUAL_LEVELS, LINEARIZABLE_LEVELS, GroupReply, Level, NamespaceInfo, OperationGroup, Sloppy
from kvproto.conditions import ABSENT
from kvproto.errors import BadRequest, ConditionFailed, KvError, WrongMode
from kvstore.coordinator.batch import Limits, plan
from kvstore.coordinator.coordinator import BatchAnswer, RoundAnswer
from kvstore.coordinator.dial import LINEARIZABLE, check_dial, check_level
from tests.support.cluster import Cluster, gets, puts

EVENTUAL = NamespaceInfo(1, "users", "eventual", "pa-ec", 3, 3, 2, 2)
LOCKS = NamespaceInfo(2, "locks", LINEARIZABLE, "pc-ec", 3, 3, 2, 2)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster() as running:
        yield running


def refusal(info: NamespaceInfo, group: OperationGroup) -> KvError | None:
    try:
        check_dial(info, group, (EVENTUAL, LOCKS))
    except KvError as error:
        return error
    return None


@pytest.mark.parametrize("level", Level)
def test_a_level_belongs_to_a_mode(level: Level) -> None:
    bound_ms = 10 if level is Level.BOUNDED else 0
    for info, levels in ((EVENTUAL, EVENTUAL_LEVELS), (LOCKS, LINEARIZABLE_LEVELS)):
        error = refusal(info, gets(b"k", level=level, bound_ms=bound_ms))
        if level in levels:
            assert error is None
        else:
            assert isinstance(error, WrongMode) and "there are preset, " in error.message


def test_every_level_is_of_some_mode() -> None:
    assert frozenset(Level) == LINEARIZABLE_LEVELS | EVENTUAL_LEVELS
    assert {Level.PRESET} == LINEARIZABLE_LEVELS & EVENTUAL_LEVELS


def test_a_condition_without_consensus_names_a_namespace_that_has_it() -> None:
    group = puts({b"k": b"v"}, conditions=[ABSENT])
    error = refusal(EVENTUAL, group)
    assert isinstance(error, WrongMode) and "'locks'" in error.message
    with pytest.raises(WrongMode, match="pc-ec"):
        check_dial(EVENTUAL, group, (EVENTUAL,))
    assert refusal(LOCKS, group) is None
    assert refusal(EVENTUAL, puts({b"k": b"v"}, conditions=[b""])) is None, "no condition at all"


def test_a_bound_goes_with_the_level_bounded_and_only_with_it() -> None:
    for level, bound_ms in ((Level.BOUNDED, 0), (Level.TIMELINE, 5)):
        error = refusal(LOCKS, gets(b"k", level=level, bound_ms=bound_ms))
        assert isinstance(error, BadRequest) and error.subject == "bound_ms"
    check_level(LOCKS, Level.BOUNDED, Sloppy.UNSPECIFIED, 5)


def test_nobody_stands_in_where_there_is_consensus() -> None:
    for sloppy in (Sloppy.YES, Sloppy.NO):
        assert isinstance(refusal(LOCKS, gets(b"k", sloppy=sloppy)), WrongMode)


def test_levels_that_only_reads_have_are_refused_for_writes() -> None:
    for level, bound_ms in ((Level.TIMELINE, 0), (Level.BOUNDED, 5)):
        assert isinstance(refusal(LOCKS, puts({b"k": b"v"}, level=level, bound_ms=bound_ms)), BadRequest)
        assert refusal(LOCKS, gets(b"k", level=level, bound_ms=bound_ms)) is None
    assert refusal(LOCKS, puts({b"k": b"v"}, level=Level.LINEARIZABLE)) is None


def test_a_context_that_a_caller_gave_is_refused_where_there_are_no_siblings() -> None:
    """Ignored, it would lose the update that it was given to protect; what a client remembers by itself is no such thing."""
    error = refusal(LOCKS, puts({b"a": b"1", b"b": b"2"}, contexts=[b"", b"\x01\x00\x00"]))
    assert isinstance(error, WrongMode) and "if_version" in error.message
    assert refusal(LOCKS, puts({b"a": b"1", b"b": b"2"}, contexts=[b"", b"\x02\x00\x00"])) is None
    assert refusal(EVENTUAL, puts({b"a": b"1"}, contexts=[b"\x01\x00\x00"])) is None


@pytest.mark.parametrize(
    ("group", "error", "subject"),
    [
        (puts({b"k": b"v"}, conditions=[ABSENT]), WrongMode, "default"),
        (puts({b"k": b"v"}, conditions=[ABSENT, ABSENT]), BadRequest, "conditions"),
        (gets(b"k", conditions=[ABSENT]), BadRequest, "conditions"),
        (gets(b"k", seen=[b"x", b"y"]), BadRequest, "seen"),
        (puts({b"k": b"v"}, seen=[b"x"]), BadRequest, "seen"),
        (gets(b"k", level=Level.LINEARIZABLE), WrongMode, "default"),
        (gets(b"k", level=Level.BOUNDED, bound_ms=5), WrongMode, "default"),
        (gets(b"k", bound_ms=5), BadRequest, "bound_ms"),
        (gets(b"k", level=Level.ATOMIC, sloppy=Sloppy.YES), BadRequest, "sloppy"),
        (puts({b"k": b"v"}, level=Level.ZONE_QUORUM, sloppy=Sloppy.YES), BadRequest, "sloppy"),
    ],
)
async def test_a_batch_that_cannot_be_done_is_refused_and_nothing_of_it_is_written(
    cluster: Cluster, group: OperationGroup, error: type[KvError], subject: str
) -> None:
    told = (await cluster.run("n1", group))[0]
    assert type(told.error) is error and told.error.subject == subject and not told.error.may_have_applied
    assert (await cluster.get("n1", b"k")).count == 0


@pytest.mark.parametrize("level", [Level.ATOMIC, Level.ZONE_QUORUM])
async def test_a_scan_has_no_level_that_means_certain_replicas_of_each_key(cluster: Cluster, level: Level) -> None:
    (page,) = await cluster.scan("n1", level=level)
    assert isinstance(page.error, BadRequest) and page.error.subject == "level"


async def test_a_scan_at_a_level_of_the_other_mode_is_refused(cluster: Cluster) -> None:
    (page,) = await cluster.scan("n1", level=Level.TIMELINE)
    assert isinstance(page.error, WrongMode)


@pytest.mark.parametrize(("error", "is_unknown"), [(ConditionFailed("no"), False), (BadRequest("no"), True)])
async def test_a_condition_that_failed_is_certain_whatever_became_of_an_earlier_forward(
    cluster: Cluster, error: KvError, is_unknown: bool
) -> None:
    """1. A node forwards a write and hears nothing. 2. The next home replica, which knows the write by its id, says that its
    condition does not hold: so the first has not applied it either."""
    view = cluster.members["n1"].local.view
    (sub,), _ = plan(view, 0, puts({b"k": b"v"}), Limits())
    told: list[GroupReply] = []
    loop = asyncio.get_running_loop()
    batch = BatchAnswer(lambda replies, last: told.extend(replies), [sub.group], 1, loop, None, 0.0)
    answer = RoundAnswer(batch, sub, SimpleNamespace(round_done=lambda *_: None))  # type: ignore[arg-type]
    answer.may_have_applied = True
    answer.emit(GroupReply(0, positions=[0], error=error), 1)
    (reply,) = told
    assert reply.error is not None and reply.error.may_have_applied is is_unknown
