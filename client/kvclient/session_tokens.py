"""What a session has seen: for each of the keys it met last, how much of it, in a bounded token that travels as text. Pure.

In a linearizable namespace that is the version; in an eventual one the context, joined with those before. Of some keys that does
not say everything: an absent one has no version to compare with, and one that was let go of and written again has more behind it
than the context of that write. These are read at a level that sees everything the session did.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from dataclasses import dataclass, field

from kvclient.errors import BadRequest
from kvproto.contexts import join_contexts

KEYS_MAX = 256
_FORMAT = 1
_DROPPED = 1
_CRC_BYTES = 4


@dataclass(slots=True)
class Memory:
    """The memory of one session, oldest first: `seen` by key, of at most `keys_max`. `unsure`: those of them of which `seen`
    does not say everything. `dropped`: others were kept before, and are not any more."""

    namespace: str
    keys_max: int = KEYS_MAX
    dropped: bool = False
    seen: dict[bytes, bytes] = field(default_factory=dict)
    unsure: set[bytes] = field(default_factory=set)

    def must_be_strict(self, key: bytes) -> bool:
        """Whether what was seen of the key cannot be said: it has to be read at a level that sees everything the session did."""
        return key in self.unsure or (self.dropped and key not in self.seen)

    def note_version(self, key: bytes, version: bytes) -> None:
        """The key, of a linearizable namespace, was shown or written at `version`; b"": it was shown to be absent."""
        held = self.seen.get(key, b"")
        if version > held:
            held = version
            self.unsure.discard(key)
        elif not version:
            self.unsure.add(key)
        self.keep(key, held)

    def note_context(self, key: bytes, context: bytes, *, is_read: bool) -> None:
        """The key, of an eventual namespace, was shown with `context` (`is_read`) or written.

        A write says little more than itself: of a key that may have been let go of before, what was seen then is still missing,
        until a read at a level that sees it.
        """
        if is_read:
            self.unsure.discard(key)
        elif self.must_be_strict(key):
            self.unsure.add(key)
        held = self.seen.get(key, b"")
        if held or context:
            self.keep(key, join_contexts(held, context))

    def keep(self, key: bytes, held: bytes) -> None:
        """Remembers so much of the key, as the newest; the oldest beyond `keys_max` is let go of."""
        self.seen.pop(key, None)
        self.seen[key] = held
        while len(self.seen) > self.keys_max:
            oldest = next(iter(self.seen))
            del self.seen[oldest]
            self.unsure.discard(oldest)
            self.dropped = True

    def encode(self) -> str:
        """The token: everything, in printable characters that need no quoting in a URL, a header or a cookie."""
        parts = [bytes((_FORMAT, _DROPPED * self.dropped)), _sized(self.namespace.encode())]
        for key, seen in self.seen.items():
            parts += [_sized(key), _sized(seen), bytes((key in self.unsure,))]
        body = b"".join(parts)
        return base64.urlsafe_b64encode(body + zlib.crc32(body).to_bytes(_CRC_BYTES, "big")).decode().rstrip("=")


def decode_memory(token: object, namespace: str, keys_max: int = KEYS_MAX) -> Memory:
    """The memory that a token holds. Raises `BadRequest` for what is none, or is of another namespace."""
    wrong = BadRequest("this is no session's .token: pass it on unchanged", subject="token")
    if not isinstance(token, str):
        raise wrong
    try:
        raw = base64.b64decode(token.encode("ascii") + b"=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raise wrong from None
    body, crc = raw[:-_CRC_BYTES], raw[-_CRC_BYTES:]
    if len(body) < 2 or zlib.crc32(body).to_bytes(_CRC_BYTES, "big") != crc:
        raise wrong
    if body[0] != _FORMAT:
        raise BadRequest("this session's .token is of a newer client", subject="token")
    memory = Memory(namespace, keys_max, bool(body[1] & _DROPPED))
    try:
        name, at = _take(body, 2)
        while at < len(body):
            key, at = _take(body, at)
            seen, at = _take(body, at)
            if body[at]:
                memory.unsure.add(key)
            memory.keep(key, seen)
            at += 1
    except IndexError:
        raise wrong from None
    if name != namespace.encode():
        of = name.decode(errors="replace")
        raise BadRequest(f"this session's .token is of namespace {of!r}, not {namespace!r}", subject="token")
    return memory


def _sized(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _take(body: bytes, at: int) -> tuple[bytes, int]:
    end = at + 4 + int.from_bytes(body[at : at + 4], "big")
    if end > len(body):
        raise IndexError
    return body[at + 4 : end], end
