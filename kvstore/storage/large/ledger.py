"""Which values of which file are pointed to: what is alive, and how much of each file it is. Pure.

Kept in memory, about 300 bytes for each large value. It is told of every change of the map, in the map's order, and of what was
there before; with that it is exact.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvstore.storage.large.pointers import Pointer


class Ledger:
    """The pointers of the map by key, and by file."""

    def __init__(self) -> None:
        self._files: dict[bytes, int] = {}  # by key: the file of its pointer
        self._alive: dict[int, dict[bytes, Pointer]] = {}
        self._alive_bytes: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._files)

    def put(self, key: bytes, pointer: Pointer) -> None:
        """`key` points there now, and nowhere else."""
        self.gone(key)
        self._files[key] = pointer.file
        self._alive.setdefault(pointer.file, {})[key] = pointer
        self._alive_bytes[pointer.file] = self.alive_bytes(pointer.file) + pointer.size_bytes

    def gone(self, key: bytes) -> bool:
        """`key` points nowhere: it was deleted, or has a small value. Whether it pointed somewhere."""
        file = self._files.pop(key, None)
        if file is None:
            return False
        alive = self._alive[file]
        self._alive_bytes[file] -= alive.pop(key).size_bytes
        if not alive:
            del self._alive[file], self._alive_bytes[file]
        return True

    def all_gone(self, keys: Iterable[bytes]) -> bool:
        """As `gone`, each; whether any pointed somewhere."""
        files = self._files
        pointed = [key for key in keys if key in files]
        for key in pointed:
            self.gone(key)
        return bool(pointed)

    def pointer(self, key: bytes) -> Pointer | None:
        """Where `key` points."""
        file = self._files.get(key)
        return None if file is None else self._alive[file][key]

    def alive(self, file: int) -> list[tuple[bytes, Pointer]]:
        """What points into `file`."""
        return list(self._alive.get(file, {}).items())

    def is_pointed_to(self, file: int) -> bool:
        """Whether anything points into `file`, be it to a value of no bytes."""
        return file in self._alive

    def alive_bytes(self, file: int) -> int:
        """The bytes of the values in `file` that are pointed to."""
        return self._alive_bytes.get(file, 0)

    def check(self) -> None:
        """Asserts the invariants; for tests."""
        assert self._alive.keys() == self._alive_bytes.keys()
        assert self._files == {key: file for file, alive in self._alive.items() for key in alive}
        for file, alive in self._alive.items():
            assert alive and self._alive_bytes[file] == sum(pointer.size_bytes for pointer in alive.values())
            assert all(pointer.file == file for pointer in alive.values())
