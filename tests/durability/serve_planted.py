"""`kv serve` with a mistake planted: `python -m tests.durability.serve_planted PLANT --config node.toml …`.

`no-sync` leaves the sync of every batch out. `early-ack` syncs each batch, but a moment after it has told that it had: the mistake
that loses nothing until the power fails in that very moment, and that only the order of events can show. `no-value-sync` leaves out
the sync of large values, to which synced pointers lead then.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial

from kvstore.commands.serve import serve
from kvstore.storage.large.files import OsWriter
from kvstore.storage.leveldb import LevelDbEngine

Write = Callable[..., None]

honest_write: Write = LevelDbEngine.write


def write_without_sync(
    engine: LevelDbEngine, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool
) -> None:
    honest_write(engine, puts, deletes, sync=False)


def write_and_sync_later(
    engine: LevelDbEngine, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool
) -> None:
    honest_write(engine, puts, deletes, sync=False)
    # One sync covers every batch before it, so an empty batch will do.
    threading.Thread(target=partial(honest_write, engine, (), sync=sync), daemon=True).start()


def write_value_without_sync(writer: OsWriter) -> None:
    """Instead of `OsWriter.sync`."""


def plant_write(write: Write) -> None:
    """Every batch of every engine is written by it."""

    def prepare(
        engine: LevelDbEngine, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool
    ) -> Callable[[], None]:
        return partial(write, engine, puts, deletes, sync=sync)

    LevelDbEngine.write = write  # type: ignore[method-assign]
    LevelDbEngine.prepare = prepare  # type: ignore[method-assign, assignment]


def plant_no_value_sync() -> None:
    """No large value is synced."""
    OsWriter.sync = write_value_without_sync  # type: ignore[method-assign, assignment]


PLANTS: dict[str, Callable[[], None]] = {
    "no-sync": partial(plant_write, write_without_sync),
    "early-ack": partial(plant_write, write_and_sync_later),
    "no-value-sync": plant_no_value_sync,
}


def main() -> None:
    PLANTS[sys.argv.pop(1)]()
    serve()


if __name__ == "__main__":
    main()
