"""Programs that storage tests run in a process of their own, to kill it, limit it or see it survive: `child(name, …)` starts one.

Each prints JSON, one value a line, flushed; `children.py NAME ARGUMENT…` is how it is started.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from kvproto.errors import StorageError
from kvstore.storage.directory import open_directory
from kvstore.storage.engine import Engine
from kvstore.storage.large.engine import LargeValueEngine
from kvstore.storage.large.files import OsFiles
from kvstore.storage.leveldb import LevelDbEngine

CHILD_S_MAX = 30


def command(name: str, *arguments: object) -> list[str]:
    """The command line of the program `name`."""
    return [sys.executable, __file__, name, *(str(argument) for argument in arguments)]


def environment() -> dict[str, str]:
    """What lets a child import what this process can."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


@contextmanager
def child(name: str, *arguments: object, before: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """Runs the program `name` beside the test, its standard input and output pipes; it does not outlive the block.

    `before` goes in front of its command line. It has a process group of its own, which is killed as a whole.
    """
    line = [*before, *command(name, *arguments)]
    process = subprocess.Popen(
        line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment(), bufsize=1, start_new_session=True
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=CHILD_S_MAX)


def next_line(process: subprocess.Popen[str]) -> str:
    """Waits for the next line that a child prints; empty when it has ended. `communicate` would miss what is buffered here."""
    assert process.stdout is not None
    return process.stdout.readline()


def answers(name: str, *arguments: object) -> list[object]:
    """Runs the program `name` to its end; an exit code other than 0 is an error that shows its output."""
    done = subprocess.run(
        command(name, *arguments), capture_output=True, text=True, env=environment(), timeout=CHILD_S_MAX, check=False
    )
    assert done.returncode == 0, f"{name} ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return [json.loads(line) for line in done.stdout.splitlines()]


def say(value: object) -> None:
    print(json.dumps(value), flush=True)


def small_engine(path: Path) -> LevelDbEngine:
    """Buffers so small that a few hundred kilobytes make several tables."""
    return LevelDbEngine(path, write_buffer_bytes=64 << 10, cache_bytes=1 << 20)


def large_engine(path: Path) -> LargeValueEngine:
    """The same with all pairs that are written here in files beside it, of which some tens of kilobytes fill one."""
    database = small_engine(path)
    (path / "values").mkdir(exist_ok=True)
    return LargeValueEngine(database, OsFiles(path / "values"), name=str(path), large_bytes=100, file_bytes=32 << 10)


ENGINES: dict[str, Callable[[Path], Engine]] = {"small": small_engine, "large": large_engine}


def synced_pair(number: int) -> tuple[bytes, bytes]:
    """What `write_synced` puts as its write `number`."""
    return b"key %08d" % number, Random(number).randbytes(200)


def write_synced(path: str, kind: str = "small") -> None:
    """Writes numbered pairs, each synced, and says each number once it is durable. Ends only by being killed."""
    engine = ENGINES[kind](Path(path))
    number = 0
    while True:
        engine.write([synced_pair(number)], sync=True)
        say(number)
        number += 1


def write_until_full(path: str, file_bytes_max: str, kind: str = "small") -> None:
    """Writes until there is no room (0: of the disk; else no file may grow past that), makes room, and writes once more.

    Says the two refusals, how many pairs were acknowledged, and how many of them are read back before and after a restart.
    """
    engine = ENGINES[kind](Path(path))
    limit_file_bytes(int(file_bytes_max) or resource.RLIM_INFINITY)
    acknowledged = 0
    refusals: list[list[object]] = []
    while len(refusals) < 2:
        try:
            engine.write([synced_pair(acknowledged)], sync=True)
            acknowledged += 1
        except StorageError as error:
            refusals.append([error.message, error.may_have_applied, error.retryable])
            limit_file_bytes(resource.RLIM_INFINITY)
            (Path(path).parent / FILLER).unlink(missing_ok=True)
    held = _held(engine, acknowledged)
    engine.close()
    engine = ENGINES[kind](Path(path))
    held_after = _held(engine, acknowledged)
    engine.write([(b"more", b"")], sync=True)
    engine.close()
    say({"acknowledged": acknowledged, "refusals": refusals, "held": held, "held_after_restart": held_after})


FILLER = "filler"  # beside the database: what takes the room on a disk of a mebibyte


def limit_file_bytes(file_bytes_max: int) -> None:
    """From now on a write past that size of a file fails with EFBIG; Python ignores the signal that goes with it."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes_max, resource.RLIM_INFINITY))


def _held(engine: Engine, count: int) -> int:
    return sum(engine.get(key) == value for key, value in map(synced_pair, range(count)))


def open_when_full(path: str, file_bytes_max: str) -> None:
    """Opens a data directory and an engine where there is no room (-1: on the disk; else in any file); says the refusals."""
    limit_file_bytes(int(file_bytes_max) if int(file_bytes_max) >= 0 else resource.RLIM_INFINITY)
    attempts: list[Callable[[], object]] = [
        lambda: open_directory(Path(path) / "node", cluster_id="c", node_id="n"),
        lambda: LevelDbEngine(Path(path) / "db"),
    ]
    for attempt in attempts:
        try:
            attempt()
            say(None)
        except StorageError as error:
            say(error.message)


def read_damaged(pristine: str, scratch: str, damages: str) -> None:
    """For each damage [file, offset, bit]: copies the database, flips the bit, and says what became of it."""
    for name, offset, bit in json.loads(damages):
        copy = Path(scratch) / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(pristine, copy)
        raw = bytearray((copy / name).read_bytes())
        raw[offset] ^= 1 << bit
        (copy / name).write_bytes(raw)
        say({"damage": [name, offset, bit], **_read_all(copy)})


def _read_all(path: Path) -> dict[str, object]:
    try:
        engine = small_engine(path)
    except StorageError as error:
        return {"opening": error.message}
    pairs = dict(damaged_pair(number) for number in range(DAMAGED_KEYS))
    gets = Counter(_get_outcome(engine, key, value) for key, value in pairs.items())
    scanned: list[tuple[bytes, bytes]] = []
    refused = False
    try:
        scanned.extend(engine.scan(b""))
    except StorageError:
        refused = True
    engine.close()
    wrong = sum(pairs.get(key) != value for key, value in scanned)
    return {"opening": None, "gets": gets, "scan_refused": refused, "scan_found": len(scanned), "scan_wrong": wrong}


def _get_outcome(engine: LevelDbEngine, key: bytes, value: bytes) -> str:
    try:
        found = engine.get(key)
    except StorageError:
        return "refused"
    return "right" if found == value else "missing" if found is None else "wrong"


DAMAGED_KEYS = 1_500


def damaged_pair(number: int) -> tuple[bytes, bytes]:
    """A pair of the database that `read_damaged` damages."""
    return b"key %08d" % number, (b"value %08d " % number) * 5 + Random(number).randbytes(60)


def hold_directory(path: str) -> None:
    """Opens a data directory, says its pid, and lets go when its standard input ends."""
    with open_directory(path, cluster_id="c", node_id="n"):
        say(os.getpid())
        sys.stdin.read()


PROGRAMS = {program.__name__: program for program in (write_synced, write_until_full, open_when_full, read_damaged, hold_directory)}

if __name__ == "__main__":
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
