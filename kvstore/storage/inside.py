"""Being inside a database: whoever closes it waits for those who are, and its errors are mapped on the way out.

leveldb.py has one for all of its calls, from any thread: it keeps nothing of a single call. contextlib makes five objects for each,
which cost as much as the rest of a small commit.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from kvproto.errors import StorageError


class Inside:
    """`with` it a call has the database. `calls` has an entry for each that is inside; while `closing` has any, nobody enters:
    `StorageError`, as where the database raises its own `failure`. `describe` tells either (None: it is closed)."""

    __slots__ = ("_calls", "_closing", "_database", "_describe", "_failure")

    def __init__(
        self,
        database: Any,
        failure: type[Exception],
        calls: list[None],
        closing: list[None],
        describe: Callable[[Exception | None], StorageError],
    ) -> None:
        self._database = database
        self._failure = failure
        self._calls = calls
        self._closing = closing
        self._describe = describe

    def __enter__(self) -> Any:
        self._calls.append(None)  # first: then whoever closes sees it, or it sees that somebody closes
        if self._closing:
            self._calls.pop()
            raise self._describe(None)
        return self._database

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._calls.pop()
        if isinstance(error, self._failure):
            raise self._describe(error) from error
