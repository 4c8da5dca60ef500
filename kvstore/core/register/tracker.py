"""What an owner tells others of its groups, and knows of theirs: for reads without a round trip, and to find what differs. Pure.

One question to each other node is about all groups, and names what was heard last: only what changed since is answered, so a round
costs nearly nothing while nobody writes. What was told and did not change still holds as of the latest question.

    horizon    life u64 | version u64 | full u8 | count u32 | groups 6 each | (known u8 | digest 16) each

`life` is of the process that answers, `version` counts its changes; `full`: it is about all that is known there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from struct import Struct, error
from typing import NamedTuple

from kvstore.core.register import held
from kvstore.core.register.ballot import GROUP_BYTES
from kvstore.core.register.progress import LOST, Progress

Since = tuple[int, int]
"""Life and version of what was heard last; `NOTHING` before that."""
NOTHING: Since = (0, 0)

_HEAD = Struct(">QQ?I")
_SINCE = Struct(">QQ")
_ROW = Struct(">?16s")


class Horizon(NamedTuple):
    """The digests of groups, None where it is not known."""

    since: Since
    is_full: bool
    digests: Mapping[bytes, int | None]


Marks = dict[bytes, tuple[int, int]]
"""Of groups the number of a change that was decided, and the digest then; for `Tracker.became_durable`."""


class Tracker:
    """One node's. `life`: 64 random bits of this process, not 0."""

    def __init__(self, me: str, life: int) -> None:
        self.me = me
        self._life = life
        self._version = 0
        self._changed: dict[bytes, int] = {}
        """Groups by the version of their last change, in that order."""
        self._durable: Marks = {}
        """What became durable since anybody looked: most of it is overtaken by then."""
        self._to_watch: frozenset[bytes] | None = None
        self.watched: set[bytes] = set()
        """Tracked groups that are watched; always this object."""
        self._decided = 0
        """No group that is not tracked any more had a change of a higher number."""
        self.groups: dict[bytes, Progress] = {}
        self.as_of_s: dict[str, float] = {}
        self._since: dict[str, Since] = {}

    def track(self, owners: Mapping[bytes, tuple[str, ...]]) -> None:
        """From now on these groups are tracked, and no others; by their owners, of which we are one."""
        for group in self.groups.keys() - owners.keys():
            self._end(group)
        for group, nodes in owners.items():
            others = tuple(node for node in nodes if node != self.me)
            known = self.groups.get(group)
            if known is None or tuple(known.told) != others:
                self._end(group)
                is_watched = self._is_to_be_watched(group)
                self.groups[group] = Progress(others, decided=self._decided, is_watched=is_watched)
                if is_watched:
                    self.watched.add(group)
                self._bump(group)
        # What was heard of groups that are new to us is to be told again.
        self._since.clear()

    def _end(self, group: bytes) -> None:
        progress = self.groups.pop(group, None)
        if progress is not None:
            self._decided = max(self._decided, progress.decided)  # what is on its way to the disk says nothing of a later one
        self._changed.pop(group, None)
        self._durable.pop(group, None)
        self.watched.discard(group)

    def watch(self, groups: frozenset[bytes] | None) -> Marks:
        """From now on these groups are watched (None: all), and no others; what is to be told when everything before is durable."""
        self._to_watch = groups
        marks: Marks = {}
        for group, progress in self.groups.items():
            is_watched = self._is_to_be_watched(group)
            if progress.is_watched and not is_watched:
                progress.rest()
                self.watched.discard(group)
            elif is_watched and not progress.is_watched:
                progress.watch()
                self.watched.add(group)
                marks[group] = progress.decided, progress.digest
        return marks

    def _is_to_be_watched(self, group: bytes) -> bool:
        return self._to_watch is None or group in self._to_watch

    # --- what is held here

    def decide(
        self,
        writes: Iterable[tuple[bytes, bytes]],
        deletes: Sequence[bytes],
        replaced: Mapping[bytes, bytes | None],
        now_s: float,
    ) -> Marks:
        """Registers were written and deleted that had been as in `replaced`; what is to be told when that is durable."""
        touched: dict[bytes, Progress] = {}
        groups, before_of, digest_of = self.groups, replaced.get, held.digest_of
        changes: Iterable[tuple[bytes, bytes | None]] = [*writes, *((key, None) for key in deletes)] if deletes else writes
        for store_key, now in changes:
            group = store_key[:GROUP_BYTES]
            progress = groups.get(group)
            if progress is None:
                continue
            before = before_of(store_key)
            if before is LOST:
                self.forget(group)
                continue
            digest = 0 if now is None else digest_of(store_key, now)
            delta = digest if before is None else digest ^ digest_of(store_key, before)
            if progress.only_sums:  # as most do, most of the time
                progress.digest ^= delta
                progress.decided += 1
            else:
                progress.change(store_key, delta, digest, now_s)
            touched[group] = progress
        return {group: (progress.decided, progress.digest) for group, progress in touched.items()}

    def became_durable(self, marks: Marks) -> None:
        """These changes are durable."""
        self._durable.update(marks)

    def _take_in(self) -> None:
        """What became durable, into the groups that it is of."""
        if not self._durable:
            return
        for group, (number, digest) in self._durable.items():
            progress = self.groups.get(group)
            if progress is not None and progress.became_durable(number, digest):
                self._bump(group)
        self._durable.clear()

    def scanned(self, group: bytes, scan: int, found: Iterable[tuple[bytes, int]], end: bytes | None) -> Marks:
        """A page of a scan that began as `scan`; what is to be told when everything before is durable, if it was the last."""
        progress = self.groups.get(group)
        if progress is None or progress.scans != scan:
            return {}
        progress.scanned(found, end)
        return {group: (progress.decided, progress.digest)} if progress.is_known else {}

    def forget(self, group: bytes) -> None:
        """It is not known any more what is held of a group."""
        progress = self.groups.get(group)
        if progress is not None:
            progress.forget()
            self._bump(group)

    def forget_all(self) -> None:
        """It is not known any more what is held."""
        for group in self.groups:
            self.forget(group)

    def tell(self, since: Since) -> Horizon:
        """What changed after `since`, or everything, if that is of another life."""
        self._take_in()
        life, version = since
        is_full = life != self._life or version > self._version
        digests: dict[bytes, int | None] = {}
        for group, changed in reversed(self._changed.items()):
            if not is_full and changed <= version:
                break
            digests[group] = self.groups[group].may_tell
        return Horizon((self._life, self._version), is_full, digests)

    def _bump(self, group: bytes) -> None:
        self._version += 1
        self._changed.pop(group, None)
        self._changed[group] = self._version

    # --- what others hold

    def since(self, node: str) -> Since:
        """What was heard of `node` last."""
        return self._since.get(node, NOTHING)

    def hear(self, node: str, asked_s: float, since: Since, horizon: Horizon) -> None:
        """`node` was asked at `asked_s` what changed after `since`. What comes late, or twice, says nothing."""
        before_s = self.as_of_s.get(node, float("-inf"))
        if since != self.since(node) or asked_s <= before_s:
            return
        self._take_in()
        digests = horizon.digests
        if horizon.is_full:
            digests = {group: digests.get(group) for group, progress in self.groups.items() if node in progress.told}
        for group, digest in digests.items():
            progress = self.groups.get(group)
            if progress is not None and node in progress.told:
                progress.hear(node, digest, before_s)
        self.as_of_s[node] = asked_s
        self._since[node] = horizon.since

    def proof(self, group: bytes) -> tuple[float, int] | None:
        """As `Progress.proof`."""
        self._take_in()
        progress = self.groups.get(group)
        return None if progress is None else progress.proof(self.as_of_s)

    def is_chosen(self, store_key: bytes) -> bool:
        """Whether what is held of a key is known to be chosen."""
        progress = self.groups.get(store_key[:GROUP_BYTES])
        if progress is None or not progress.is_watched:
            return False
        self._take_in()
        return progress.is_chosen(store_key)

    def unknown(self, may_vote: Callable[[bytes], bool]) -> list[bytes]:
        """Groups that have to be scanned, of those that may vote."""
        return [group for group, progress in self.groups.items() if not progress.is_known and may_vote(group)]

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        self._take_in()
        for progress in self.groups.values():
            progress.check()
        assert self.watched == {group for group, progress in self.groups.items() if progress.is_watched}
        assert self._changed.keys() == self.groups.keys()


def encode_since(since: Since) -> bytes:
    """Its bytes."""
    return _SINCE.pack(*since)


def decode_since(data: bytes) -> Since:
    """What `encode_since` wrote. Raises `ValueError` when it does not add up."""
    if len(data) != _SINCE.size:
        raise ValueError(f"{len(data)} bytes say since when")
    life, version = _SINCE.unpack(data)
    return life, version


def encode_horizon(horizon: Horizon) -> bytes:
    """Its bytes."""
    rows = [_ROW.pack(digest is not None, (digest or 0).to_bytes(16, "big")) for digest in horizon.digests.values()]
    return b"".join([_HEAD.pack(*horizon.since, horizon.is_full, len(rows)), *horizon.digests, *rows])


def decode_horizon(data: bytes) -> Horizon:
    """The horizon in `data`. Raises `ValueError` when it does not add up."""
    try:
        life, version, is_full, count = _HEAD.unpack_from(data)
    except error as failure:
        raise ValueError(str(failure)) from failure
    first = _HEAD.size + GROUP_BYTES * count
    if len(data) != first + _ROW.size * count:
        raise ValueError(f"a horizon of {len(data)} bytes does not add up")
    groups = [data[at : at + GROUP_BYTES] for at in range(_HEAD.size, first, GROUP_BYTES)]
    digests = {
        group: int.from_bytes(digest, "big") if known else None
        for group, (known, digest) in zip(groups, _ROW.iter_unpack(data[first:]), strict=True)
    }
    return Horizon((life, version), is_full, digests)
