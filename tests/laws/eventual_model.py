"""A runnable model of the eventual half: the byte functions of record.py, driven as a coordinator drives them, against histories.

One key, three home replicas, four clients. Puts and deletes overwrite, with or without contexts of earlier reads and puts, or claim
to know nothing; messages are delayed, lost and duplicated; replicas sync late and crash, losing what was not synced; requests are
sent again under their id through other replicas. The oracle knows which executions each execution has seen. After every step a
replica's siblings must be exactly the executions in its history that no other one there has seen, a reader must get each write
once, no coordinator may execute a write that it has seen, and the final merge must hold every acknowledged execution.

    python -m tests.laws.eventual_model SEEDS [PLANT]        PLANT leaves one rule out; `PLANTS` says which
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace

from kvstore.core.record import (
    decode,
    decode_context,
    encode,
    encode_context,
    floor_ms,
    read_siblings,
    read_single,
    sole_context,
)
from kvstore.core.record_writes import (
    first_record,
    known_request,
    merge_records,
    mint,
    overwrite,
    unseen,
)
from kvstore.core.versions import NOTHING, Context, Record, Sibling, join
from tests.laws.eventual_parts import PLANTS, Broken, Client, Copy, Oracle, Replica, Request, Settings, value_of

STEPS = 120


class World:
    """One seed's schedule and its oracle."""

    def __init__(self, seed: int, settings: Settings) -> None:
        self.rng, self.settings, self.now_ms, self.writes = random.Random(seed), settings, 20_000, 0
        self.counts: Counter[str] = Counter()
        self.oracle = Oracle()
        self.acknowledged: set[int] = set()
        self.sent: list[Request] = []
        self.late: list[Request] = []  # first attempts that are still on their way
        self.queue: list[tuple[Replica, Copy, Callable[[], None]]] = []
        self.loss, self.crash = self.rng.choice([0, 0.05, 0.3]), self.rng.choice([0, 0.02, 0.05])
        self.usual_share = self.rng.choice([0, 0.5, 0.95])  # of requests that go to the same replica, as a client's do
        self.replicas = [Replica(number, self.rng, settings.plant, self.merged) for number in range(3)]
        self.clients = [Client(behind_ms) for behind_ms in (0, -settings.ahead_ms, 3, 25)]

    def check(self, copy: Copy, where: str) -> Copy:
        """`copy`, which says what its history says. Raises `Broken`."""
        return self.oracle.check(copy, where, self.read)

    def read(self, record: bytes) -> list[bytes]:
        """The live values, as a get reads them."""
        single = read_single(record, self.now_ms)
        if single is not None:
            return [] if single[0] is None else [single[0]]
        live = read_siblings(record, self.now_ms)[0]
        if self.settings.plant == "twodots":
            live = [sibling for sibling in decode(record).siblings if not sibling.tombstone]
        return sorted((sibling.value for sibling in live), key=int)

    # --- the store ----------------------------------------------------------------------------------------------------------------

    def merged(self, held: Copy, new: Copy) -> Copy:
        """The merge of two copies, whichever of them is empty."""
        if held.record is None or new.record is None:
            return new if held.record is None else held
        record = merge_records(held.record, new.record)
        self.counts["merges by bytes" if record in {held.record, new.record} else "merges in general"] += 1
        return Copy(self._spoilt(record), held.seen | new.seen, held.past | new.past)

    def _spoilt(self, record: bytes) -> bytes:
        """`record` without the rule that the plant leaves out of it."""
        plain = decode(record) if self.settings.plant in {"newest", "forgetid", "byid"} else Record()
        if self.settings.plant == "newest":
            return encode(replace(plain, siblings=plain.siblings[-1:]))
        if self.settings.plant == "forgetid":
            return encode(replace(plain, retries={}))
        if self.settings.plant == "byid":
            return encode(replace(plain, siblings=tuple(held for held in plain.siblings if held.request_id not in plain.retries)))
        return record

    # --- the coordinator ----------------------------------------------------------------------------------------------------------

    def coordinate(self, request: Request, replica: Replica, *, first: bool = False) -> None:
        """What a coordinator does with a request, from known id to minting, and the fan-out of the whole record."""
        context = decode_context(request.token)
        if unseen(replica.latest.record, context) and not self._catch_up(replica, context):
            self.counts["refused: context unseen"] += 1
            return
        base = replica.latest
        known = known_request(base.record, request.request_id, context)
        if known is not None:
            execution = self.oracle.dot_of.index(known.dot)
            if self.oracle.write_of[execution] != request.write:
                raise Broken("known under another write's dot")
            self.counts["retries answered"] += 1
            self._fan_out(
                request, replica, base, execution, known.context, base.past if self.oracle.is_alone(base, execution) else None
            )
            return
        if self._is_refused(request, base, first=first):
            self.counts["refused: id perhaps forgotten"] += 1
            self.counts["refused though never executed"] += request.write not in self.oracle.write_of
            return
        if self.oracle.has_seen(base, request.write):
            raise Broken("executed twice by one who had seen it")
        self._execute(request, replica, context)

    def _catch_up(self, replica: Replica, context: Context) -> bool:
        """Merges what another replica has made durable, if that makes the dots of the context seen."""
        other = self.rng.choice(self.replicas)
        if self.settings.plant == "unseendots" or unseen(other.durable.record, context):
            return self.settings.plant == "unseendots"
        replica.merge(other.durable, lambda: None)
        self.counts["contexts caught up with"] += 1
        return True

    def _is_refused(self, request: Request, base: Copy, *, first: bool) -> bool:
        issued_ms = int.from_bytes(request.request_id[:6], "big")
        if base.record is None or self.settings.plant == "nofloor":
            return False
        floor = decode(base.record).floor_ms if self.settings.plant == "nohorizon" else floor_ms(base.record)
        trusted = first and self.settings.plant == "firsttrusted"
        return (issued_ms <= floor and not trusted) or issued_ms < self.now_ms - self.settings.window_ms

    def _execute(self, request: Request, replica: Replica, context: Context) -> None:
        base, dot, hlc = replica.latest, replica.next_dot(), self.now_ms << 16
        self.counts["executed again elsewhere"] += request.write in self.oracle.write_of
        told = request.past | (base.past if context.overwrite else frozenset())
        execution = self.oracle.note(request.write, dot, told, base)
        if self.settings.plant == "unseendots":
            context = replace(
                context, vector=join(context.vector, {one[:12]: int.from_bytes(one[12:], "big") for one in context.dots})
            )
        cutoff_ms = max(0, self.now_ms - self.settings.window_ms)
        record: bytes | None = None
        if not request.token and base.record is None:
            record = first_record(dot, request.request_id, hlc, 0, request.value)
        elif not request.token and base.record is not None:
            cutoff = cutoff_ms.to_bytes(6, "big")
            record = overwrite(base.record, dot, request.request_id, hlc, 0, request.value, cutoff, self.settings.retries_max)
        write = Sibling(dot, request.request_id, hlc, 0, request.value is None, request.value or b"")
        self.counts["mints in general" if record is None else "mints by bytes"] += 1
        if record is not None:
            token = sole_context(record)
        else:
            minted = mint(base.record, write, context, cutoff_ms=cutoff_ms, retries_max=self.settings.retries_max)
            record, token = minted.record, minted.context
        copy = Copy(self._spoilt(record), base.seen | {execution}, base.past | self.oracle.knows[execution] | {execution})
        replica.latest = self.check(copy, "minter")
        if self.settings.plant == "puttakesall":
            token = encode_context(Context(decode(record).vector))
        past = copy.past if self.oracle.is_alone(copy, execution) else None
        sent = copy
        if self.settings.plant == "bareevent":
            vector = context.vector if not context.overwrite or base.record is None else decode(base.record).vector
            bare = mint(None, write, Context(vector), cutoff_ms=0, retries_max=64).record
            sent = Copy(bare, frozenset({execution}), self.oracle.knows[execution] | {execution})
        self._fan_out(request, replica, sent, execution, token, past)

    def _fan_out(
        self, request: Request, replica: Replica, copy: Copy, execution: int, token: bytes, past: frozenset[int] | None
    ) -> None:
        """Sends the whole record to the others; two durable copies make it acknowledged. `past` None: the client saw its own."""
        acked: set[int] = set()

        def ack(number: int) -> None:
            acked.add(number)
            if len(acked) == 2:
                self.acknowledged.add(execution)
                if self.rng.random() < 0.7 and request in request.client.waiting:
                    request.client.waiting.remove(request)
                    own = request.past | self.oracle.knows[execution] | {execution}
                    request.client.token, request.client.past = token, own if past is None else past

        replica.unsynced.append(lambda: ack(replica.number))
        for other in self.replicas:
            if other is not replica and self.rng.random() >= self.loss:
                for _ in range(2 if self.rng.random() < 0.1 else 1):
                    self.queue.append((other, copy, lambda number=other.number: ack(number)))  # type: ignore[misc]

    # --- the schedule -------------------------------------------------------------------------------------------------------------

    def put(self) -> None:
        """A client sends a new write: three in seven know only what the coordinator holds."""
        client, kind = (
            self.rng.choice(self.clients),
            self.rng.choice(["context", "context", "none", "none", "none", "plus", "empty"]),
        )
        given = decode_context(client.token)
        token = {
            "context": client.token,
            "none": b"",
            "plus": encode_context(Context(given.vector, given.dots, overwrite=True)),
            "empty": encode_context(NOTHING),
        }[kind]
        self.writes += 1
        issued_ms = self.now_ms - client.behind_ms
        request_id = issued_ms.to_bytes(6, "big") + self.rng.randbytes(2) + self.writes.to_bytes(8, "big")
        past = client.past if kind in {"context", "plus"} else frozenset()
        request = Request(self.writes, request_id, token, value_of(self.writes), past, client)
        client.waiting.append(request)
        self.sent.append(request)
        if self.rng.random() < 0.1:
            self.late.append(request)
        else:
            usual = self.rng.random() < self.usual_share
            self.coordinate(request, self.replicas[0] if usual else self.rng.choice(self.replicas), first=True)

    def retry(self) -> None:
        """A client that got no answer, or an old message that arrives once more, through any replica."""
        if self.late and self.rng.random() < 0.2:
            self.coordinate(self.late.pop(self.rng.randrange(len(self.late))), self.rng.choice(self.replicas), first=True)
            return
        waiting = self.sent if self.rng.random() < 0.2 else [request for client in self.clients for request in client.waiting[-2:]]
        if waiting:
            self.coordinate(self.rng.choice(waiting), self.rng.choice(self.replicas))

    def get(self) -> None:
        """A read merges what two replicas have made durable."""
        one, other = self.rng.sample(self.replicas, 2)
        copy, client = self.check(self.merged(one.durable, other.durable), "read"), self.rng.choice(self.clients)
        source = other.durable.record if self.settings.plant == "vectorcontext" else copy.record
        if source is not None:
            client.token, client.past = read_siblings(source, self.now_ms)[1], copy.past

    def step(self) -> None:
        """One event of the schedule."""
        self.now_ms += self.rng.random() < 0.4
        chance = self.rng.random()
        if chance < 0.42 and self.queue:
            replica, copy, done = self.queue.pop(self.rng.randrange(len(self.queue)) if self.rng.random() < 0.5 else 0)
            replica.merge(copy, done)
            self.check(replica.latest, "replica")
        elif chance < 0.62:
            self.rng.choice(self.replicas).sync()
        elif chance < 0.62 + self.crash:
            self.rng.choice(self.replicas).start()
        elif chance < 0.80:
            self.put()
        elif chance < 0.88:
            self.retry()
        else:
            self.get()

    def end(self) -> None:
        """Everything synced and merged, perhaps after a power cut: nothing acknowledged is missing. Raises `Broken`."""
        final, cut = Copy(), self.rng.random() < 0.5
        for replica in self.replicas:
            if cut:
                replica.start()
            replica.sync()
            final = self.check(self.merged(final, replica.durable), "final")
        if not self.acknowledged <= final.seen:
            raise Broken("lost")
        if final.seen and not self.oracle.maximal(final):
            raise Broken("everything superseded")
        live, write_of = self.oracle.maximal(final), self.oracle.write_of
        superseded = {write_of[execution] for execution in final.seen - live}
        self.counts["false siblings"] += len({write_of[execution] for execution in live} & superseded)
        self.counts["acknowledged"] += len(self.acknowledged)


def run(seed: int, settings: Settings) -> tuple[str, Counter[str]]:
    """What broke under `seed`, or "", and what was counted."""
    world = World(seed, settings)
    try:
        for _ in range(STEPS):
            world.step()
        world.end()
    except Broken as broken:
        return str(broken), world.counts
    return "", world.counts


def explore(seeds: Iterable[int], settings: Settings) -> tuple[dict[int, str], Counter[str]]:
    """The seeds that broke and where, and the sum of what was counted."""
    broken: dict[int, str] = {}
    total: Counter[str] = Counter()
    for seed in seeds:
        where, counts = run(seed, settings)
        total += counts
        if where:
            broken[seed] = where
    return broken, total


def main() -> None:
    """Prints the tally of SEEDS schedules."""
    plant = sys.argv[2] if len(sys.argv) > 2 else ""
    assert plant in {"", *PLANTS}, f"plants: {', '.join(PLANTS)}"
    tiny = plant in {"nofloor", "firsttrusted"}
    broken, total = explore(range(int(sys.argv[1])), Settings(plant, retries_max=2 if tiny else 64))
    where = dict(Counter(broken.values()).most_common())
    first = f", first seed {min(broken)}" if broken else ""
    print(f"plant={plant or 'none'}: {len(broken)} of {sys.argv[1]} seeds broken {where}{first}")
    print(", ".join(f"{count} {name}" for name, count in sorted(total.items())))


if __name__ == "__main__":
    main()
