"""Large values beside the map, against a plain dictionary: whatever is written, deleted, moved, read late or lost in a crash.

The machine is shown to find each mistake that the order of things is there to avoid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from hypothesis import settings

from kvproto.errors import StorageError
from kvstore.storage.large.engine import LargeValueEngine
from kvstore.storage.large.pointers import MARK, Pointer, read_marked
from kvstore.storage.large.reclaiming import Reclaimer
from kvstore.storage.large.shelf import Shelf, ValueFile
from kvstore.storage.memory import MemoryEngine
from tests.storage import forgetful
from tests.storage.forgetful import FILE_BYTES, ForgetfulFiles, SyncedMemory, open_engine

KEYS = (b"a", b"b", b"c", b"d")
SIZES = (0, 3, 8, 9, 20, 30, 60)
State = dict[bytes, bytes]
FILE_BYTES_MAX = max(FILE_BYTES, SIZES[-1] + len(MARK))  # a value that is larger than a file has one of its own
FILES_BESIDE = 4  # the one that takes what comes, the one that takes what is moved, two spares
ACTIONS_MAX = 60
SEEDS_FOR_A_MISTAKE = 20_000


def is_pointer(stored: bytes) -> bool:
    return stored.startswith(MARK) and isinstance(read_marked(stored), Pointer)


class LargeValues:
    """What the engine holds is what was written, also to whoever began to read before; and after a crash, all that was synced."""

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)
        self.memory = SyncedMemory(crashable=True)
        self.files = ForgetfulFiles()
        self.engine = open_engine(self.memory, self.files)
        self.states: list[State] = [{}]  # the last that is durable for certain, and those after it
        self.prepared: list[tuple[Callable[[], None], State, bool]] = []
        self.scans: list[tuple[Iterator[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]] = []

    def run(self) -> None:
        """A life of random actions; raises `AssertionError` or `StorageError`."""
        actions = [self.prepare, self.overwrite, self.write, self.reclaim, self.scan, self.read_on, self.restart, self.crash]
        shares = [self.rng.random() ** 2 for _ in actions]
        shares[-1] *= 0.2
        shares[-2] *= 0.2
        for action in self.rng.choices(actions, shares, k=self.rng.randint(5, ACTIONS_MAX)):
            action()
            self.check()
        self.scans.clear()
        self.write_all()
        for _ in range(1_000):
            if self.engine.reclaimer.step() is None:
                break
        else:
            raise AssertionError("reclaiming does not come to an end")
        self.check()
        alive_bytes = sum(len(value) for value in self.states[-1].values())
        assert sum(self.files.sizes_bytes().values()) <= 2 * alive_bytes + FILES_BESIDE * FILE_BYTES_MAX

    def check(self) -> None:
        for key in KEYS:
            assert self.engine.get(key) == self.states[-1].get(key)
        self.engine.check({key: stored for key, stored in self.memory.scan(b"") if is_pointer(stored)})

    def prepare(self) -> None:
        rng = self.rng
        pairs = [
            (rng.choice(KEYS), (MARK if rng.random() < 0.2 else b"") + rng.randbytes(rng.choice(SIZES)))
            for _ in range(rng.randrange(4))
        ]
        deletes = rng.choices(KEYS, k=rng.choice((0, 0, 1)))
        sync = rng.random() < 0.6
        state = dict(self.prepared[-1][1] if self.prepared else self.states[-1])
        for key in deletes:
            state.pop(key, None)
        state.update(pairs)
        self.prepared.append((self.engine.prepare(pairs, deletes, sync=sync), state, sync))

    def overwrite(self) -> None:
        self.prepare()
        self.write_all()

    def write(self) -> None:
        if self.prepared:
            write, state, sync = self.prepared.pop(0)
            write()
            self.states = [state] if sync else [*self.states, state]

    def write_all(self) -> None:
        while self.prepared:
            self.write()

    def reclaim(self) -> None:
        for _ in range(self.rng.choice((1, 1, 2, 8))):
            self.engine.reclaimer.step()

    def scan(self) -> None:
        self.scans.append((self.engine.scan(b""), sorted(self.states[-1].items())))

    def read_on(self) -> None:
        if self.scans:
            pairs, expected = self.scans[0]
            for _ in range(self.rng.randint(1, 5)):
                if not expected:
                    assert next(pairs, None) is None
                    self.scans.pop(0)
                    break
                assert next(pairs) == expected.pop(0)

    def restart(self) -> None:
        """After a clean stop, which leaves nothing unsynced."""
        self.write_all()
        self.memory.sync()
        self.states = self.states[-1:]
        self.open_again(self.memory.crash(), self.files)

    def crash(self) -> None:
        """Sometimes in the middle of a write: no value reaches the disk any more, and whether the batch is there is not known."""
        if self.prepared and self.rng.random() < 0.5:
            write, state, _ = self.prepared[0]
            self.files.is_dead = True
            with suppress(StorageError):
                write()
            self.states.append(state)
        kept = self.rng.randint(0, self.memory.unsynced_batches)
        self.open_again(self.memory.crash(keep_unsynced_batches=kept), self.files.crash(self.rng))
        held = dict(self.engine.scan(b""))
        assert held in self.states, "what was synced is there, and of the rest what came first"
        self.states = [held]

    def open_again(self, memory: MemoryEngine, files: ForgetfulFiles) -> None:
        self.prepared.clear()
        self.scans.clear()
        self.engine.close()
        self.memory = SyncedMemory(memory.durable, crashable=True)
        self.files = files
        self.engine = open_engine(self.memory, self.files)


def test_everything_written_is_held_and_what_was_synced_survives_every_crash() -> None:
    for seed in range(20 * settings().max_examples):
        try:
            LargeValues(seed).run()
        except (AssertionError, StorageError) as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def sync_nothing(self: Any) -> None:
    """A value may be lost to which a durable pointer leads."""


def sync_no_name(self: Any) -> None:
    """The value is durable, and its file is not found under the name that the pointer gives."""
    self._disk.files[self._number].unsynced.clear()


def take_away_at_once(self: Reclaimer, files: list[ValueFile]) -> None:
    """What overwrote the values in it was not synced; a crash brings the pointers back."""
    self._shelf.take_away(files)


def point_anew_without_looking(self: Reclaimer, moved: list[tuple[bytes, Pointer, Pointer]]) -> None:
    """What was overwritten while it was moved comes back."""
    with self._lock:
        for key, _, new in moved:
            self._map.write([(key, new.encode())], sync=False)
            self._ledger.put(key, new)


def learn_without_looking(self: Reclaimer) -> None:
    """What was overwritten since the walk over the map began counts as alive, and is moved over what took its place."""
    if self._learning is None:
        self._learning = self._map.scan(b"")
        return
    for key, stored in self._learning:
        if isinstance(pointer := read_marked(stored) if stored.startswith(MARK) else b"", Pointer):
            self._ledger.put(key, pointer)
    self._learning, self.knows_all = None, True


def learn_nothing(self: Reclaimer) -> None:
    """After a start everything looks dead."""
    self.knows_all = True


honest_place = Shelf.place
honest_take_away = Shelf.take_away


def place_without_a_promise(self: Shelf, size_bytes: int) -> tuple[ValueFile, int]:
    """A file that is full is taken away before the pointers to what is still to be written into it are there."""
    file, offset = honest_place(self, size_bytes)
    file.promised = 0
    return file, offset


def spare_at_once(self: Shelf, files: list[ValueFile]) -> None:
    """A file is written over while a scan that began before still reads in it."""
    honest_take_away(self, files)
    for going in self._going:
        going()


def note_all(self: LargeValueEngine, puts: Sequence[tuple[bytes, bytes]], placed: Sequence[Any]) -> None:
    """Of a key that is put twice in one batch the first value counts as alive as well."""
    for placing in placed:
        self._ledger.put(placing.key, placing.pointer)


def point_before_the_value(self: Any, write: Any, puts: Any, deletes: Any, placed: Any) -> None:
    """Killed in between, the map has a pointer to nothing."""
    with self._lock:
        write()
        self._append(placed)
        self._ledger.all_gone([*deletes, *[key for key, _ in puts]])
        self._note(puts, placed)
    self._let_go(placed)


MISTAKES: list[tuple[type, str, Callable[..., Any]]] = [
    (forgetful.MemoryWriter, "sync", sync_nothing),
    (forgetful.MemoryWriter, "sync", sync_no_name),
    (Reclaimer, "_take_away", take_away_at_once),
    (Reclaimer, "_point_anew", point_anew_without_looking),
    (Reclaimer, "_learn", learn_without_looking),
    (Reclaimer, "_learn", learn_nothing),
    (Shelf, "place", place_without_a_promise),
    (Shelf, "take_away", spare_at_once),
    (LargeValueEngine, "_note", note_all),
    (LargeValueEngine, "_write", point_before_the_value),
]


@pytest.mark.parametrize(("where", "name", "mistake"), MISTAKES, ids=[mistake.__name__ for _, _, mistake in MISTAKES])
def test_each_mistake_is_found(where: type, name: str, mistake: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, name, mistake)
    if name == "place":
        monkeypatch.setattr(Shelf, "keep", lambda self, file: None)
    for seed in range(SEEDS_FOR_A_MISTAKE):
        try:
            LargeValues(seed).run()
        except (AssertionError, StorageError):
            return
    raise AssertionError(f"{mistake.__name__} was not found by {SEEDS_FOR_A_MISTAKE} seeds")
