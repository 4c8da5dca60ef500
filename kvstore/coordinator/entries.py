"""What a read found, as the columns of a reply. Pure; get.py and scan.py fill them key by key.

Where a policy resolves, it does so here, in front of the reader, and nothing of it is stored (safety rule 13).
"""

from __future__ import annotations

from collections.abc import Sequence

from kvproto.columns import GroupReply
from kvstore.core.policies.merging import Merged
from kvstore.core.policies.operations import Policy
from kvstore.core.policies.typed import MAP, Typed
from kvstore.core.record import (
    decode,
    encode_context,
    read_siblings,
    read_single,
)
from kvstore.core.versions import Context


class Columns:
    """Entries of a reply, appended one by one; `counts` and `expires_ms` are left out while they say the usual.

    `kinds` and `fields` say what each value is where a policy is typed; `failures`: why values could not be merged.
    """

    __slots__ = ("contexts", "counts", "expires_ms", "expiring", "failures", "fields", "kinds", "unusual", "values", "versions")

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.values: list[bytes] = []
        self.versions: list[bytes] = []
        self.contexts: list[bytes] = []
        self.expires_ms: list[int] = []
        self.unusual = False
        self.expiring = False
        self.kinds: Sequence[int] = ()
        self.fields: Sequence[bytes] = ()
        self.failures: Sequence[str] = ()

    def add(self, record: bytes | None, now_ms: int) -> None:
        """The entry of one key: absent, one value, or siblings."""
        if record is None:
            self.add_absent(b"")
            return
        single = read_single(record, now_ms)
        if single is not None:
            value, version, context, expires_ms = single
            if value is None:
                self.add_absent(context)
                return
            self.counts.append(1)
            self.values.append(value)
            self.versions.append(version)
            self.contexts.append(context)
            self.expires_ms.append(expires_ms)
            self.expiring = self.expiring or expires_ms > 0
            return
        live, context = read_siblings(record, now_ms)
        self.counts.append(len(live))
        self.contexts.append(context)
        self.unusual = self.unusual or len(live) != 1
        for sibling in live:
            self.values.append(sibling.value)
            self.versions.append(sibling.dot)
            self.expires_ms.append(sibling.expires_ms)
            self.expiring = self.expiring or sibling.expires_ms > 0

    def add_absent(self, context: bytes) -> None:
        """Nothing there; a tombstone's context still says what was seen."""
        self.counts.append(0)
        self.contexts.append(context)
        self.unusual = True

    def reply(self, group: int, positions: Sequence[int] | None) -> GroupReply:
        """The columns as a reply without a receipt."""
        return GroupReply(
            group,
            positions=positions,
            counts=self.counts if self.unusual else (),
            values=self.values,
            versions=b"".join(self.versions),
            contexts=self.contexts,
            expires_ms=self.expires_ms if self.expiring else (),
            kinds=bytes(self.kinds),
            fields=self.fields,
        )


class MergedColumns(Columns):
    """Columns of a namespace with a merge function: siblings as what it makes of them, under the context of all of them."""

    __slots__ = ("_policy",)

    def __init__(self, policy: Merged) -> None:
        super().__init__()
        self._policy = policy
        self.failures: list[str] = []

    def add(self, record: bytes | None, now_ms: int) -> None:
        """As of a plain key, but for siblings."""
        if record is None or read_single(record, now_ms) is not None:
            super().add(record, now_ms)
            return
        decoded = decode(record)
        reading = self._policy.read(decoded, now_ms)
        if reading.failure and reading.failure not in self.failures:
            self.failures.append(reading.failure)
        self.counts.append(len(reading.cells))
        self.contexts.append(encode_context(Context(decoded.vector)))
        self.unusual = self.unusual or len(reading.cells) != 1
        for cell in reading.cells:
            self.values.append(cell.value)
            self.versions.append(cell.dot)
            self.expires_ms.append(cell.expires_ms)
            self.expiring = self.expiring or cell.expires_ms > 0


class TypedColumns(Columns):
    """Columns of counters, sets or maps: what a key holds, cell by cell."""

    __slots__ = ("_has_fields", "_policy")

    def __init__(self, policy: Typed) -> None:
        super().__init__()
        self._policy = policy
        self._has_fields = policy is MAP
        self.kinds: list[int] = []
        self.fields: list[bytes] = []

    def add(self, record: bytes | None, now_ms: int) -> None:
        """The cells of one key."""
        if record is None:
            self.add_absent(b"")
            return
        decoded = decode(record)
        cells = self._policy.read(decoded, now_ms).cells
        self.counts.append(len(cells))
        self.contexts.append(encode_context(Context(decoded.vector)))
        self.unusual = self.unusual or len(cells) != 1
        for cell in cells:
            self.values.append(cell.value)
            self.versions.append(cell.dot)
            self.expires_ms.append(cell.expires_ms)
            self.kinds.append(cell.kind)
            self.expiring = self.expiring or cell.expires_ms > 0
        if self._has_fields:
            self.fields += [cell.field for cell in cells]


def columns_for(policy: Policy) -> Columns:
    """Empty columns for keys of a namespace with `policy`. A key of lww holds one value, like any other that was overwritten."""
    if isinstance(policy, Typed):
        return TypedColumns(policy)
    return MergedColumns(policy) if isinstance(policy, Merged) else Columns()
