"""`kv serve` with a mistake planted: `python -m tests.durability.serve_planted PLANT --config node.toml …`.

`no-sync` leaves the sync of every batch out. `early-ack` syncs each batch, but a moment after it has told that it had: the mistake
that loses nothing until the power fails in that very moment, and that only the order of events can show.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial

from kvstore.commands.serve import serve
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


PLANTS: dict[str, Write] = {"no-sync": write_without_sync, "early-ack": write_and_sync_later}


def main() -> None:
    plant = sys.argv.pop(1)
    write = PLANTS[plant]

    def prepare(
        engine: LevelDbEngine, puts: Sequence[tuple[bytes, bytes]], deletes: Sequence[bytes] = (), *, sync: bool
    ) -> Callable[[], None]:
        return partial(write, engine, puts, deletes, sync=sync)

    LevelDbEngine.write = write  # type: ignore[method-assign]
    LevelDbEngine.prepare = prepare  # type: ignore[method-assign, assignment]
    serve()


if __name__ == "__main__":
    main()
