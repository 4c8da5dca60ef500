"""What operations that may travel in one group have in common: kind, namespace, level, bound, sloppiness, r, w, explain, attempt.

A shape is made once and compared by identity, so that grouping a batch costs one dictionary look-up an operation.
"""

from __future__ import annotations

from kvclient.contexts import NamespaceContexts
from kvclient.errors import BadRequest
from kvclient.levels import NO_CHOICE, Choice
from kvproto.columns import Kind, Level

_TAKE_NOTHING = frozenset((Kind.INCREMENT, Kind.ADD, Kind.ASSIGN, Kind.TOUCH))
"""Writes that take nobody else's away: what their author has seen makes no difference."""

_QUORUMS = frozenset((Level.PRESET, Level.QUORUM, Level.ALL, Level.ATOMIC, Level.ZONE_QUORUM))
"""Levels at which it makes no difference to what is read who coordinates."""


class Shape:
    """One set of options.

    `is_hedge` shapes belong to reads that are asked a second time while the first question is open; they are never retried.
    `is_bulk` shapes belong to pieces of *_many calls, whose groups are built differently. `has_ttl` keeps puts that name a time
    to live apart from those that leave it to the namespace, since a column is whole or absent. `attempt_told` is what nodes are
    told: of increments only attempts count that may have been executed, because no node executes one again after such a one.
    `is_conditional` shapes belong to writes that carry a condition, `tells_seen` to reads of a session: columns of their own again.
    `may_gather`: any home replica may coordinate it, where the namespace is one of quorums (gathering.py); not increments, of which
    nobody knows more than who was asked. `tells_context`: without a context of the caller's own, what this client was acknowledged
    goes with the write.
    """

    __slots__ = (
        "_bulk",
        "_hedge",
        "_next",
        "_next_unknown",
        "attempt",
        "attempt_told",
        "bound_ms",
        "contexts",
        "explain",
        "has_ttl",
        "is_bulk",
        "is_conditional",
        "is_hedge",
        "kind",
        "level",
        "may_gather",
        "namespace",
        "r",
        "sloppy",
        "tells_context",
        "tells_seen",
        "w",
        "writes",
    )

    def __init__(
        self,
        kind: Kind,
        namespace: str,
        contexts: NamespaceContexts,
        *,
        choice: Choice = NO_CHOICE,
        quorum: int = 0,
        explain: bool = False,
        has_ttl: bool = False,
        is_conditional: bool = False,
    ) -> None:
        level = choice.level
        if quorum and level not in (Level.PRESET, Level.EXPLICIT):
            raise BadRequest("give either a level or r/w, not both", subject=level.name.lower())
        self.kind = kind
        self.namespace = namespace
        self.contexts = contexts
        self.writes = kind is not Kind.GET
        self.level = Level.EXPLICIT if quorum else level
        self.bound_ms = choice.bound_ms
        self.sloppy = choice.sloppy
        self.r = 0 if self.writes else quorum
        self.w = quorum if self.writes else 0
        self.explain = explain
        self.has_ttl = has_ttl
        self.is_conditional = is_conditional
        self.tells_seen = False
        self.attempt = self.attempt_told = 0
        self.tells_context = kind not in _TAKE_NOTHING
        self.may_gather = kind is not Kind.INCREMENT and (self.level in _QUORUMS or (self.level is Level.EXPLICIT and quorum > 1))
        self.is_bulk = False
        self.is_hedge = False
        self._next: Shape | None = None
        self._next_unknown: Shape | None = None
        self._hedge: Shape | None = None
        self._bulk: Shape | None = None

    def retried(self, *, is_unknown: bool = False, is_new: bool = False) -> Shape:
        """The same options for one attempt more. `is_unknown`: an attempt so far may have been executed; `is_new`: none was, and
        this one goes under an id of its own."""
        if (self.kind is Kind.INCREMENT or is_new) and not is_unknown:
            if self._next is None:
                self._next = self._copy(attempt=self.attempt + 1, is_bulk=self.is_bulk)
                self._next.attempt_told = self.attempt_told
            return self._next
        if self._next_unknown is None:
            self._next_unknown = self._copy(attempt=self.attempt + 1, is_bulk=self.is_bulk)
        return self._next_unknown

    def hedged(self) -> Shape:
        """The same options for a read that is asked once more while the first question is open."""
        if self._hedge is None:
            self._hedge = self._copy(attempt=self.attempt, is_bulk=self.is_bulk)
            self._hedge.is_hedge = True
        return self._hedge

    def for_bulk(self) -> Shape:
        """The same options for the pieces of a *_many call."""
        if self._bulk is None:
            self._bulk = self._copy(attempt=self.attempt, is_bulk=True)
        return self._bulk

    def for_session(self) -> Shape:
        """A copy of its own, which a session may change before it is used; a read tells what was seen."""
        copy = self._copy(attempt=self.attempt, is_bulk=self.is_bulk)
        copy.tells_seen = not self.writes
        return copy

    def _copy(self, *, attempt: int, is_bulk: bool) -> Shape:
        copy = Shape(self.kind, self.namespace, self.contexts, explain=self.explain, has_ttl=self.has_ttl)
        copy.level, copy.r, copy.w, copy.may_gather = self.level, self.r, self.w, self.may_gather
        copy.bound_ms, copy.sloppy = self.bound_ms, self.sloppy
        copy.is_conditional, copy.tells_seen = self.is_conditional, self.tells_seen
        copy.attempt, copy.is_bulk = attempt, is_bulk
        copy.attempt_told = attempt if attempt > self.attempt else self.attempt_told
        return copy
