"""The layout of a causal context on the wire, and the one thing that sessions do with it: joining two.

    kind u8 (1 exact, 2 overwrite and this) | vector rows u16 | rows | single dots       row = dot = actor 12 bytes, counter u64

Big-endian, rows and dots sorted. To everybody else a context is opaque: pass on what a get or put returned, unchanged. The node's
side is `kvstore.core.record`; a test keeps the two equal.
"""

from __future__ import annotations

EXACT = 1
ACTOR_BYTES = 12
DOT_BYTES = 20
_HEAD_BYTES = 3


def join_contexts(one: bytes, other: bytes) -> bytes:
    """The exact context of who has seen what either says; b"" says nothing. Raises `ValueError` for what is no context."""
    if not one or one == other:
        return other
    if not other:
        return one
    vector, dots = _read(one)
    more, other_dots = _read(other)
    for actor, counter in more.items():
        vector[actor] = max(vector.get(actor, b""), counter)
    loose = [dot for dot in dots | other_dots if dot[ACTOR_BYTES:] > vector.get(dot[:ACTOR_BYTES], b"")]
    rows = b"".join(actor + vector[actor] for actor in sorted(vector))
    return bytes((EXACT,)) + len(vector).to_bytes(2, "big") + rows + b"".join(sorted(loose))


def _read(token: bytes) -> tuple[dict[bytes, bytes], set[bytes]]:
    """Counters by actor, as bytes, which order as numbers do; and the single dots."""
    rows = int.from_bytes(token[1:_HEAD_BYTES], "big")
    length = len(token) - _HEAD_BYTES
    if length < rows * DOT_BYTES or length % DOT_BYTES:
        raise ValueError("not a context: pass on what a get or put returned, unchanged")
    dots = [token[at : at + DOT_BYTES] for at in range(_HEAD_BYTES, len(token), DOT_BYTES)]
    return {dot[:ACTOR_BYTES]: dot[ACTOR_BYTES:] for dot in dots[:rows]}, set(dots[rows:])
