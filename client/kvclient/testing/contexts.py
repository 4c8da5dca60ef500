"""What a fake store's contexts say: the highest dot of which all up to it were seen, and single dots beyond.

One actor mints all dots, so a vector is one number. The first byte is the client's business (`kvclient.contexts`); behind it stand
numbers of eight bytes, the vector first.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvclient.contexts import EXACT, KNOWS_NOTHING, OVERWRITE_PLUS
from kvclient.errors import BadRequest

_WIDTH = 8


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
        return bytes((EXACT,)) + b"".join(number.to_bytes(_WIDTH, "big") for number in (self.upto, *sorted(self.dots)))


def decode_seen(token: bytes, newest: int) -> Seen:
    """What a write's token says. Raises `BadRequest` for one that a store whose newest dot is `newest` never handed out."""
    if not token:
        return Seen(overwrite=True)
    if token == KNOWS_NOTHING:
        return Seen()
    kind, numbers = token[0], token[1:]
    if kind not in (EXACT, OVERWRITE_PLUS) or not numbers or len(numbers) % _WIDTH:
        raise BadRequest("this context was never handed out", subject="context")
    upto, *dots = [int.from_bytes(numbers[at : at + _WIDTH], "big") for at in range(0, len(numbers), _WIDTH)]
    if max(upto, *dots, 0) > newest:
        raise BadRequest("this context is of writes that were never made here", subject="context")
    return Seen(upto, frozenset(dots), overwrite=kind == OVERWRITE_PLUS)
