"""The engine contract (kvstore/storage/engine.py), kept alike by every engine. LevelDB's own promises: tests/storage/."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvproto.errors import StorageError
from kvstore.storage.engine import Engine
from kvstore.storage.large.engine import LargeValueEngine
from kvstore.storage.large.files import OsFiles
from kvstore.storage.leveldb import LevelDbEngine
from kvstore.storage.memory import MemoryEngine


def open_large(path: Path, *, large_bytes: int, file_bytes: int = 1 << 20) -> LargeValueEngine:
    """LevelDB, with values of `large_bytes` and more in files beside it."""
    database = LevelDbEngine(path, write_buffer_bytes=64 << 10, cache_bytes=1 << 20)
    (path / "values").mkdir()
    return LargeValueEngine(database, OsFiles(path / "values"), name=str(path), large_bytes=large_bytes, file_bytes=file_bytes)


ENGINES: dict[str, Callable[[Path], Engine]] = {
    "leveldb": lambda path: LevelDbEngine(path, write_buffer_bytes=64 << 10, cache_bytes=1 << 20),
    "large-values": lambda path: open_large(path, large_bytes=4),
    "large-values-of-all-sizes": lambda path: open_large(path, large_bytes=0, file_bytes=64),
    "memory": lambda path: MemoryEngine(),
    "memory-crashable": lambda path: MemoryEngine(crashable=True),
}


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made = ENGINES[request.param](tmp_path / "engine")
    yield made
    made.close()


def everything(engine: Engine) -> list[tuple[bytes, bytes]]:
    return list(engine.scan(b""))


def test_a_new_engine_holds_nothing(engine: Engine) -> None:
    assert everything(engine) == []
    assert engine.get(b"") is None
    assert engine.get(b"\xff" * 8) is None


def test_what_was_put_is_read_back_and_what_was_deleted_is_gone(engine: Engine) -> None:
    engine.write([(b"a", b"1"), (b"b", b"2")], sync=True)
    engine.write([(b"c", b"3")], [b"a"], sync=False)
    assert [engine.get(key) for key in (b"a", b"b", b"c")] == [None, b"2", b"3"]
    assert everything(engine) == [(b"b", b"2"), (b"c", b"3")]


def test_the_last_put_of_a_key_in_a_batch_wins(engine: Engine) -> None:
    engine.write([(b"k", b"first"), (b"other", b""), (b"k", b"last")], sync=True)
    assert engine.get(b"k") == b"last"


def test_deletes_come_before_puts_of_the_same_batch(engine: Engine) -> None:
    engine.write([(b"k", b"old"), (b"goes", b"1")], sync=True)
    engine.write([(b"k", b"new"), (b"stays", b"1")], [b"k", b"goes", b"was never there"], sync=True)
    assert everything(engine) == [(b"k", b"new"), (b"stays", b"1")]


def test_what_was_prepared_deletes_and_puts_when_it_is_called(engine: Engine) -> None:
    engine.write([(b"goes", b"1")], sync=True)
    write = engine.prepare([(b"comes", b"1")], [b"goes"], sync=True)
    assert everything(engine) == [(b"goes", b"1")]
    write()
    assert everything(engine) == [(b"comes", b"1")]


def test_an_empty_batch_is_a_batch(engine: Engine) -> None:
    engine.write([(b"k", b"1")], sync=False)
    engine.write([], sync=True)
    assert everything(engine) == [(b"k", b"1")]


def test_empty_keys_and_values_are_entries_and_no_gaps(engine: Engine) -> None:
    engine.write([(b"", b"empty key"), (b"empty value", b"")], sync=True)
    assert engine.get(b"") == b"empty key"
    assert engine.get(b"empty value") == b""
    assert everything(engine) == [(b"", b"empty key"), (b"empty value", b"")]


def test_nul_and_non_utf8_bytes_are_like_any_other(engine: Engine) -> None:
    pairs = [
        (b"\x00", b"\x00"),
        (b"\x00\x00", b"\xff\xfe"),
        (b"a\x00b", b"\x80\x00"),
        (b"\xc3\x28", b"\x00" * 9),
        (b"\xff\xff", b"\xff"),
    ]
    engine.write(pairs, sync=True)
    assert everything(engine) == pairs
    assert [engine.get(key) for key, _ in pairs] == [value for _, value in pairs]


def test_values_of_a_mebibyte_come_back_whole(engine: Engine) -> None:
    large = {bytes((at,)): bytes((at, 255 - at)) * (1 << 19) for at in range(3)}
    engine.write(list(large.items()), sync=True)
    assert all(engine.get(key) == value for key, value in large.items())
    assert dict(engine.scan(b"")) == large


def test_scans_are_in_bytewise_order_from_start_up_to_but_not_including_end(engine: Engine) -> None:
    keys = [b"", b"\x00", b"a", b"a\x00", b"aa", b"b", b"\x7f", b"\x80", b"\xff", b"\xff\xff"]
    engine.write([(key, b"") for key in reversed(keys)], sync=True)
    assert [key for key, _ in engine.scan(b"")] == keys
    assert [key for key, _ in engine.scan(b"a", b"b")] == [b"a", b"a\x00", b"aa"]
    assert [key for key, _ in engine.scan(b"a\x01")] == [b"aa", b"b", b"\x7f", b"\x80", b"\xff", b"\xff\xff"]
    assert [key for key, _ in engine.scan(b"", b"\x00")] == [b""]
    assert list(engine.scan(b"b", b"b")) == []
    assert list(engine.scan(b"b", b"a")) == []
    assert list(engine.scan(b"\xff\xff\x00")) == []
    assert list(engine.keys(b"")) == keys
    assert list(engine.keys(b"a", b"b")) == [b"a", b"a\x00", b"aa"]
    assert list(engine.keys(b"b", b"a")) == list(engine.keys(b"\xff\xff\x00")) == []


def test_a_scan_shows_the_moment_it_was_asked_for_while_writes_go_on(engine: Engine) -> None:
    before = [(b"%05d" % at, b"old") for at in range(2_000)]  # several chunks of either engine
    engine.write(before, sync=True)
    untouched, half_read, keys = engine.scan(b""), engine.scan(b"00500", b"01500"), engine.keys(b"")
    head = [next(half_read) for _ in range(10)]
    changed = [(key, b"new") for key, _ in before[::2]] + [(key + b"x", b"added") for key, _ in before]
    engine.write(changed, [key for key, _ in before[1::4]], sync=True)
    engine.write([(key, b"newer") for key, _ in before], [key for key, _ in before[::3]], sync=False)
    assert list(untouched) == before
    assert list(keys) == [key for key, _ in before]
    assert head + list(half_read) == before[500:1500]


def test_several_scans_each_keep_their_own_moment(engine: Engine) -> None:
    scans = []
    for at in range(5):
        engine.write([(b"k", b"%d" % at)], sync=False)
        scans.append(engine.scan(b"k"))
    engine.write([], [b"k"], sync=False)
    assert [list(scan) for scan in scans] == [[(b"k", b"%d" % at)] for at in range(5)]
    assert everything(engine) == []


def test_two_reads_of_another_thread_never_see_half_a_batch(engine: Engine) -> None:
    """The writer puts the same number under every key of a batch; a later read must never see an older number."""
    keys = [b"%03d" % at for at in range(64)]
    rounds = 300
    engine.write([(key, b"%06d" % 0) for key in keys], sync=False)

    def write() -> None:
        for at in range(1, rounds + 1):
            engine.write([(key, b"%06d" % at) for key in keys], sync=False)

    writer = Thread(target=write)
    writer.start()
    torn = []
    while writer.is_alive():
        first, last = engine.get(keys[0]), engine.get(keys[-1])
        assert first is not None
        assert last is not None
        if last < first:
            torn.append((first, last))
        if len({value for _, value in engine.scan(b"")}) != 1:
            torn.append((b"scan", b"scan"))
    writer.join()
    assert torn == []
    assert everything(engine) == [(key, b"%06d" % rounds) for key in keys]


def test_closing_twice_is_as_good_as_once(engine: Engine) -> None:
    engine.close()
    engine.close()


CALLS: dict[str, Callable[[Engine], object]] = {
    "get": lambda engine: engine.get(b"k"),
    "write": lambda engine: engine.write([(b"k", b"2")], sync=True),
    "scan": lambda engine: list(engine.scan(b"")),
    "keys": lambda engine: list(engine.keys(b"")),
    "size_bytes": lambda engine: engine.size_bytes(),
    "statistics": lambda engine: engine.statistics(),
}


@pytest.mark.parametrize("call", CALLS)
def test_whatever_is_called_after_close_is_refused(engine: Engine, call: str) -> None:
    engine.write([(b"k", b"1")], sync=True)
    CALLS[call](engine)
    engine.close()
    with pytest.raises(StorageError, match="closed"):
        CALLS[call](engine)


def test_a_get_bound_before_close_is_refused_after_it(engine: Engine) -> None:
    get = engine.get
    engine.close()
    with pytest.raises(StorageError, match="closed"):
        get(b"k")


def test_a_scan_that_is_under_way_ends_with_an_error_when_the_engine_is_closed(engine: Engine) -> None:
    engine.write([(b"%05d" % at, b"v" * 100) for at in range(2_000)], sync=True)
    scans = [engine.scan(b""), engine.keys(b"")]
    for scan in scans:
        next(scan)
    engine.close()
    for scan in scans:
        with pytest.raises(StorageError, match="closed"):
            list(scan)


def test_closing_while_other_threads_read_refuses_them_and_nothing_worse(engine: Engine) -> None:
    engine.write([(b"%05d" % at, b"v" * 100) for at in range(2_000)], sync=True)
    refused, started = [], []

    def read() -> None:
        try:
            while True:
                assert engine.get(b"01000") == b"v" * 100
                assert len(list(engine.scan(b"00990"))) == 1_010
                started.append(True)
        except StorageError as error:
            refused.append(error.message)

    readers = [Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    while len(started) < 3:
        engine.write([(b"!", b"")], sync=False)  # below what is scanned
    engine.close()
    for reader in readers:
        reader.join()
    assert len(refused) == 3
    assert all("closed" in message for message in refused)


def test_its_size_follows_what_it_holds(engine: Engine) -> None:
    empty = engine.size_bytes()
    engine.write([(b"%05d" % at, bytes(range(256)) * 4) for at in range(200)], sync=True)
    assert engine.size_bytes() - empty > 50_000
    assert engine.statistics()["engine"].split()[0] in ENGINES


keys = st.binary(max_size=3)
pairs = st.lists(st.tuples(keys, st.binary(max_size=4)), max_size=6)
batches = st.lists(st.tuples(pairs, st.lists(keys, max_size=3), st.booleans()), max_size=8)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(batches=batches, start=keys, end=st.none() | keys)
def test_any_batches_leave_what_a_plain_dictionary_would(
    engine: Engine, batches: list[tuple[list[tuple[bytes, bytes]], list[bytes], bool]], start: bytes, end: bytes | None
) -> None:
    engine.write([], [key for key, _ in engine.scan(b"")], sync=False)  # one engine serves all examples
    model: dict[bytes, bytes] = {}
    moments = []
    for puts, deletes, sync in batches:
        moments.append((engine.scan(start, end), engine.keys(start, end), model_scan(model, start, end)))
        engine.write(puts, deletes, sync=sync and len(puts) > 4)
        for key in deletes:
            model.pop(key, None)
        model.update(puts)
    assert everything(engine) == sorted(model.items())
    assert all(engine.get(key) == model.get(key) for key in (b"", b"\x00", start, *model))
    for scan, found, expected in moments:
        assert list(scan) == expected
        assert list(found) == [key for key, _ in expected]


def model_scan(model: dict[bytes, bytes], start: bytes, end: bytes | None) -> list[tuple[bytes, bytes]]:
    return [(key, value) for key, value in sorted(model.items()) if key >= start and (end is None or key < end)]
