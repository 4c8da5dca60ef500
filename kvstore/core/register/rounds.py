"""What a proposer keeps of each group and key, and one question to acceptors with what its answers have decided. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from kvstore.core.quorum import Tally
from kvstore.core.register.changes import Operation
from kvstore.core.register.messages import Ask, Reply
from kvstore.core.register.remembered import Memory


class Register:
    """What the proposer knows of one key under its ballot. `payload` is the latest, committed or not; `latest` the sequence of the
    accept that carries it, 0 if it was found chosen. While it is `reading`, operations gather in `queue`; the first `covered` came
    before the read was sent. `waiting`: operations that rest on an accept, with its sequence, in order. `memory`: of requests, from
    the first operation on."""

    __slots__ = ("committed", "covered", "latest", "memory", "payload", "queue", "reading", "waiting")

    def __init__(self) -> None:
        self.payload: bytes | None = None
        self.latest = 0
        self.committed = False
        self.reading = True
        self.covered = 0
        self.queue: list[Operation] = []
        self.waiting: deque[tuple[int, Operation]] = deque()
        self.memory: Memory | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way: what is known of it may be forgotten, and read again under the same ballot."""
        return self.committed and not self.reading and not self.waiting


class Group:
    """A group under this proposer's ballot, b"" while it has none. `live`: its unanswered operations in the order in which they
    came; `outstanding`: sequences of accepts that are not committed yet, in order; `has_lost`: an acceptor has refused an accept
    because it has lost what it held."""

    __slots__ = (
        "ballot",
        "has_lost",
        "keys",
        "live",
        "losses",
        "name",
        "outstanding",
        "owners",
        "parked",
        "resume_s",
        "round_seen",
        "sequence",
    )

    def __init__(self, name: bytes, owners: tuple[str, ...]) -> None:
        self.name = name
        self.owners = owners
        self.ballot = b""
        self.round_seen = 0
        self.sequence = 0
        self.keys: dict[bytes, Register] = {}
        self.live: dict[int, Operation] = {}
        self.outstanding: dict[int, None] = {}
        self.has_lost = False
        self.losses = 0
        self.resume_s = 0.0
        self.parked: list[Operation] = []

    def mark(self) -> int:
        """Up to which sequence everything of this ballot is committed."""
        for first in self.outstanding:
            return first - 1
        return self.sequence


NO_REGISTER = Register()
"""Of entries that are about a group."""

Entry = tuple[Group, bytes, Register]


class Round:
    """`ask` to `targets`, of which `tally` needs a majority for each entry. `groups` and `ballots` are parallel to the entries;
    `registers` too, where they are about keys. `rest`: operations that wait for the ballot to be confirmed, by entry."""

    __slots__ = (
        "ask",
        "ballots",
        "groups",
        "later",
        "number",
        "registers",
        "rest",
        "sent_s",
        "sequences",
        "states",
        "tally",
        "targets",
    )

    def __init__(self, number: int, ask: Ask, groups: Sequence[Group], targets: tuple[str, ...], need: int, sent_s: float) -> None:
        self.number = number
        self.ask = ask
        self.groups = groups
        self.ballots = [group.ballot for group in groups]
        self.targets = targets
        self.tally = Tally(targets, need, len(groups))
        self.registers: Sequence[Register] = ()
        self.sequences: Sequence[int] = ()
        self.rest: dict[int, list[Operation]] = {}
        self.states: dict[str, Sequence[bytes]] = {}
        self.later: set[int] = set()
        self.sent_s = sent_s

    def take(self, node: str, reply: Reply) -> bool:
        """Counts the reply of `node`; False: it has been heard before."""
        if node not in self.tally.waiting:
            return False
        self.tally.record(node, reply.refused)
        self.states[node] = reply.states
        return True
