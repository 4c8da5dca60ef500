"""A node's data directory: whose it is, that only one process has it, and whether the last one ended cleanly (docs/storage.md).

    kvstore.json    identity: format, cluster, node         clean-shutdown.json    only between a clean stop and the next start
    kvstore.lock    held by the process that has it open    data/ hints/           the engines' own (assembly.py)
    set-aside/      what only a node held that was away for too long (repair/set_aside.py)

A directory is refused with one sentence, before anything in it is changed. What must survive a power failure is written to a
temporary file, synced, renamed, and the directory synced.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from base64 import b64decode, b64encode
from pathlib import Path
from types import TracebackType
from typing import Any

from kvproto.errors import ClusterError, StorageError, StoreInUse, WrongCluster
from kvstore.storage.full_disk import is_full

FORMAT = 2
"""1: all values in the database. 2: large ones beside it (large/), where a version that knows only 1 would not look for them."""
MARKER_FORMAT = 1
IDENTITY_NAME = "kvstore.json"
LOCK_NAME = "kvstore.lock"
CLEAN_NAME = "clean-shutdown.json"
_TEMPORARY_SUFFIX = ".new"
# What may lie in a directory that has no identity yet: what a crash while making it leaves, and what mkfs puts into a new volume.
_NOT_FOREIGN = {LOCK_NAME, IDENTITY_NAME + _TEMPORARY_SUFFIX, "lost+found"}


def open_directory(path: str | os.PathLike[str], *, cluster_id: str, node_id: str) -> DataDirectory:
    """Takes the data directory at `path` for this process, and makes it, with its parents, if it is not there.

    Raises `WrongCluster` or `ClusterError` if it holds another cluster's or node's data, and `StorageError` if it is in use
    (retryable), cannot be read or written, is full, of a newer format, damaged, or has other files in it. Nothing it held was
    changed then.
    """
    place = Path(path)
    try:
        make_durably(place)
        _check_identity(place, cluster_id, node_id)
        lock = _take_lock(place)
    except OSError as error:
        raise refusal_of(place, error) from error
    try:
        return _open_locked(place, lock, cluster_id, node_id)
    except OSError as error:
        os.close(lock)
        raise refusal_of(place, error) from error
    except BaseException:
        os.close(lock)
        raise


def _open_locked(place: Path, lock: int, cluster_id: str, node_id: str) -> DataDirectory:
    # Again, for it was somebody else's to change until now.
    found = _check_identity(place, cluster_id, node_id)
    os.ftruncate(lock, 0)
    os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    if found < FORMAT:  # a new one, or from here on one that an earlier version must not open
        identity = {"format": FORMAT, "cluster_id": cluster_id, "node_id": node_id}
        _write_durably(place / IDENTITY_NAME, json.dumps(identity).encode() + b"\n")
    state = _take_clean_state(place)
    return DataDirectory(place, lock, created=not found, clean_state=state)


class DataDirectory:
    """An open data directory; it stays this process's until `close`, or until the process ends in whatever way.

    `created`: this open made it. `clean_state`: what the last `close` was given, if nothing was opened since; None means that this
    is a new directory or that the last process did not stop cleanly, and a new actor epoch is due (safety rule 2).
    """

    def __init__(self, path: Path, lock: int, *, created: bool, clean_state: bytes | None) -> None:
        self.path = path
        self.created = created
        self.clean_state = clean_state
        self._lock: int | None = lock

    def subdirectory(self, name: str) -> Path:
        """A directory in it for one engine, made if it is not there. LevelDB syncs what it puts into its own, not its own entry."""
        try:
            make_durably(self.path / name)
        except OSError as error:
            raise refusal_of(self.path, error) from error
        return self.path / name

    def append(self, name: str, data: bytes) -> None:
        """Adds to a file in it, which is made with its directory if it is not there; durable when this returns. Raises
        `StorageError`."""
        path = self.path / name
        try:
            make_durably(path.parent)
            with open(path, "ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _sync_directory(path.parent)
        except OSError as error:
            raise refusal_of(self.path, error) from error

    def close(self, clean_state: bytes | None = None) -> None:
        """Lets go of the directory; idempotent. With `clean_state` it first leaves the clean-shutdown marker, durably.

        To be called with a state only after every engine in the directory was synced and closed, as the last act. Raises
        `StorageError` if the marker could not be written; the directory is let go of, and the next start is an unclean one.
        """
        lock, self._lock = self._lock, None
        if lock is None:
            return
        try:
            if clean_state is not None:
                _write_durably(self.path / CLEAN_NAME, _encode_clean_state(clean_state))
            # The file stays: whoever removed it could remove the one that the next process has just locked.
            os.ftruncate(lock, 0)
        except OSError as error:
            raise refusal_of(self.path, error) from error
        finally:
            os.close(lock)

    def __enter__(self) -> DataDirectory:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Lets go without a marker: a clean stop is said explicitly."""
        self.close()


def _check_identity(place: Path, cluster_id: str, node_id: str) -> int:
    """The format of `place`, which is this node's; 0 if it is nobody's yet. Reads only; raises as `open_directory`."""
    try:
        raw = (place / IDENTITY_NAME).read_bytes()
    except FileNotFoundError:
        foreign = sorted(set(os.listdir(place)) - _NOT_FOREIGN)
        if foreign:
            raise StorageError(
                f"{place} is not a data directory: it holds {foreign[0]!r} and no {IDENTITY_NAME}; name an empty or a new one",
                subject=str(place),
            ) from None
        return 0
    identity = _decode_identity(place, raw)
    _check_owner(place, identity, cluster_id, node_id)
    return int(identity["format"])


def _decode_identity(place: Path, raw: bytes) -> dict[str, Any]:
    way_out = f"restore it, or move {place} away and start empty"
    damaged = StorageError(f"{place / IDENTITY_NAME} is damaged: {way_out}", subject=str(place))
    try:
        identity: dict[str, Any] = dict(json.loads(raw))
    except (ValueError, TypeError):
        raise damaged from None
    version = identity.get("format")
    if isinstance(version, int) and version > FORMAT:
        raise StorageError(
            f"{place} was written by a newer version (format {version}, this is {FORMAT}): upgrade, nothing was changed",
            subject=str(place),
            limit=FORMAT,
            actual=version,
        )
    if version not in range(1, FORMAT + 1) or not all(isinstance(identity.get(name), str) for name in ("cluster_id", "node_id")):
        raise damaged
    return identity


def _check_owner(place: Path, identity: dict[str, Any], cluster_id: str, node_id: str) -> None:
    theirs = identity["cluster_id"]
    if theirs != cluster_id:
        raise WrongCluster(f"{place} belongs to cluster {theirs!r}, and this node to {cluster_id!r}", subject=str(place))
    theirs = identity["node_id"]
    if theirs != node_id:
        raise ClusterError(f"{place} holds the data of node {theirs!r}, and this is node {node_id!r}", subject=str(place))


def _take_lock(place: Path) -> int:
    """The descriptor that holds the lock. flock, not POSIX locks: it also keeps apart two opens in one process."""
    lock = os.open(place / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = lock_holder(place)
        os.close(lock)
        who = "this process" if pid == os.getpid() else f"process {pid}" if pid else "another process"
        raise StoreInUse(
            f"{place} is in use by {who}: one process at a time; for several, start servers with `kv dev` and connect to them",
            subject=str(place),
        ) from None
    except BaseException:
        os.close(lock)
        raise
    return lock


def lock_holder(path: str | os.PathLike[str]) -> int | None:
    """The pid that the holder of a data directory left in its lock file; None if there is none. Says nothing about who lives."""
    try:
        return int((Path(path) / LOCK_NAME).read_text("ascii"))
    except (OSError, ValueError):
        return None


def _take_clean_state(place: Path) -> bytes | None:
    """Reads the clean-shutdown marker and removes it, durably, before anything can be minted on the strength of it."""
    marker = place / CLEAN_NAME
    try:
        raw = marker.read_bytes()
    except FileNotFoundError:
        return None
    marker.unlink()
    _sync_directory(place)
    return _decode_clean_state(raw)


def _encode_clean_state(state: bytes) -> bytes:
    return json.dumps({"format": MARKER_FORMAT, "state": b64encode(state).decode(), "crc32": zlib.crc32(state)}).encode() + b"\n"


def _decode_clean_state(raw: bytes) -> bytes | None:
    """None for a marker that is damaged: a stop that cannot be shown to have been clean was not."""
    try:
        marker = json.loads(raw)
        state = b64decode(marker["state"], validate=True)
        return state if marker["format"] == MARKER_FORMAT and marker["crc32"] == zlib.crc32(state) else None
    except (ValueError, KeyError, TypeError):
        return None


def _write_durably(path: Path, content: bytes) -> None:
    """`path` holds `content` or what it held before, whenever the power fails; on return it holds `content`."""
    temporary = path.with_name(path.name + _TEMPORARY_SUFFIX)
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def make_durably(path: Path) -> None:
    """Makes the directory and its missing parents; a power failure later does not take any of them back."""
    missing = [part for part in (path, *path.parents) if not part.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for part in reversed(missing):
        _sync_directory(part.parent)


def _sync_directory(path: Path) -> None:
    """Makes what was created, renamed or removed in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def refusal_of(place: Path, error: OSError) -> StorageError:
    """One sentence on why the system refused, and the way out."""
    reason = error.strerror or str(error)
    if is_full(error):
        text = f"the disk of {place} is full ({reason}): free some space, then start again"
    elif isinstance(error, FileExistsError | NotADirectoryError):
        blocking = next((part for part in (place, *place.parents) if part.exists() and not part.is_dir()), place)
        text = f"{place} cannot be a data directory: {blocking} is a file"
    else:
        text = f"{place} cannot be used as a data directory ({reason}): check the path and who may write there"
    return StorageError(text, subject=str(place))
