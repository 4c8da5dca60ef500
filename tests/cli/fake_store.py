"""A cluster in memory with the client's interface, for the command's tests: siblings, contexts, expiry, and errors on request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kvclient.errors import BatchError
from kvproto.columns import ClusterInfo, Level, LossAccepted, MemberInfo, NamespaceInfo, NodeStatus, Receipt, RepairProgress
from kvproto.errors import BadRequest, KvError, UnknownNamespace, WrongMode

RECEIPT = Receipt(Level.QUORUM, 2, 3, 3, ("n1", "n2"), ("a", "b"), durable=True, ring_epoch=7, coordinator="n1", server_time_ms=5)


@dataclass(frozen=True)
class FakeEntry:
    key: bytes
    values: tuple[bytes, ...]
    versions: tuple[str, ...]
    context: bytes
    expires_at: float | None = None
    receipt: Receipt = RECEIPT
    policy: str = ""
    expiries: tuple[float | None, ...] = ()

    @property
    def found(self) -> bool:
        return bool(self.values)


@dataclass(frozen=True)
class FakeWritten:
    version: str
    context: bytes
    receipt: Receipt = RECEIPT
    siblings: int = 1


@dataclass
class FakeNamespace:
    """Each value has a dot, a number; a context is the dots it has seen, so a put drops the values whose dots its context names."""

    cells: dict[bytes, dict[int, tuple[bytes, float | None]]] = field(default_factory=dict)
    dots: int = 0
    failing: dict[bytes, KvError] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    receipt: Receipt = RECEIPT
    scan_breaks_after: int | None = None
    now_s: float = 1_000.0

    async def get(self, key: bytes, **options: Any) -> FakeEntry:
        self._called("get", options, key)
        return self._entry(key)

    async def put(self, key: bytes, value: bytes, **options: Any) -> FakeWritten:
        self._called("put", options, key)
        if options.get("if_absent") or options.get("if_version") is not None:
            raise WrongMode("conditions need a linearizable namespace", subject="default")
        ttl_s = options.get("ttl_s")
        return self._write(key, options.get("context"), (value, None if ttl_s is None else self.now_s + ttl_s))

    async def delete(self, key: bytes, **options: Any) -> FakeWritten:
        self._called("delete", options, key)
        return self._write(key, options.get("context"), None)

    async def touch(self, key: bytes, ttl_s: float, **options: Any) -> FakeWritten:
        self._called("touch", options, key)
        cell = self.cells.get(key, {})
        for dot, (value, _) in cell.items():
            cell[dot] = (value, self.now_s + ttl_s if ttl_s else None)
        return FakeWritten(_version(max(cell, default=0)), b"", self.receipt, len(cell))

    async def get_many(self, keys: Iterable[bytes], **options: Any) -> Mapping[bytes, FakeEntry]:
        self._called("get_many", options)
        return self._many(dict.fromkeys(keys, self._entry))

    async def put_many(self, items: Mapping[bytes, bytes], **options: Any) -> Mapping[bytes, FakeWritten]:
        self._called("put_many", options | {"keys": len(items)})
        return self._many({key: lambda key, value=value: self._write(key, None, (value, None)) for key, value in items.items()})

    async def delete_many(self, keys: Iterable[bytes], **options: Any) -> Mapping[bytes, FakeWritten]:
        self._called("delete_many", options)
        return self._many({key: lambda key: self._write(key, None, None) for key in keys})

    async def scan(self, **options: Any) -> AsyncIterator[FakeEntry]:
        self._called("scan", options)
        prefix, start, end = (options.get(name, b"") for name in ("prefix", "start", "end"))
        after, limit = options.get("after", b""), options.get("limit", 1 << 60)
        chosen = [
            key
            for key in sorted(self.cells)
            if self.cells[key] and key.startswith(prefix) and key >= start and (not end or key < end) and key > after
        ]
        for count, key in enumerate(chosen[:limit]):
            if count == self.scan_breaks_after:
                raise self.failing[b"scan"]
            yield self._entry(key)

    def _called(self, name: str, options: dict[str, Any], key: bytes | None = None) -> None:
        self.calls.append((name, options))
        if key in self.failing:
            raise self.failing[key]

    def _many(self, work: Mapping[bytes, Any]) -> dict[bytes, Any]:
        errors = {key: self.failing[key] for key in work if key in self.failing}
        results = {key: act(key) for key, act in work.items() if key not in errors}
        if errors:
            raise BatchError(results, errors)
        return results

    def _entry(self, key: bytes) -> FakeEntry:
        cell = self.cells.get(key, {})
        expiries = [expires_at for _, expires_at in cell.values() if expires_at is not None]
        values, versions = tuple(value for value, _ in cell.values()), tuple(_version(dot) for dot in cell)
        ends = tuple(expires_at for _, expires_at in cell.values())
        return FakeEntry(key, values, versions, _context(cell), min(expiries, default=None), self.receipt, expiries=ends)

    def _write(self, key: bytes, context: bytes | None, cell_value: tuple[bytes, float | None] | None) -> FakeWritten:
        cell = self.cells.setdefault(key, {})
        seen = set(cell) if context is None else {int(dot) for dot in context.split(b",") if dot}
        self.dots += 1
        kept = {dot: value for dot, value in cell.items() if dot not in seen}
        self.cells[key] = kept if cell_value is None else {**kept, self.dots: cell_value}
        return FakeWritten(_version(self.dots), _context(self.cells[key]), self.receipt, len(self.cells[key]))


@dataclass
class FakeAdmin:
    cluster: ClusterInfo
    statuses: list[list[NodeStatus] | KvError]
    repairs: list[RepairProgress] = field(default_factory=list)
    repaired: list[str] = field(default_factory=list)
    wanted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    refusal: KvError | None = None
    given_up: list[tuple[str, ...]] = field(default_factory=list)
    waiting: list[LossAccepted] = field(default_factory=list)

    async def status(self, *, timeout_s: float | None = None) -> list[NodeStatus]:
        answer = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(answer, KvError):
            raise answer
        return answer

    async def describe(self, *, timeout_s: float | None = None) -> ClusterInfo:
        return self.cluster

    async def repair(
        self, namespace: str = "", *, on_progress: Callable[[RepairProgress], None] = lambda row: None
    ) -> list[RepairProgress]:
        self.repaired.append(namespace)
        for row in self.repairs:
            on_progress(row)
        return self.repairs

    async def accept_loss(self, *nodes: str) -> list[LossAccepted]:
        if strangers := set(nodes) - {"n1", "n2", "n3"}:
            raise BadRequest(f"{', '.join(strangers)} is no node here; there is: n1, n2, n3")
        self.given_up.append(nodes)
        return self.waiting

    async def namespaces(self, *args: Any, **options: Any) -> list[NamespaceInfo]:
        return sorted(self.cluster.namespaces, key=lambda space: space.name)

    async def namespace(self, name: str, *args: Any, **options: Any) -> NamespaceInfo:
        for space in self.cluster.namespaces:
            if space.name == name:
                return space
        raise UnknownNamespace(f"there is no namespace {name!r}", subject=name)

    async def create_namespace(self, name: str, *args: Any, **options: Any) -> NamespaceInfo:
        self.wanted.append((name, options))
        if self.refusal is not None:
            raise self.refusal
        made = NamespaceInfo(0x40000000, name, "linearizable", options.get("preset", "pa-ec"), 3, 3, 2, 2, created=True)
        self.cluster = replace(self.cluster, namespaces=(*self.cluster.namespaces, made))
        return made

    async def drop_namespace(self, name: str, *args: Any, **options: Any) -> NamespaceInfo:
        found = await self.namespace(name)
        left = tuple(space for space in self.cluster.namespaces if space.name != name)
        self.cluster = replace(self.cluster, namespaces=left)
        return found


class FakeClient:
    """The cluster and its client in one; survives being closed, so that the next command finds what the last one left."""

    def __init__(self) -> None:
        self.namespaces: dict[str, FakeNamespace] = {}
        self.admin = FakeAdmin(make_cluster(), [[make_status("n1"), make_status("n2"), make_status("n3")]])
        self.connected: list[dict[str, Any]] = []

    def connect(self, at: str, *, timeout_s: float | None = None, level: object = None, sloppy: bool | None = None) -> FakeClient:
        self.connected.append({"at": at, "timeout_s": timeout_s, "level": level, "sloppy": sloppy})
        return self

    @property
    def asked_at(self) -> list[str]:
        return [options["at"] for options in self.connected]

    def namespace(self, name: str) -> FakeNamespace:
        return self.namespaces.setdefault(name, FakeNamespace())

    @property
    def default(self) -> FakeNamespace:
        return self.namespace("default")

    async def __aenter__(self) -> FakeClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


def make_status(node_id: str, **fields: Any) -> NodeStatus:
    values = {"address": f"{node_id}:7400", "zone": "a", "state": "alive", "ring_epoch": 7, "keys": 12, "version": "0.1.0"}
    return NodeStatus(node_id=node_id, **{**values, **fields})


def make_cluster(partitions: int = 8) -> ClusterInfo:
    """Three members; partition p is owned by members p, p+1 (mod 3), so n1 is first of one more than the others."""
    members = tuple(MemberInfo(node_id, f"{node_id}:7400", "a") for node_id in ("n1", "n2", "n3"))
    owners = b"".join((p % 3).to_bytes(2, "big") + ((p + 1) % 3).to_bytes(2, "big") for p in range(partitions))
    return ClusterInfo("c1", "n1", "0.1.0", 7, 99, partitions, members, 2, owners, (), 4096, 1 << 20, 5, 10_000)


def _version(dot: int) -> str:
    return f"{dot:040x}"


def _context(cell: Mapping[int, object]) -> bytes:
    return b",".join(b"%d" % dot for dot in cell)
