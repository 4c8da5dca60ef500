"""Sessions: what is sent of what was seen, what is kept, and at which level what is not kept is read."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvclient import BadRequest, BehindSession, ConditionFailed, Entry
from kvclient.session_tokens import Memory, decode_memory
from kvclient.testing import FakeAsyncClient, FakeClient, FakeStore
from kvproto.columns import GroupReply, Kind, Level, OperationGroup, ScanPage, ScanQuery


class Watched(FakeStore):
    """Notes every group that reaches a node."""

    def __init__(self) -> None:
        super().__init__(namespaces={"orders": "pc-el", "tags": "set"})
        self.groups: list[OperationGroup] = []

    def execute(self, index: int, group: OperationGroup, node: str) -> list[GroupReply]:
        self.groups.append(group)
        return super().execute(index, group, node)

    @property
    def last(self) -> OperationGroup:
        return self.groups[-1]

    @property
    def asked(self) -> Level:
        return self.last.level


@pytest.fixture
def store() -> Watched:
    return Watched()


@pytest.fixture
def client(store: Watched) -> Iterator[FakeClient]:
    with FakeClient(store=store) as client:
        yield client


def test_a_read_says_what_the_session_wrote_and_read(client: FakeClient, store: Watched) -> None:
    session = client.session()
    assert not session.get("k").found and list(store.last.seen) == [b""]
    first = session.put("k", b"1")
    session.get("k")
    assert list(store.last.seen) == [first.context]
    other = client.put("k", b"2", context=b"")
    assert session.get("k").context == session.get("k").context
    seen = store.last.seen[0]
    assert seen != first.context and other.context[3:] in seen, "what was read is said too"


def test_a_namespace_without_a_session_says_nothing(client: FakeClient, store: Watched) -> None:
    client.session().put("k", b"v")
    client.get("k")
    client.get_many(["k"])
    assert [list(group.seen) for group in store.groups if group.kind is Kind.GET] == [[], []]


def test_in_a_linearizable_namespace_the_version_is_what_was_seen(client: FakeClient, store: Watched) -> None:
    session = client.namespace("orders").session()
    done = session.put("k", b"1")
    session.get_many(["k", "other"])
    assert list(store.last.seen) == [bytes.fromhex(done.version), b""]
    with pytest.raises(ConditionFailed) as raised:
        session.put("k", b"2", if_absent=True)
    newest = client.namespace("orders").put("k", b"3")
    with pytest.raises(ConditionFailed):
        session.compare_and_set("k", b"1", b"4")
    session.get("k")
    assert raised.value.entry.version == done.version and list(store.last.seen) == [bytes.fromhex(newest.version)]


def test_a_key_that_was_absent_is_read_with_certainty_until_it_has_a_version_again(client: FakeClient, store: Watched) -> None:
    """An absent key has no version that a stale replica could be compared with: a deletion could be un-seen."""
    orders = client.namespace("orders")
    session = orders.session()
    orders.put("k", b"v")
    orders.delete("k")

    def level_of(entry: Entry) -> Level:
        return store.asked

    assert level_of(session.get("k", level="timeline")) is Level.TIMELINE
    assert level_of(session.get("k", level="timeline")) is Level.LINEARIZABLE
    orders.put("k", b"again")
    assert level_of(session.get("k")) is Level.LINEARIZABLE
    assert level_of(session.get("k")) is Level.PRESET


def test_writes_are_at_quorum_unless_somebody_says_otherwise(client: FakeClient, store: Watched) -> None:
    def level_of(write: object) -> Level:
        return store.asked

    session = client.session()
    assert level_of(session.put("k", b"v")) is level_of(session.delete("k")) is Level.QUORUM
    assert level_of(session.put_many({"k": b"v"})) is Level.QUORUM
    assert level_of(session.put("k", b"v", level="all")) is Level.ALL
    assert level_of(session.put("k", b"v", w=1)) is Level.EXPLICIT
    assert level_of(client.with_options(level="one").session().put("k", b"v")) is Level.ONE
    assert level_of(client.namespace("orders").session().put("k", b"v")) is Level.PRESET, "consensus is as strong as it gets"
    assert level_of(client.namespace("tags").session().add("k", "a")) is Level.QUORUM


def test_keys_that_were_let_go_of_are_read_at_quorum(client: FakeClient, store: Watched) -> None:
    session = client.session(keys_max=2)
    for key in "abc":
        session.put(key, b"v")
    for options, level in (
        ({}, Level.QUORUM),
        ({"level": "one"}, Level.QUORUM),
        ({"r": 1}, Level.QUORUM),
        ({"r": 2}, Level.EXPLICIT),
    ):
        fresh = client.session(session.token, keys_max=2)
        fresh.get("a", **options)
        assert store.asked is level and list(store.last.seen) == [b""]
        fresh = client.session(session.token, keys_max=2)
        fresh.get("c", **options)
        assert list(store.last.seen) != [b""] and (options or store.asked is Level.PRESET)
    told = [session.get_many(keys).popitem()[1].receipt.level for keys in (["b", "c"], ["c", "never met"])]
    assert told == [Level.PRESET, Level.QUORUM], "who let go of one key does not know which"


def test_bug_a_key_that_was_let_go_of_and_written_again_was_taken_for_known(client: FakeClient, store: Watched) -> None:
    """1. A session writes a key and lets go of it. 2. It writes the key once more, by an increment or with a context: what it is
    acknowledged covers that write alone. 3. A replica that has the second write and not the first satisfied it."""
    session = client.session(keys_max=2)
    for key in "abca":
        session.put(key, b"v")
    told = [session.get("a").receipt.level, client.session(session.token, keys_max=2).get("a").receipt.level]
    assert told == [Level.QUORUM, Level.PRESET], "and known from then on"


def test_before_any_key_was_let_go_of_an_unknown_one_is_read_as_ever(client: FakeClient, store: Watched) -> None:
    session = client.session()
    session.get("never met")
    assert store.asked is Level.PRESET


def test_a_scan_sees_what_the_session_wrote(client: FakeClient) -> None:
    levels: list[Level] = []
    session, orders = client.session(), client.namespace("orders").session()
    real = client.store.scan

    def scan(query: ScanQuery, node: str) -> list[ScanPage]:
        levels.append(query.level)
        return real(query, node)

    client.store.scan = scan  # type: ignore[method-assign]
    session.put("k", b"v")
    assert [entry.key for entry in session.scan()] == [b"k"]
    orders.put("k", b"v")
    assert [entry.key for entry in orders.scan(level="timeline")] == [b"k"]
    assert [entry.key for entry in session.scan(level="all")] == [b"k"]
    assert levels == [Level.QUORUM, Level.LINEARIZABLE, Level.ALL]


def test_a_token_goes_on_in_another_process(store: Watched) -> None:
    with FakeClient(store=store) as here, FakeClient(store=store) as there:
        one = here.namespace("orders").session()
        done = one.put("k", b"v")
        two = there.namespace("orders").session(token=one.token)
        two.get("k")
        assert list(store.last.seen) == [bytes.fromhex(done.version)]
        assert two.token == one.token


def test_what_nobody_has_is_a_retryable_error_and_not_an_older_answer(store: Watched) -> None:
    with FakeClient(store=store) as here, FakeClient(namespaces={"orders": "pc-el"}) as elsewhere:
        for name in ("default", "orders"):
            session = here.namespace(name).session()
            session.put("k", b"v")
            with pytest.raises(BehindSession) as raised:
                elsewhere.namespace(name).session(session.token).get("k", timeout_s=0.2)
            assert raised.value.retryable and not raised.value.may_have_applied


async def test_reads_that_are_asked_twice_say_what_was_seen_both_times(store: Watched) -> None:
    async with FakeAsyncClient(store=store) as client:
        session = client.session()
        done = await session.put("k", b"v")
        dispatcher = client.dispatcher
        assert dispatcher is not None
        link = client.membership.router.chooser(session._get)(b"k")
        queued: list[object] = []
        real, link.submit = link.submit, queued.append  # type: ignore[assignment]
        future = session._client.dispatcher.read(session._get, b"k", 1.0)  # type: ignore[union-attr]
        real(queued[0].again())  # type: ignore[attr-defined]
        await future
        assert list(store.last.seen) == [done.context]


@pytest.mark.parametrize("token", ["", "nonsense", "é", "AQA", "AQAAAAAAAAAAAA", 7])
def test_what_is_no_token_is_refused(client: FakeClient, token: object) -> None:
    with pytest.raises(BadRequest, match="token"):
        client.session(token)  # type: ignore[arg-type]


def test_a_token_is_of_one_namespace(client: FakeClient) -> None:
    with pytest.raises(BadRequest, match="'orders'"):
        client.session(client.namespace("orders").session().token)
    with pytest.raises(BadRequest, match="at least one"):
        client.session(keys_max=0)


VERSIONS = st.integers(0, 5).map(lambda number: bytes([number]) * 20 if number else b"")
NOTES = st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), VERSIONS), max_size=20)


@given(NOTES, st.integers(1, 3))
def test_a_memory_is_bounded_and_never_goes_back(notes: list[tuple[bytes, bytes]], keys_max: int) -> None:
    memory = Memory("orders", keys_max)
    highest: dict[bytes, bytes] = {}
    for key, given_version in notes:
        before, version = memory.seen.get(key, b""), given_version
        if version and memory.must_be_strict(key):
            version = max(version, highest.get(key, b""))  # such a read is at `linearizable`
        memory.note_version(key, version)
        highest[key] = max(highest.get(key, b""), version)
        assert memory.seen[key] >= before and len(memory.seen) <= keys_max and memory.unsure <= memory.seen.keys()
    for key, version in highest.items():
        assert memory.seen.get(key) == version or memory.must_be_strict(key), "what is not known is read with certainty"


@given(NOTES, st.booleans())
def test_a_token_holds_all_of_a_memory(notes: list[tuple[bytes, bytes]], dropped: bool) -> None:
    memory = Memory("orders", dropped=dropped)
    for key, version in notes:
        memory.note_version(key, version)
    again = decode_memory(memory.encode(), "orders")
    assert again == memory and list(again.seen) == list(memory.seen)
    assert memory.encode().replace("-", "").replace("_", "").isalnum()
