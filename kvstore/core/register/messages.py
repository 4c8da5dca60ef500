"""What proposers ask acceptors, and what they answer: columns over many registers of many groups, and their bytes.

One message is about everything that gathered in one turn, whatever the partitions, so that a batch spread over all of them costs
three messages and not hundreds. Every entry carries its ballot; an entry that is refused is named, all others are done. Peers carry
the bytes as they are (transport), and nothing below this package knows what is in them.

    ask     kind u8 | count u32 | keys | ballots 24 or stamps 32 each, or none | marks u64 each, of accepts | payloads, of accepts
    reply   kind u8 | count u32 | refused u32 | (position u32 | why u8 | promised ballot 24) each | states, of reads
    keys, payloads, states:  length u32 each | the bytes of all
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import accumulate, pairwise
from struct import Struct, error, pack, unpack_from

from kvstore.core.register.ballot import BALLOT_BYTES, NO_BALLOT, STAMP_BYTES
from kvstore.core.register.payload import check

_HEAD = Struct(">BI")
_COUNT = Struct(">I")
_REFUSAL = Struct(">IB24s")
ENTRIES_MAX = 1 << 20


class Step(IntEnum):
    """What is asked. READ and ACCEPT count as a promise of their ballot, CONFIRM only asks whether it still stands. STATE and REAP
    end tombstones. COPY is a promise, and asks for everything that is held of a group behind a key (copying.py). Of no ballot are:
    HORIZON asks how far the node is with all groups (tracker.py), LIST for the digests of what it holds of a group behind a key
    (listing.py), and SETTLE asks a proposer to have registers accepted again, which are not the same everywhere."""

    READ = 1
    ACCEPT = 2
    CONFIRM = 3
    STATE = 5
    REAP = 6
    COPY = 7
    HORIZON = 8
    LIST = 9
    SETTLE = 10


STAMPED = frozenset((Step.ACCEPT, Step.REAP))
OF_NO_BALLOT = frozenset((Step.HORIZON, Step.LIST, Step.SETTLE))
ANSWERED_WITH_STATES = frozenset((Step.READ, Step.STATE, Step.COPY, Step.HORIZON, Step.LIST))
ANSWERED_WITH_STAMPS = frozenset((Step.READ, Step.STATE))
"""Their states, where they are not empty, are a stamp and a payload."""


class Why(IntEnum):
    """Why an entry is refused."""

    PROMISED = 1
    """Another ballot was promised, which is told."""
    LOST = 2
    """What was held cannot be read: no vote (safety rule 5)."""
    ABSTAINS = 3
    """The node has lost what it promised, or does not know yet whether it has: no vote at all (safety rule 15)."""
    LATER = 4
    """The answer has as many bytes as a message may have: to be asked again."""
    FLOOR = 5
    """A message from before its key was reaped."""


@dataclass(slots=True)
class Ask:
    """`keys` are store keys, or groups (CONFIRM), or either (COPY, LIST), or since when (HORIZON). `ballots`: 24 bytes each, stamps
    of 32 where `STAMPED`, none where `OF_NO_BALLOT`. `marks`: with an accept, up to which sequence of the same ballot and group
    everything is committed."""

    step: Step
    keys: Sequence[bytes]
    ballots: Sequence[bytes] = ()
    marks: Sequence[int] = ()
    payloads: Sequence[bytes] = ()


@dataclass(slots=True)
class Reply:
    """`refused`: positions with the reason and the ballot that was promised. `states`: of reads, what is accepted there as stamp
    and payload in one, b"" for nothing or where it is refused; of copies and lists, a page each; of horizons, one."""

    step: Step
    count: int
    refused: dict[int, tuple[Why, bytes]] = field(default_factory=dict)
    states: Sequence[bytes] = ()


def encode_ask(ask: Ask) -> bytes:
    """Its bytes."""
    count = len(ask.keys)
    parts = [_HEAD.pack(ask.step, count), *column(ask.keys), b"".join(ask.ballots)]
    if ask.step is Step.ACCEPT:
        parts += [pack(f">{count}Q", *ask.marks), *column(ask.payloads)]
    return b"".join(parts)


def decode_ask(data: bytes) -> Ask:
    """The ask in `data`. Raises `ValueError` when it does not add up."""
    try:
        number, count = _HEAD.unpack_from(data)
        step = Step(number)
        keys, at = read_column(data, _HEAD.size, count)
        width = STAMP_BYTES if step in STAMPED else BALLOT_BYTES
        end = at if step in OF_NO_BALLOT else at + width * count
        ballots = [data[begin : begin + width] for begin in range(at, end, width)]
        marks: Sequence[int] = ()
        payloads: Sequence[bytes] = ()
        if step is Step.ACCEPT:
            marks = unpack_from(f">{count}Q", data, end)
            payloads, end = read_column(data, end + 8 * count, count)
            for payload in payloads:
                check(payload)
    except error as failure:
        raise ValueError(str(failure)) from failure
    if end != len(data):
        raise ValueError(f"{len(data)} bytes, {end} are accounted for")
    return Ask(step, keys, ballots, marks, payloads)


def encode_reply(reply: Reply) -> bytes:
    """Its bytes."""
    parts = [_HEAD.pack(reply.step, reply.count), _COUNT.pack(len(reply.refused))]
    parts += [_REFUSAL.pack(position, why, promised) for position, (why, promised) in reply.refused.items()]
    if reply.step in ANSWERED_WITH_STATES:
        parts += column(reply.states)
    return b"".join(parts)


def decode_reply(data: bytes, ask: Ask) -> Reply:
    """The answer to `ask` in `data`. Raises `ValueError` when it does not add up."""
    try:
        number, count = _HEAD.unpack_from(data)
        if number != ask.step or count != len(ask.keys):
            raise ValueError(f"an answer to step {number} of {count}, {ask.step} of {len(ask.keys)} was asked")
        (refusals,) = _COUNT.unpack_from(data, _HEAD.size)
        at = _HEAD.size + _COUNT.size
        refused: dict[int, tuple[Why, bytes]] = {}
        for _ in range(refusals):
            position, why, promised = _REFUSAL.unpack_from(data, at)
            if position >= count:
                raise ValueError(f"position {position} of {count}")
            refused[position] = (Why(why), promised)
            at += _REFUSAL.size
        states: Sequence[bytes] = ()
        if ask.step in ANSWERED_WITH_STATES:
            states, at = read_column(data, at, count)
    except error as failure:
        raise ValueError(str(failure)) from failure
    stamped = ask.step in ANSWERED_WITH_STAMPS
    if at != len(data) or (stamped and any(0 < len(state) <= STAMP_BYTES for state in states)):
        raise ValueError(f"{len(data)} bytes do not add up")
    return Reply(ask.step, count, refused, states)


def abstain(ask: Ask) -> Reply:
    """The answer of a node that must not vote."""
    count = len(ask.keys)
    states = [b""] * count if ask.step in ANSWERED_WITH_STATES else ()
    return Reply(ask.step, count, dict.fromkeys(range(count), (Why.ABSTAINS, NO_BALLOT)), states)


def part_of(ask: Ask, positions: Sequence[int]) -> Ask:
    """What is asked at some positions."""
    marks = [ask.marks[at] for at in positions] if ask.marks else ()
    payloads = [ask.payloads[at] for at in positions] if ask.payloads else ()
    ballots = [ask.ballots[at] for at in positions] if ask.ballots else ()
    return Ask(ask.step, [ask.keys[at] for at in positions], ballots, marks, payloads)


def widen(reply: Reply, ask: Ask, positions: Sequence[int]) -> Reply:
    """The answer to all of `ask` from one that is about `positions` of it: the rest abstains."""
    wide = abstain(ask)
    for position in positions:
        del wide.refused[position]
    wide.refused.update({positions[at]: why for at, why in reply.refused.items()})
    if reply.step in ANSWERED_WITH_STATES:
        states = [b""] * len(ask.keys)
        for position, state in zip(positions, reply.states, strict=True):
            states[position] = state
        wide.states = states
    return wide


def column(items: Sequence[bytes]) -> list[bytes]:
    """Byte strings with their lengths in front."""
    return [pack(f">{len(items)}I", *map(len, items)), b"".join(items)]


def read_column(data: bytes, at: int, count: int) -> tuple[list[bytes], int]:
    """What `column` wrote at `at`, and where it ends. Raises `ValueError` or `struct.error` when it does not add up."""
    if count > ENTRIES_MAX:
        raise ValueError(f"{count} entries")
    lengths = unpack_from(f">{count}I", data, at)
    bounds = list(accumulate(lengths, initial=at + 4 * count))
    if bounds[-1] > len(data):
        raise ValueError(f"{len(data)} bytes, {bounds[-1]} are needed")
    return [data[begin:end] for begin, end in pairwise(bounds)], bounds[-1]
