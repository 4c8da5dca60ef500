"""What a read found, as the columns of a reply. Pure; get.py and scan.py fill them key by key."""

from __future__ import annotations

from collections.abc import Sequence

from kvproto.columns import GroupReply
from kvstore.core.record import read_siblings, read_single


class Columns:
    """Entries of a reply, appended one by one; `counts` and `expires_ms` are left out while they say the usual."""

    __slots__ = ("contexts", "counts", "expires_ms", "expiring", "unusual", "values", "versions")

    def __init__(self) -> None:
        self.counts: list[int] = []
        self.values: list[bytes] = []
        self.versions: list[bytes] = []
        self.contexts: list[bytes] = []
        self.expires_ms: list[int] = []
        self.unusual = False
        self.expiring = False

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
        )
