"""What a fake store's contexts say: the highest dot of which all up to it were seen, and single dots beyond.

One actor mints all dots, so a vector is one number. The layout is that of the wire (`kvproto.contexts`), since sessions join them.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvclient.contexts import EXACT, KNOWS_NOTHING, OVERWRITE_PLUS
from kvclient.errors import BadRequest
from kvproto.contexts import ACTOR_BYTES, DOT_BYTES

ACTOR = b"fake-store\x00\x00"


@dataclass(slots=True, frozen=True)
class Seen:
    """What a writer has seen. `overwrite`: whatever the store holds, too."""

    upto: int = 0
    dots: frozenset[int] = frozenset()
    overwrite: bool = False

    def covers(self, dot: int) -> bool:
        """Whether a write that has seen this supersedes `dot`."""
        return self.overwrite or dot <= self.upto or dot in self.dots

    def encode(self) -> bytes:
        """The token of a reply."""
        rows = [self.upto] if self.upto else []
        dots = b"".join(ACTOR + number.to_bytes(8, "big") for number in (*rows, *sorted(self.dots)))
        return bytes((EXACT,)) + len(rows).to_bytes(2, "big") + dots


def decode_seen(token: bytes, newest: int) -> Seen:
    """What a write's token says. Raises `BadRequest` for one that a store whose newest dot is `newest` never handed out."""
    if not token:
        return Seen(overwrite=True)
    if token == KNOWS_NOTHING:
        return Seen()
    kind, rows, body = token[0], int.from_bytes(token[1:3], "big"), token[3:]
    dots = [body[at : at + DOT_BYTES] for at in range(0, len(body), DOT_BYTES)]
    if kind not in (EXACT, OVERWRITE_PLUS) or rows not in (0, 1) or rows > len(dots) or len(body) % DOT_BYTES:
        raise BadRequest("this context was never handed out", subject="context")
    if any(dot[:ACTOR_BYTES] != ACTOR for dot in dots):
        raise BadRequest("this context is of another store", subject="context")
    numbers = [int.from_bytes(dot[ACTOR_BYTES:], "big") for dot in dots]
    upto, dots_seen = (numbers[0] if rows else 0), numbers[rows:]
    if max(upto, *dots_seen, 0) > newest:
        raise BadRequest("this context is of writes that were never made here", subject="context")
    return Seen(upto, frozenset(dots_seen), overwrite=kind == OVERWRITE_PLUS)
