"""A cluster in memory as its clients see it: keys with siblings, times to live, retries, levels and limits. No replicas: what is
written is everywhere, at once.

Siblings follow the rules of docs/architecture.md, "Versions": a write supersedes what its context has seen, and nothing else.
Groups come in as columns and replies go out as columns, as at a node. Several clients, of several threads, may share one store.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from threading import Lock

from kvclient.errors import BadRequest, BehindSession, KvError, NamespaceConfigured, TooLarge, UnknownNamespace
from kvclient.testing.clock import FakeClock
from kvclient.testing.contexts import ACTOR, Seen, decode_seen
from kvclient.testing.namespaces import check_length, check_same, info_of
from kvclient.testing.registers import LINEARIZABLE, Registers, check_dial
from kvclient.testing.typed import TYPED, FakeCell, Id, TypedRecord, change, check_operation
from kvproto.columns import (
    REQUEST_ID_BYTES,
    ClusterInfo,
    GroupReply,
    Kind,
    Level,
    MemberInfo,
    NamespaceInfo,
    NamespaceWish,
    NodeStatus,
    OperationGroup,
    Receipt,
    ScanPage,
    ScanQuery,
)

PARTITIONS = 16
PAGE_KEYS = 100
KEY_BYTES_MAX = 4096
VALUE_BYTES_MAX = 1024 * 1024
SIBLINGS_MAX = 100
RETRY_WINDOW_MS = 10_000
RETRY_IDS_MAX = 10_000
CREATED_ID_MIN = 0x4000_0000
POLICIES = ("siblings", "lww", "merge", *TYPED)
MODES = {LINEARIZABLE: "pc-ec", "pc-ec": "pc-ec", "pc-el": "pc-el"}
"""What stands for a linearizable namespace, and its preset."""

Namespaces = Iterable[str | NamespaceInfo] | Mapping[str, str]
"""Names, names with their policies, presets or modes, or whole descriptions."""


@dataclass(slots=True)
class _Sibling:
    """`value` None: a deletion that is still remembered."""

    dot: int
    value: bytes | None
    expires_ms: int

    def is_live(self, now_ms: int) -> bool:
        return self.value is not None and not 0 < self.expires_ms <= now_ms


@dataclass(slots=True)
class _Record:
    upto: int = 0
    siblings: list[_Sibling] = field(default_factory=list)


@dataclass(slots=True)
class _Written:
    """What a write was answered; a repetition of it is answered the same."""

    dot: int
    context: bytes
    siblings: int
    total: int = 0


class FakeStore:
    """What the nodes n1, n2, … hold. `namespaces` are the names beside `default`, each with its policy where there is one
    (`{"hits": "counter"}`), with `pc-ec`, `pc-el` or `linearizable` where it has consensus (`{"orders": "pc-ec"}`), or whole
    descriptions of them. `merges`: the functions of those with policy merge."""

    def __init__(
        self,
        *,
        namespaces: Namespaces = (),
        nodes: int = 3,
        clock: FakeClock | None = None,
        merges: Mapping[str, Callable[[bytes, bytes], bytes]] | None = None,
    ) -> None:
        if nodes < 1:
            raise BadRequest(f"a cluster has at least one node, not {nodes}", subject="nodes")
        self.clock = clock or FakeClock()
        self.nodes = tuple(f"n{number + 1}" for number in range(nodes))
        self._spaces: dict[str, NamespaceInfo] = {}
        self._next_id = CREATED_ID_MIN
        self._catalog_revision = 0
        policies = namespaces if isinstance(namespaces, Mapping) else {}
        for name in ("default", *namespaces):
            self._add(name, policies.get(name, "siblings") if isinstance(name, str) else "siblings")
        self._merges = dict(merges or {})
        self._typed: dict[tuple[str, bytes], TypedRecord] = {}
        self._records: dict[tuple[str, bytes], _Record] = {}
        self._done: dict[bytes, _Written] = {}
        self._registers = Registers()
        self._newest = 0
        self._clients = 0
        self._lock = Lock()

    def count_client(self) -> int:
        """Which client this is, from 1 on: each draws its request ids from chance of its own."""
        with self._lock:
            self._clients += 1
            return self._clients

    def _add(self, given: str | NamespaceInfo, policy: str) -> None:
        n = min(3, len(self.nodes))
        number = len(self._spaces) + 1
        info = given
        if isinstance(info, str) and policy in MODES:
            info = NamespaceInfo(number, info, LINEARIZABLE, MODES[policy], n, 3, n // 2 + 1, n // 2 + 1)
        elif isinstance(info, str):
            info = NamespaceInfo(number, info, "eventual", "pa-ec", n, 3, n // 2 + 1, n // 2 + 1, policy=policy)
        if info.policy not in POLICIES:
            raise BadRequest(f"{info.policy!r} is no policy: {', '.join((*POLICIES, *MODES))}", subject="policy")
        self._spaces[info.name] = info

    def create_namespace(self, wish: NamespaceWish) -> NamespaceInfo:
        """As `Transport.create_namespace`, at once."""
        with self._lock:
            found = self._spaces.get(wish.name)
            if found is not None and not found.created:
                raise NamespaceConfigured(f"namespace {wish.name!r} was there from the beginning", subject=wish.name)
            made = info_of(wish, self._next_id if found is None else found.id, len(self.nodes))
            if found is not None:
                check_same(found, made)
                return found
            self._next_id += 1
            self._catalog_revision += 1
            self._spaces = {**self._spaces, made.name: made}
            return made

    def drop_namespace(self, name: str) -> NamespaceInfo:
        """As `Transport.drop_namespace`, at once; its keys are gone."""
        with self._lock:
            found = self._spaces.get(name)
            if found is None:
                raise UnknownNamespace(f"there is no namespace {name!r}", subject=name)
            if not found.created:
                raise NamespaceConfigured(f"namespace {name!r} was there from the beginning", subject=name)
            self._catalog_revision += 1
            self._spaces = {other: space for other, space in self._spaces.items() if other != name}
            for held in (self._typed, self._records, self._registers.held):
                for key in [key for key in held if key[0] == name]:
                    del held[key]
            return found

    def describe(self, node: str) -> ClusterInfo:
        """The ring: each partition begins with another node."""
        count = len(self.nodes)
        n = min(3, count)
        owners = [(partition + rank) % count for partition in range(PARTITIONS) for rank in range(n)]
        return ClusterInfo(
            cluster_id="fake",
            node_id=node,
            version="fake",
            ring_epoch=1,
            ring_hash=1,
            partitions=PARTITIONS,
            members=tuple(MemberInfo(name, f"{name}:7400") for name in self.nodes),
            owners_per_partition=n,
            owners=b"".join(owner.to_bytes(2, "big") for owner in owners),
            namespaces=tuple(self._spaces.values()),
            key_bytes_max=KEY_BYTES_MAX,
            value_bytes_max=VALUE_BYTES_MAX,
            server_time_ms=self.clock.now_ms(),
            retry_window_ms=RETRY_WINDOW_MS,
            catalog_revision=self._catalog_revision,
        )

    def status(self, node: str) -> NodeStatus:
        """A healthy node's row."""
        now_ms = self.clock.now_ms()
        with self._lock:
            keys = sum(any(one.is_live(now_ms) for one in record.siblings) for record in self._records.values())
            keys += sum(bool(record.live(now_ms)) for record in self._typed.values())
            keys += sum(register.live(now_ms) is not None for register in self._registers.held.values())
        return NodeStatus(node, f"{node}:7400", "", "alive", ring_epoch=1, keys=keys, version="fake")

    def execute(self, index: int, group: OperationGroup, node: str) -> list[GroupReply]:
        """The replies to one group, the `index`-th of its batch, sent to `node`: one for what is done, one for each refusal."""
        try:
            receipt = self._receipt(group, node)
            info = self._spaces[group.namespace]
            if info.mode == LINEARIZABLE:
                with self._lock:
                    expiries_ms = [self._expiry(group, at) for at in range(len(group.keys))]
                    return self._registers.execute(info, index, group, receipt, self.clock.now_ms(), expiries_ms)
            check_operation(info, group)
        except KvError as error:
            return [GroupReply(index, error=error)]
        refused: list[GroupReply] = []
        done: list[int] = []
        reply = GroupReply(index, receipt=receipt)
        typed = self._spaces[group.namespace].policy in TYPED
        entries: list[list[_Sibling]] = []
        cells: list[list[tuple[Id, FakeCell]]] = []
        written: list[_Written] = []
        contexts: list[bytes] = []
        with self._lock:
            for at in range(len(group.keys)):
                try:
                    if group.kind is Kind.GET and typed:
                        found, context = self._read_typed(group.namespace, group.keys[at])
                        cells.append(found)
                        contexts.append(context)
                    elif group.kind is Kind.GET:
                        self._check_seen(group, at)
                        live, context = self._read(group.namespace, group.keys[at])
                        entries.append(live)
                        contexts.append(context)
                    else:
                        check_length(info, group, at)
                        written.append(self._write(group, at))
                    done.append(at)
                except KvError as error:
                    refused.append(GroupReply(index, positions=[at], error=error))
        if not done:
            return refused
        reply.positions = None if not refused else done
        if group.kind is Kind.GET and typed:
            _fill_typed(reply, cells, contexts)
        elif group.kind is Kind.GET:
            _fill(reply, entries, contexts)
        else:
            if group.kind is Kind.INCREMENT:
                reply.values = [b"%d" % one.total for one in written]
            reply.versions = b"".join(_version(one.dot) for one in written)
            reply.contexts = [one.context for one in written]
            reply.counts = [one.siblings for one in written]
        return [reply, *refused]

    def scan(self, query: ScanQuery, node: str) -> list[ScanPage]:
        """The pages of a scan as of now."""
        like = OperationGroup(Kind.GET, query.namespace, (), level=query.level, r=query.r, sloppy=query.sloppy)
        try:
            receipt = self._receipt(like, node)
        except KvError as error:
            return [ScanPage(error=error)]
        info = self._spaces[query.namespace]
        if info.mode == LINEARIZABLE:
            with self._lock:
                return self._registers.scan(query, self._keys(query), receipt, self.clock.now_ms(), page_keys=PAGE_KEYS)
        if info.policy in TYPED:
            return self._scan_typed(query, receipt)
        found = []
        with self._lock:
            for key in self._keys(query):
                live, context = self._read(query.namespace, key)
                if live:
                    found.append((key, live, context))
        found = found[: query.limit or None]
        pages = []
        for first in range(0, len(found), PAGE_KEYS):
            rows = found[first : first + PAGE_KEYS]
            page = ScanPage(keys=[key for key, _, _ in rows], receipt=receipt)
            _fill(page, [live for _, live, _ in rows], [context for _, _, context in rows])
            pages.append(page)
        return pages

    def _scan_typed(self, query: ScanQuery, receipt: Receipt) -> list[ScanPage]:
        pages = []
        with self._lock:
            rows = [(key, *self._read_typed(query.namespace, key)) for key in self._keys(query)]
        rows = [row for row in rows if row[1]][: query.limit or None]
        for first in range(0, len(rows), PAGE_KEYS):
            some = rows[first : first + PAGE_KEYS]
            page = ScanPage(keys=[key for key, _, _ in some], receipt=receipt)
            _fill_typed(page, [cells for _, cells, _ in some], [context for _, _, context in some])
            pages.append(page)
        return pages

    def _keys(self, query: ScanQuery) -> list[bytes]:
        places = (*self._records, *self._typed, *self._registers.held)
        keys = sorted(key for namespace, key in places if namespace == query.namespace)
        keys = keys[bisect_left(keys, max(query.start, query.prefix, query.after + b"\x00" if query.after else b"")) :]
        return [key for key in keys if key.startswith(query.prefix) and (not query.end or key < query.end)]

    def _receipt(self, group: OperationGroup, node: str) -> Receipt:
        namespace, kind, level, quorum = group.namespace, group.kind, group.level, group.r or group.w
        info = self._spaces.get(namespace)
        if info is None:
            raise UnknownNamespace(
                f"no namespace {namespace!r}; there are {', '.join(sorted(self._spaces))} (FakeStore(namespaces=…) adds more)",
                subject=namespace,
            )
        check_dial(info, group)
        name = "r" if kind is Kind.GET else "w"
        if level is Level.EXPLICIT and not 1 <= quorum <= info.n:
            said = f"{name}={quorum} is not between 1 and n={info.n} of namespace {namespace!r}"
            raise BadRequest(said, limit=info.n, actual=quorum, subject=name)
        majority = info.n // 2 + 1
        counts = {Level.ONE: 1, Level.QUORUM: majority, Level.ALL: info.n, Level.EXPLICIT: quorum}
        needed = counts.get(level, info.r if kind is Kind.GET else info.w)
        others = [other for other in self.nodes if other != node]
        return Receipt(
            level=level,
            needed=needed,
            n=info.n,
            n_asked=info.n_asked,
            acknowledged=(node, *others)[:needed],
            zones=("",) * needed,
            ring_epoch=1,
            coordinator=node,
            server_time_ms=self.clock.now_ms(),
            durable=info.mode == LINEARIZABLE,
            explanation=(f"{node} answered from memory",) if group.explain else (),
        )

    def _read(self, namespace: str, key: bytes) -> tuple[list[_Sibling], bytes]:
        record = self._records.get((namespace, key))
        if record is None:
            return [], b""
        now_ms = self.clock.now_ms()
        live = [one for one in record.siblings if one.is_live(now_ms)]
        merge = self._merges.get(namespace)
        if merge is not None and len(live) > 1:
            value = reduce(merge, [one.value or b"" for one in live])
            live = [_Sibling(live[0].dot, value, min((one.expires_ms for one in live if one.expires_ms), default=0))]
        return live, Seen(record.upto).encode()

    def _check_seen(self, group: OperationGroup, at: int) -> None:
        """A session that has seen more than was ever written here is ahead of everybody."""
        seen = group.seen[at] if group.seen else b""
        try:
            decode_seen(seen, self._newest)
        except BadRequest:
            raise BehindSession("no replica has what the session has seen of the key", subject=group.namespace) from None

    def _read_typed(self, namespace: str, key: bytes) -> tuple[list[tuple[Id, FakeCell]], bytes]:
        record = self._typed.get((namespace, key))
        return ([], b"") if record is None else (record.live(self.clock.now_ms()), Seen(record.upto).encode())

    def _write(self, group: OperationGroup, at: int) -> _Written:
        key, request_id = group.keys[at], group.request_ids[at * REQUEST_ID_BYTES : (at + 1) * REQUEST_ID_BYTES]
        if request_id in self._done:
            return self._done[request_id]
        if group.kind is Kind.TOUCH:
            return self._touch(group, at)
        seen = decode_seen(group.contexts[at] if group.contexts else b"", self._newest)
        policy = self._spaces[group.namespace].policy
        if policy in TYPED:
            return self._remember(request_id, self._change(group, at, seen))
        if policy == "lww":
            seen = Seen(overwrite=True)
        record = self._records.get((group.namespace, key), _Record())
        kept = [one for one in record.siblings if not seen.covers(one.dot)]
        if len(kept) >= SIBLINGS_MAX:
            raise TooLarge(
                f"the key would have {len(kept) + 1} siblings, at most {SIBLINGS_MAX} are allowed: "
                "read it and write one value with its context",
                limit=SIBLINGS_MAX,
                actual=len(kept) + 1,
                subject="siblings",
            )
        self._newest = dot = self._newest + 1
        value = group.values[at] if group.kind is Kind.PUT else None
        kept.append(_Sibling(dot, value, self._expiry(group, at)))
        self._records[group.namespace, key] = _Record(max(record.upto, dot), kept)
        context = Seen(max(record.upto, dot)) if len(kept) == 1 else replace(seen, dots=frozenset((dot,)), overwrite=False)
        return self._remember(request_id, _Written(dot, context.encode(), len(kept)))

    def _change(self, group: OperationGroup, at: int, seen: Seen) -> _Written:
        record = self._typed.setdefault((group.namespace, group.keys[at]), TypedRecord())
        self._newest = dot = self._newest + 1
        total = change(record, group, at, seen, dot, self._expiry(group, at))
        return _Written(dot, Seen(dot).encode(), 1, total)

    def _remember(self, request_id: bytes, written: _Written) -> _Written:
        if request_id:
            self._done[request_id] = written
            if len(self._done) > RETRY_IDS_MAX:
                del self._done[next(iter(self._done))]
        return written

    def _touch(self, group: OperationGroup, at: int) -> _Written:
        record, now_ms = self._records.get((group.namespace, group.keys[at]), _Record()), self.clock.now_ms()
        touched = [one for one in record.siblings if one.is_live(now_ms)]
        for one in touched:
            one.expires_ms = self._expiry(group, at)
        return _Written(touched[0].dot if touched else 0, b"", len(touched))

    def _expiry(self, group: OperationGroup, at: int) -> int:
        if group.kind not in (Kind.PUT, Kind.ADD, Kind.ASSIGN, Kind.TOUCH):
            return 0
        ttls: Sequence[int] = group.ttls_ms
        ttl_ms = ttls[at if len(ttls) > 1 else 0] if ttls else self._spaces[group.namespace].ttl_ms
        return self.clock.now_ms() + ttl_ms if ttl_ms else 0


def _fill(reply: GroupReply | ScanPage, entries: Sequence[list[_Sibling]], contexts: list[bytes]) -> None:
    """The columns of what was read."""
    siblings = [one for live in entries for one in live]
    reply.counts = [len(live) for live in entries]
    reply.values = [one.value or b"" for one in siblings]
    reply.versions = b"".join(_version(one.dot) for one in siblings)
    reply.expires_ms = [one.expires_ms for one in siblings]
    reply.contexts = contexts


def _fill_typed(reply: GroupReply | ScanPage, entries: Sequence[list[tuple[Id, FakeCell]]], contexts: list[bytes]) -> None:
    """The columns of what was read of counters, sets or maps."""
    cells = [pair for found in entries for pair in found]
    reply.counts = [len(found) for found in entries]
    reply.values = [cell.value for _, cell in cells]
    reply.versions = b"".join(_version(cell.dot) for _, cell in cells)
    reply.expires_ms = [cell.expires_ms for _, cell in cells]
    reply.contexts = contexts
    reply.kinds = bytes(known[1] for known, _ in cells)
    reply.fields = [known[0] for known, _ in cells]


def _version(dot: int) -> bytes:
    return ACTOR + dot.to_bytes(8, "big")
