"""What a call returns. Light on purpose: an operation inside a batch has a few microseconds for everything, so these hold slices of
the reply's columns and decode when asked.

`versions` is the column of a whole reply, shared by all its results; `at` is the offset of this key's first version in it.
"""

from __future__ import annotations

from kvclient.errors import SiblingsError
from kvproto.columns import VERSION_BYTES, Receipt


class Entry:
    """What a read found: no value, one, or several siblings that were written without knowledge of each other."""

    __slots__ = ("_at", "_expires_ms", "_held", "_versions", "context", "key", "receipt")

    def __init__(
        self,
        key: bytes,
        held: bytes | tuple[bytes, ...] | None,
        versions: bytes,
        at: int,
        context: bytes,
        expires_ms: int | tuple[int, ...],
        receipt: Receipt,
    ) -> None:
        self.key = key
        self._held = held
        self._versions = versions
        self._at = at
        self.context = context
        self._expires_ms = expires_ms
        self.receipt = receipt

    @property
    def found(self) -> bool:
        """Whether the key holds anything."""
        return self._held is not None

    @property
    def value(self) -> bytes | None:
        """The value, None when nothing was found. Raises `SiblingsError` when there are several."""
        held = self._held
        if isinstance(held, tuple):
            raise SiblingsError(
                f"{self.key!r} holds {len(held)} siblings: read .values, merge them, and put the result with context=entry.context",
                actual=len(held),
            )
        return held

    @property
    def values(self) -> list[bytes]:
        """Every sibling's value; empty when nothing was found."""
        held = self._held
        if held is None:
            return []
        return list(held) if isinstance(held, tuple) else [held]

    @property
    def versions(self) -> list[str]:
        """The siblings' versions, in the order of `values`."""
        held = self._held
        count = len(held) if isinstance(held, tuple) else int(held is not None)
        return [self._versions[at : at + VERSION_BYTES].hex() for at in _offsets(self._at, count)]

    @property
    def version(self) -> str:
        """The version as 40 hex digits, of the first sibling when there are several; "" when nothing was found."""
        return self._versions[self._at : self._at + VERSION_BYTES].hex() if self._held is not None else ""

    @property
    def expires_at(self) -> float | None:
        """When the value expires (Unix time, seconds), the earliest when there are siblings; None: never."""
        expires_ms = self._expires_ms
        if isinstance(expires_ms, tuple):
            expires_ms = min((one for one in expires_ms if one), default=0)
        return expires_ms / 1000 if expires_ms else None

    def __repr__(self) -> str:
        held = self._held
        what = "not found" if held is None else f"{len(held)} siblings" if isinstance(held, tuple) else f"{len(held)} bytes"
        return f"<Entry {self.key!r}: {what}>"


class PutResult:
    """What an acknowledged put, delete or touch became. `siblings` is how many values the key holds now, or how many were
    touched."""

    __slots__ = ("_at", "_versions", "context", "key", "receipt", "siblings")

    def __init__(self, key: bytes, versions: bytes, at: int, context: bytes, siblings: int, receipt: Receipt) -> None:
        self.key = key
        self._versions = versions
        self._at = at
        self.context = context
        self.siblings = siblings
        self.receipt = receipt

    @property
    def version(self) -> str:
        """The write's version, 40 hex digits."""
        return self._versions[self._at : self._at + VERSION_BYTES].hex()

    @property
    def found(self) -> bool:
        """Of a touch: whether there was a value."""
        return self.siblings > 0

    def __repr__(self) -> str:
        return f"<PutResult {self.key!r}: version {self.version}>"


def _offsets(at: int, count: int) -> range:
    return range(at, at + count * VERSION_BYTES, VERSION_BYTES)
