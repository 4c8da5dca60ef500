"""What this client was acknowledged, so that its own next write supersedes it through any coordinator (docs/architecture.md,
"Writes without a context"; safety rule 14).

Tokens are opaque but for their first byte: 1 says "this is what I read", 2 says "overwrite what you hold, plus this". A bounded
memory: two generations of plain dictionaries, because an exact LRU would cost more than the rest of a put. When the young
generation has taken half of the bytes, the old one is forgotten; forgetting only means that a write through a coordinator that
missed the client's previous one may become a sibling.
"""

from __future__ import annotations

EXACT = 1
OVERWRITE_PLUS = 2

KNOWS_NOTHING = bytes((EXACT, 0, 0))
"""What `context=b""` of a caller means on the wire: nothing was read, always a sibling."""

OVERWRITE = b""
"""Overwrite what the coordinator holds, without memory."""

_PLUS = bytes((OVERWRITE_PLUS,))
_ENTRY_OVERHEAD_BYTES = 200


class NamespaceContexts:
    """The memory for one namespace: key to the context of the last acknowledged write."""

    __slots__ = ("_memory", "_old", "_young")

    def __init__(self, memory: ContextMemory) -> None:
        self._memory = memory
        self._young: dict[bytes, bytes] = {}
        self._old: dict[bytes, bytes] = {}

    def remember(self, key: bytes, context: bytes) -> None:
        """A write was acknowledged with `context`; an empty one says nothing and changes nothing."""
        if not context:
            return
        if key not in self._young:
            self._memory.charge(len(key) + len(context) + _ENTRY_OVERHEAD_BYTES)
        self._young[key] = context

    def token(self, key: bytes) -> bytes:
        """What to send with a write that names no context."""
        context = self._young.get(key) or self._old.get(key)
        return _PLUS + context[1:] if context else OVERWRITE

    def age(self) -> None:
        """The young become the old, the old are forgotten."""
        self._old = self._young
        self._young = {}

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())


class ContextMemory:
    """The memory of a client, at most about `bytes_max` in all its namespaces."""

    __slots__ = ("_half_bytes", "_namespaces", "_young_bytes")

    def __init__(self, bytes_max: int = 16 * 1024 * 1024) -> None:
        self._half_bytes = bytes_max // 2
        self._young_bytes = 0
        self._namespaces: dict[str, NamespaceContexts] = {}

    def namespace(self, name: str) -> NamespaceContexts:
        """The part for one namespace."""
        found = self._namespaces.get(name)
        if found is None:
            found = self._namespaces[name] = NamespaceContexts(self)
        return found

    def charge(self, size_bytes: int) -> None:
        """`size_bytes` more are about to be remembered."""
        self._young_bytes += size_bytes
        if self._young_bytes > self._half_bytes:
            self._young_bytes = size_bytes
            for contexts in self._namespaces.values():
                contexts.age()
