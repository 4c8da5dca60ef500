"""What a call returns. Light on purpose: an operation inside a batch has a few microseconds for everything, so these hold slices of
the reply's columns and decode when asked.

`versions` is the column of a whole reply, shared by all its results; `at` is the offset of this key's first version in it.
"""

from __future__ import annotations

from kvclient.errors import SiblingsError, WrongMode
from kvproto.columns import VERSION_BYTES, Cell, Receipt


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

    @property
    def expiries(self) -> list[float | None]:
        """When each of `values` expires (Unix time, seconds), in their order; None: never."""
        held, expires_ms = self._held, self._expires_ms
        each = expires_ms if isinstance(expires_ms, tuple) else (expires_ms,) * len(self.values)
        return [one / 1000 if one else None for one in each] if held is not None else []

    @property
    def cells(self) -> list[tuple[Cell, bytes, bytes, float | None]]:
        """What a counter, set or map is made of: kind, name of the field (b"" but in maps), value, and when it expires. Nothing
        for plain values."""
        return []

    @property
    def number(self) -> int:
        """What a counter holds; 0 when nothing was found. Raises `WrongMode` for a key that holds something else, as do `members`,
        `registers`, `counters` and `sets`."""
        self._refuse("counter")
        return 0

    @property
    def members(self) -> frozenset[bytes]:
        """What is in a set."""
        self._refuse("set")
        return frozenset()

    @property
    def registers(self) -> dict[bytes, bytes]:
        """The fields of a map that hold values, by name."""
        self._refuse("map")
        return {}

    @property
    def counters(self) -> dict[bytes, int]:
        """The fields of a map that are counters, by name. A field is known by name and kind: one name may be in all three."""
        self._refuse("map")
        return {}

    @property
    def sets(self) -> dict[bytes, frozenset[bytes]]:
        """The fields of a map that are sets, by name."""
        self._refuse("map")
        return {}

    @property
    def policy(self) -> str:
        """What the key holds, by the name of the policy: "counter", "set" or "map"; "" for plain values and what was not found."""
        return ""

    def _refuse(self, what: str) -> None:
        """Raises unless there is nothing, which is as good as an empty one."""
        if self._held is not None:
            held = f"a {self.policy}" if self.policy else "a plain value"
            raise WrongMode(f"{self.key!r} holds {held}, no {what}", subject=self.key.decode(errors="replace"))

    def __repr__(self) -> str:
        held = self._held
        what = "not found" if held is None else f"{len(held)} siblings" if isinstance(held, tuple) else f"{len(held)} bytes"
        return f"<Entry {self.key!r}: {what}>"


class TypedEntry(Entry):
    """What a read found under a policy that knows types: its cells, with the kind and field of each."""

    __slots__ = ("_fields", "_kinds")

    def __init__(
        self,
        key: bytes,
        held: tuple[bytes, ...] | None,
        versions: bytes,
        at: int,
        context: bytes,
        expires_ms: tuple[int, ...],
        receipt: Receipt,
        kinds: bytes,
        fields: tuple[bytes, ...],
    ) -> None:
        super().__init__(key, held, versions, at, context, expires_ms, receipt)
        self._kinds = kinds
        self._fields = fields

    @property
    def policy(self) -> str:
        """What the key holds."""
        if self._held is None:
            return ""
        if any(self._fields):
            return "map"
        return "counter" if self._kinds[0] == Cell.COUNTER else "set"

    @property
    def value(self) -> bytes | None:
        """A counter's number as digits; None when nothing was found. Raises `WrongMode` for a set or a map, which are no value."""
        policy = self.policy
        if policy in ("set", "map"):
            way = "members" if policy == "set" else "registers, .counters and .sets"
            raise WrongMode(f"{self.key!r} holds a {policy}: read .{way}", subject=self.key.decode(errors="replace"))
        return self.values[0] if policy else None

    @property
    def number(self) -> int:
        """What the counter holds."""
        if self.policy != "counter":
            self._refuse("counter")
            return 0
        return int(self.values[0])

    @property
    def members(self) -> frozenset[bytes]:
        """What is in the set."""
        if self.policy != "set":
            self._refuse("set")
        return frozenset(self.values)

    @property
    def registers(self) -> dict[bytes, bytes]:
        """The map's values, by field."""
        return dict(self._cells(Cell.REGISTER))

    @property
    def counters(self) -> dict[bytes, int]:
        """The map's counters, by field."""
        return {field: int(value) for field, value in self._cells(Cell.COUNTER)}

    @property
    def sets(self) -> dict[bytes, frozenset[bytes]]:
        """The map's sets, by field."""
        found: dict[bytes, set[bytes]] = {}
        for field, value in self._cells(Cell.ELEMENT):
            found.setdefault(field, set()).add(value)
        return {field: frozenset(elements) for field, elements in found.items()}

    @property
    def cells(self) -> list[tuple[Cell, bytes, bytes, float | None]]:
        """See `Entry.cells`."""
        fields = self._fields if any(self._fields) else (b"",) * len(self._kinds)
        cells = zip(self._kinds, fields, self.values, self.expiries, strict=True)
        return [(Cell(kind), field, value, expires_at) for kind, field, value, expires_at in cells]

    def _cells(self, kind: Cell) -> list[tuple[bytes, bytes]]:
        if self.policy != "map":
            self._refuse("map")
        cells = zip(self._kinds, self._fields, self.values, strict=True)
        return [(field, value) for which, field, value in cells if which == kind]

    def __repr__(self) -> str:
        return f"<Entry {self.key!r}: {self.policy or 'not found'}>"


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


class Incremented(PutResult):
    """What an acknowledged increment became. `value` is what the counter held then, as far as the node that counted knew."""

    __slots__ = ("value",)

    def __init__(self, key: bytes, versions: bytes, at: int, context: bytes, siblings: int, receipt: Receipt, value: int) -> None:
        super().__init__(key, versions, at, context, siblings, receipt)
        self.value = value

    def __repr__(self) -> str:
        return f"<Incremented {self.key!r}: {self.value}>"


def _offsets(at: int, count: int) -> range:
    return range(at, at + count * VERSION_BYTES, VERSION_BYTES)
