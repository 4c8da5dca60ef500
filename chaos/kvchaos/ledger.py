"""A history that writes down calls of anything awaitable: what tests of applications record with (see pytest_plugin.py)."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from kvchaos.checkers.judge import judge
from kvchaos.history import WRITES, Recorder
from kvproto.errors import KvError

T = TypeVar("T")


class Ledger(Recorder):
    """A recorder on the machine's monotonic clock."""

    def __init__(self, header: Mapping[str, Any] | None = None) -> None:
        super().__init__(time.monotonic_ns, header)
        self._idle: list[int] = []
        self._processes = 0
        self._writes = 0

    async def call(self, f: str, done: Awaitable[T], *, key: str, value: Any = None, process: int | None = None) -> T:
        """Awaits `done` as a call of `f` and returns what it returns, which is also what a `read` found.

        `KvError` is recorded as fail or, if it may have applied, as info; any other exception as info; all are raised. Calls may
        overlap: each takes a process that has none open, unless `process` names one.
        """
        number = self._take() if process is None else process
        self._writes += 1
        facts = {"write": f"c{self._writes}"} if f in WRITES else {}
        self.note(number, "invoke", f, key=key, value=value, **facts)
        try:
            result = await done
        except KvError as error:
            unknown = f != "read" and error.may_have_applied
            self.note(number, "info" if unknown else "fail", f, key=key, value=value, error=error.message)
            self._give_back(number, unknown or process is not None)
            raise
        except BaseException as error:
            self.note(number, "info", f, key=key, value=value, error=repr(error))
            raise  # and its process is not used again: nobody knows whether it happened
        self.note(number, "ok", f, key=key, value=_plain(result) if f == "read" else value)
        self._give_back(number, process is not None)
        return result

    def check(self, *promises: str) -> None:
        """Raises `AssertionError` with every violation of these promises (see `kvchaos.checkers.judge`)."""
        self.history.header["promises"] = list(promises)
        found = [violation.sentence() for violation in judge(self.history)]
        if found:
            raise AssertionError("\n".join(found))

    def write(self, path: Path) -> None:
        """Writes the history so far to a file, for `kv chaos check` and `kv chaos export`."""
        self.history.write(path)

    def _take(self) -> int:
        if self._idle:
            return self._idle.pop()
        self._processes += 1
        return self._processes - 1

    def _give_back(self, number: int, kept: bool) -> None:
        if not kept:
            self._idle.append(number)


def _plain(value: Any) -> Any:
    """What JSON can say of a result: bytes as text, other collections as lists."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(part) for part in value]
    return value
