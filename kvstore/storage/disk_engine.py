"""The engine of a data directory: the LevelDB database `data/`, and the large values beside its tables in `data/values/`."""

from __future__ import annotations

from pathlib import Path

from kvstore.storage.directory import make_durably, refusal_of
from kvstore.storage.large.engine import FILE_BYTES, LargeValueEngine
from kvstore.storage.large.files import OsFiles
from kvstore.storage.leveldb import CACHE_BYTES, WRITE_BUFFER_BYTES, LevelDbEngine

VALUES = "values"


def open_disk_engine(
    path: Path,
    *,
    write_buffer_bytes: int = WRITE_BUFFER_BYTES,
    cache_bytes: int = CACHE_BYTES,
    file_bytes: int = FILE_BYTES,
    thread: bool = True,
) -> LargeValueEngine:
    """The engine in the directory `path`, which is created; its parent must exist. Raises `StorageError`."""
    database = LevelDbEngine(path, write_buffer_bytes=write_buffer_bytes, cache_bytes=cache_bytes)
    try:
        try:
            make_durably(path / VALUES)
        except OSError as error:
            raise refusal_of(path, error) from error
        return LargeValueEngine(database, OsFiles(path / VALUES), name=str(path), file_bytes=file_bytes, thread=thread)
    except BaseException:
        database.close()
        raise
