"""Linearizable namespaces of a fake store: one value a key, and conditions that are judged where it is written.

There are no replicas and one lock, so every operation is in order with every other: what consensus gives, without any of its work.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvclient.contexts import EXACT
from kvclient.errors import BadRequest, BehindSession, ConditionFailed, KvError, WrongMode
from kvclient.levels import OF_READS
from kvproto.columns import (
    EVENTUAL_LEVELS,
    LINEARIZABLE_LEVELS,
    REQUEST_ID_BYTES,
    GroupReply,
    Kind,
    Level,
    NamespaceInfo,
    OperationGroup,
    Receipt,
    ScanPage,
    ScanQuery,
)
from kvproto.conditions import Test, read_condition

LINEARIZABLE = "linearizable"
_WRITES = frozenset((Kind.PUT, Kind.DELETE, Kind.TOUCH, Kind.INCREMENT))
_ROUND = 1
RETRY_IDS_MAX = 10_000
_IDENTITY = b"fake"


@dataclass(slots=True)
class Register:
    """What one key holds. `value` None: a deletion, whose version is still known."""

    version: bytes
    value: bytes | None
    expires_ms: int = 0
    total: int | None = None

    def live(self, now_ms: int) -> Register | None:
        """Itself, unless there is nothing to be read."""
        return None if self.value is None or 0 < self.expires_ms <= now_ms else self


def check_dial(info: NamespaceInfo, group: OperationGroup) -> None:
    """Raises `WrongMode` for a level or condition that the namespace's mode does not have, `BadRequest` for what nobody has."""
    able = LINEARIZABLE_LEVELS if info.mode == LINEARIZABLE else EVENTUAL_LEVELS
    if group.level not in able or (group.sloppy and info.mode == LINEARIZABLE):
        what = f"level {group.level.name.lower()}" if group.level not in able else "sloppy"
        names = ", ".join(level.name.lower() for level in sorted(able) if level is not Level.EXPLICIT)
        raise WrongMode(f"{what} is none of namespace {info.name!r}, which is {info.mode}: there are {names}", subject=info.name)
    if group.kind is not Kind.GET and group.level in OF_READS:
        raise BadRequest(f"level {group.level.name.lower()} is of reads", subject="level")
    if any(group.conditions) and info.mode != LINEARIZABLE:
        raise WrongMode(
            f"a condition needs a linearizable namespace, {info.name!r} is {info.mode}: "
            "FakeStore(namespaces={'orders': 'pc-ec'}) has one",
            subject=info.name,
        )


class Registers:
    """The linearizable namespaces of one store, whose lock is held by whoever calls."""

    def __init__(self) -> None:
        self.held: dict[tuple[str, bytes], Register] = {}
        self._done: dict[bytes, Register] = {}
        self._sequence = 0

    def execute(
        self,
        info: NamespaceInfo,
        index: int,
        group: OperationGroup,
        receipt: Receipt,
        now_ms: int,
        expiries_ms: Sequence[int],
    ) -> list[GroupReply]:
        """The replies to the `index`-th group of a batch; `expiries_ms` of what each of its operations would write. Raises
        `WrongMode` for what means nothing here."""
        self.check(info, group)
        refused: list[GroupReply] = []
        done: list[int] = []
        found: list[Register | None] = []
        for at, key in enumerate(group.keys):
            try:
                if group.kind is Kind.GET:
                    found.append(self.read(info.name, key, now_ms, group.seen[at] if group.seen else b""))
                else:
                    found.append(self._write_once(group, at, now_ms, expiries_ms[at]))
                done.append(at)
            except KvError as error:
                refused.append(GroupReply(index, positions=[at], error=error))
            except Refusal as refusal:
                refused.append(refusal.reply(index, at, info.name))
        if not done:
            return refused
        reply = GroupReply(index, positions=None if not refused else done, receipt=receipt)
        if group.kind is Kind.GET:
            fill_registers(reply, found)
        else:
            _fill_written(reply, group.kind, [one for one in found if one is not None])
        return [reply, *refused]

    def scan(self, query: ScanQuery, keys: Sequence[bytes], receipt: Receipt, now_ms: int, *, page_keys: int) -> list[ScanPage]:
        """Those of `keys` that hold something, in pages."""
        found = [(key, self.read(query.namespace, key, now_ms)) for key in keys]
        rows = [row for row in found if row[1] is not None][: query.limit or None]
        pages = []
        for first in range(0, len(rows), page_keys):
            some = rows[first : first + page_keys]
            page = ScanPage(keys=[key for key, _ in some], receipt=receipt)
            fill_registers(page, [register for _, register in some])
            pages.append(page)
        return pages

    def _write_once(self, group: OperationGroup, at: int, now_ms: int, expires_ms: int) -> Register:
        request_id = group.request_ids[at * REQUEST_ID_BYTES : (at + 1) * REQUEST_ID_BYTES]
        known = self._done.get(request_id)
        if known is not None:
            return known
        done = self.write(group, at, now_ms, expires_ms)
        if request_id and group.kind is not Kind.TOUCH:
            self._done[request_id] = done
            if len(self._done) > RETRY_IDS_MAX:
                del self._done[next(iter(self._done))]
        return done

    def check(self, info: NamespaceInfo, group: OperationGroup) -> None:
        """Raises `WrongMode` for an operation or a context that means nothing here."""
        if group.kind is not Kind.GET and group.kind not in _WRITES:
            raise WrongMode(f"namespace {info.name!r} holds plain values: no {group.kind.name.lower()} there", subject=info.name)
        if any(context[:1] == bytes((EXACT,)) for context in group.contexts):
            raise WrongMode(
                f"namespace {info.name!r} is linearizable and has no siblings, so no contexts: if_version=entry.version is the "
                "condition that nothing was written since",
                subject=info.name,
            )

    def read(self, namespace: str, key: bytes, now_ms: int, seen: bytes = b"") -> Register | None:
        """What the key holds. Raises `BehindSession` for a session that has seen what was never written here."""
        register = self.held.get((namespace, key))
        if seen > (register.version if register is not None else b""):
            raise BehindSession("no replica has what the session has seen of the key", subject=namespace)
        return None if register is None else register.live(now_ms)

    def write(self, group: OperationGroup, at: int, now_ms: int, expires_ms: int) -> Register:
        """What the key holds once operation `at` is done. Raises `Refusal` when its condition does not hold, `BadRequest`.

        `expires_ms` is for what it writes; an increment leaves it as it is.
        """
        place = group.namespace, group.keys[at]
        there = self.read(*place, now_ms)
        condition = read_condition(group.conditions[at]) if group.conditions else None
        if condition is not None:
            if (condition.test is Test.BETWEEN) and group.kind is not Kind.INCREMENT:
                raise BadRequest("only increments have bounds", subject="conditions")
            if not condition.holds(*((there.version, there.value) if there is not None else (None, None))):
                raise Refusal(f"the condition does not hold of {place[1]!r}: {condition.test.name.lower()}", there)
        if group.kind is Kind.TOUCH:
            if there is None:
                return Register(bytes(20), None)
            there.expires_ms = expires_ms
            return there
        if group.kind is not Kind.INCREMENT:
            return self._store(place, group.values[at] if group.kind is Kind.PUT else None, expires_ms)
        total = _number(there, place[1]) + group.amounts[at]
        if condition is not None and not condition.allows(total):
            raise Refusal(f"{total} is outside the bounds of {place[1]!r}", there)
        done = self._store(place, b"%d" % total, there.expires_ms if there is not None else 0)
        done.total = total
        return done

    def _store(self, place: tuple[str, bytes], value: bytes | None, expires_ms: int) -> Register:
        self._sequence += 1
        version = _ROUND.to_bytes(8, "big") + self._sequence.to_bytes(8, "big") + _IDENTITY
        done = self.held[place] = Register(version, value, expires_ms)
        return done


class Refusal(Exception):
    """A condition that does not hold; `there` is what is there instead."""

    def __init__(self, message: str, there: Register | None) -> None:
        super().__init__(message)
        self.there = there

    def reply(self, index: int, at: int, namespace: str) -> GroupReply:
        """The answer to operation `at` of group `index`."""
        answer = GroupReply(index, positions=[at], error=ConditionFailed(str(self), subject=namespace))
        fill_registers(answer, [self.there])
        return answer


def fill_registers(reply: GroupReply | ScanPage, found: Sequence[Register | None]) -> None:
    """The columns of what was read."""
    held = [one for one in found if one is not None]
    reply.counts = [int(one is not None) for one in found]
    reply.values = [one.value or b"" for one in held]
    reply.versions = b"".join(one.version for one in held)
    reply.expires_ms = [one.expires_ms for one in held]


def _fill_written(reply: GroupReply, kind: Kind, written: Sequence[Register]) -> None:
    reply.versions = b"".join(one.version for one in written)
    reply.counts = [int(one.value is not None) for one in written]
    if kind is Kind.INCREMENT:
        reply.values = [b"%d" % (one.total or 0) for one in written]


def _number(there: Register | None, key: bytes) -> int:
    if there is None:
        return 0
    try:
        return int(there.value or b"")
    except ValueError:
        raise BadRequest(f"{key!r} holds no number: it cannot be incremented", subject="value") from None
