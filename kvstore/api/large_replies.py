"""Answers whose values are too large for one message. On a stream they leave in several, which a client takes like any answer in
parts; a unary answer is one message, so what does not fit into it is refused by name. Called by key_value.py, and nearly always
gives back what it was given.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kvproto.columns import GroupReply
from kvproto.errors import TooLarge
from kvproto.options import MESSAGE_BYTES_MAX

PART_BYTES_MAX = 4 * 1024 * 1024
"""What one message carries at most of values; one key's values that are more go alone."""

ANSWER_BYTES_MAX = MESSAGE_BYTES_MAX - 8 * 1024 * 1024
"""The most of values that a message may hold; the rest is for the contexts, versions and receipts beside them."""

VERSION_BYTES = 20
ENTRY_BYTES = 64
"""About what an answered operation holds beside its value."""


def in_messages(replies: list[GroupReply], *, bytes_max: int = PART_BYTES_MAX) -> list[list[GroupReply]]:
    """`replies` in order, shared out so that each message carries at most `bytes_max` of values or the answer to one key; at least
    one message. A key whose values fit into no message at all is answered with `TooLarge`."""
    if sum([_size_bytes(reply) for reply in replies]) <= bytes_max:
        return [replies]
    messages: list[list[GroupReply]] = [[]]
    left_bytes = bytes_max
    for reply in replies:
        for piece in _cut(reply, bytes_max):
            size_bytes = _size_bytes(piece)
            if size_bytes > left_bytes and messages[-1]:
                messages.append([])
                left_bytes = bytes_max
            messages[-1].append(piece)
            left_bytes -= size_bytes
    return messages


def in_one_message(replies: list[GroupReply], *, bytes_max: int = ANSWER_BYTES_MAX) -> list[GroupReply]:
    """As many of the answers as one message holds, keys beyond that being answered with `TooLarge`."""
    if sum([_size_bytes(reply) for reply in replies]) <= bytes_max:
        return replies
    fitting: list[GroupReply] = []
    left_bytes = bytes_max
    for reply in replies:
        for piece in _cut(reply, min(bytes_max, PART_BYTES_MAX)):
            size_bytes = _size_bytes(piece)
            fits = size_bytes <= left_bytes
            left_bytes -= size_bytes if fits else left_bytes
            fitting.append(piece if fits else _refused(piece, size_bytes, "ask for fewer keys at once", bytes_max))
    return fitting


def held_bytes(replies: list[GroupReply]) -> int:
    """About what `replies` hold in memory."""
    return sum([_size_bytes(reply) + ENTRY_BYTES * (1 + len(reply.contexts)) for reply in replies])


def _size_bytes(reply: GroupReply) -> int:
    return sum(map(len, reply.values)) + (sum(map(len, reply.fields)) if reply.fields else 0)


def _operations(reply: GroupReply) -> int:
    """How many operations a reply with values answers."""
    return len(reply.counts) or len(reply.contexts) or len(reply.versions) // VERSION_BYTES


def _cut(reply: GroupReply, bytes_max: int) -> Iterator[GroupReply]:
    """The reply in pieces of at most `bytes_max` of values, or of one key."""
    if _size_bytes(reply) <= bytes_max:
        yield reply
        return
    counts = reply.counts or [1] * _operations(reply)
    first = first_value = value = size_bytes = 0
    for at, count in enumerate(counts):
        more_bytes = sum(map(len, reply.values[value : value + count]))
        if at > first and size_bytes + more_bytes > bytes_max:
            yield _piece(reply, first, at, first_value, value)
            first, first_value, size_bytes = at, value, 0
        size_bytes += more_bytes
        value += count
    yield _piece(reply, first, len(counts), first_value, value)


def _piece(reply: GroupReply, first: int, end: int, first_value: int, end_value: int) -> GroupReply:
    """The answers to the operations `first` to before `end` of a reply, whose values are those from `first_value` on."""
    positions: Sequence[int] = range(first, end) if reply.positions is None else reply.positions[first:end]
    piece = GroupReply(
        reply.group,
        positions=positions,
        counts=reply.counts[first:end],
        values=reply.values[first_value:end_value],
        versions=reply.versions[VERSION_BYTES * first_value : VERSION_BYTES * end_value],
        contexts=reply.contexts[first:end],
        expires_ms=reply.expires_ms[first_value:end_value],
        receipt=reply.receipt,
        error=reply.error,  # a condition that failed comes with what is there
        kinds=reply.kinds[first_value:end_value],
        fields=reply.fields[first_value:end_value],
    )
    size_bytes = _size_bytes(piece)
    if size_bytes <= ANSWER_BYTES_MAX:
        return piece
    return _refused(piece, size_bytes, "overwrite or delete the key", ANSWER_BYTES_MAX)


def _refused(reply: GroupReply, size_bytes: int, advice: str, limit: int) -> GroupReply:
    error = TooLarge(
        f"the answer has {size_bytes} bytes of values and does not fit into the message: {advice}",
        limit=limit,
        actual=size_bytes,
        subject="reply",
    )
    return GroupReply(reply.group, positions=reply.positions or range(_operations(reply)), error=error)
