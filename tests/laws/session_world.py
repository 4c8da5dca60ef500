"""A cluster that answers a session as unkindly as it may, for the laws of sessions: every read below `quorum` or `linearizable` is
answered by the oldest, or any, replica whose answer `seen` still allows.

Only what sessions are about is here: gets, puts and deletes of an eventual and a linearizable namespace, whose replicas are states
that once were. Everything is drawn from one seed; the session is the real one.
"""

from __future__ import annotations

from random import Random

from kvclient import Entry, PutResult
from kvclient.testing import FakeAsyncClient, FakeStore
from kvclient.testing.contexts import ACTOR, Seen
from kvproto.columns import GroupReply, Kind, Level, OperationGroup, Receipt
from kvproto.contexts import DOT_BYTES

KEYS = ("a", "b", "c", "d")
STEPS = 60
STRICT = frozenset((Level.QUORUM, Level.ALL, Level.LINEARIZABLE))


class Unkind(FakeStore):
    """`shown`: what was said of each operation, in order: of a read the writes it showed, of a write itself."""

    def __init__(self, rng: Random) -> None:
        super().__init__(namespaces={"orders": "pc-el"})
        self.rng = rng
        self.writes: dict[tuple[str, bytes], list[tuple[int, bytes | None]]] = {}
        self.count = 0
        self.shown: list[frozenset[int]] = []

    def execute(self, index: int, group: OperationGroup, node: str) -> list[GroupReply]:
        told = [self._told(index, group, at) for at in range(len(group.keys))]
        return [reply for reply in told if reply is not None]

    def _told(self, index: int, group: OperationGroup, at: int) -> GroupReply | None:
        place = group.namespace, group.keys[at]
        is_ordered = group.namespace == "orders"
        history = self.writes.setdefault(place, [])
        if group.kind is Kind.GET:
            seen = group.seen[at] if group.seen else b""
            return self._show(index, at, history, seen, is_strict=group.level in STRICT, is_ordered=is_ordered)
        self.count += 1
        history.append((self.count, group.values[at] if group.kind is Kind.PUT else None))
        self.shown.append(frozenset((self.count,)))
        reply = GroupReply(index, positions=[at], versions=_version(self.count), receipt=Receipt())
        if not is_ordered:
            reply.contexts = [Seen(dots=frozenset((self.count,))).encode()]  # as an increment: its own event, and nothing else
        return reply

    def _show(
        self, index: int, at: int, history: list[tuple[int, bytes | None]], seen: bytes, *, is_strict: bool, is_ordered: bool
    ) -> GroupReply:
        if is_ordered:
            floor = sum(_version(number) <= seen for number, _ in history) if seen else 0
            upto = len(history) if is_strict else self.rng.choice((floor, self.rng.randint(floor, len(history))))
            held = history[:upto]
        else:
            known = {int.from_bytes(seen[at : at + DOT_BYTES][len(ACTOR) :], "big") for at in range(3, len(seen), DOT_BYTES)}
            held = [write for write in history if is_strict or write[0] in known or self.rng.random() < 0.3]
        reply = GroupReply(index, positions=[at], counts=[0], receipt=Receipt())
        self.shown.append(frozenset(number for number, _ in held))
        if not is_ordered:
            reply.contexts = [Seen(dots=self.shown[-1]).encode() if held else b""]
        if held and held[-1][1] is not None:
            number, value = held[-1]
            reply.counts, reply.values, reply.versions = [1], [value or b""], _version(number)
        return reply


def _version(number: int) -> bytes:
    return (1).to_bytes(8, "big") + number.to_bytes(8, "big") + b"fake"


async def broken_promise(seed: int, *, keys_max: int) -> str:
    """What a session of this seed was promised and not given; "" if nothing. Somebody else writes meanwhile, and the session moves
    from one process to another now and then."""
    rng = Random(seed)
    namespace = rng.choice(("default", "orders"))
    store = Unkind(rng)
    owed: dict[str, frozenset[int]] = dict.fromkeys(KEYS, frozenset())
    written: dict[str, frozenset[int]] = dict.fromkeys(KEYS, frozenset())
    async with FakeAsyncClient(store=store) as client, FakeAsyncClient(store=store) as other:
        session = client.namespace(namespace).session(keys_max=keys_max)
        for step in range(STEPS):
            key = rng.choice(KEYS[: rng.choice((1, len(KEYS)))])
            what = rng.choice(("get", "get", "put", "delete", "their put", "their delete", "move"))
            done: Entry | PutResult
            if what == "get":
                done = await session.get(key)
                missing = (owed if keys_max >= len(KEYS) or namespace == "orders" else written)[key] - store.shown[-1]
                if missing:
                    return f"step {step}: a read of {key} did not show {sorted(missing)}, shown or written before"
            elif what in ("put", "delete"):
                done = await (session.put(key, b"%d" % step) if what == "put" else session.delete(key))
                written[key] |= store.shown[-1]
            elif what == "move":
                session = client.namespace(namespace).session(session.token, keys_max=keys_max)
                continue
            else:
                space = other.namespace(namespace)
                await (space.put(key, b"%d" % step) if what == "their put" else space.delete(key))
                continue
            assert done.key == key.encode()
            owed[key] |= store.shown[-1]
    return ""
