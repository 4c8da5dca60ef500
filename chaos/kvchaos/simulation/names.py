"""Short names for what a history and a wire know by long ones: versions, contexts and records, so that a timeline can be read.

A version reads `n1a:5`: the fifth dot of the first life (a) in which n1 minted under a name of its own; `n1b:1` is of a later one.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvchaos.causality import dots_of, vector_of
from kvchaos.history import Event
from kvchaos.operations import name_of
from kvstore.core.record import DamagedRecord, decode
from kvstore.storage.epochs import node_tag

_ACTOR_DIGITS = 24
_TAG_DIGITS = 8
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class Names:
    """Names for everything that the executions among `events` minted; the rest is `?`."""

    def __init__(self, events: Iterable[Event], nodes: Iterable[str]) -> None:
        tags = {node_tag(node).hex(): node for node in nodes}
        lives: dict[str, int] = {}
        self._actors: dict[str, str] = {}
        self._writes: dict[str, str] = {}
        for event in events:
            if event.f == "execute":
                version = event.value["version"]
                actor = version[:_ACTOR_DIGITS]
                if actor not in self._actors:
                    node = tags.get(actor[:_TAG_DIGITS], "?")
                    life = lives[node] = lives.get(node, -1) + 1
                    self._actors[actor] = f"{node}{_LETTERS[life % len(_LETTERS)]}"
                self._writes[version] = event.value["write"] or "a delete"

    def version(self, version: str) -> str:
        """A dot in hex."""
        return f"{self._actor(version[:_ACTOR_DIGITS])}:{int(version[_ACTOR_DIGITS:] or '0', 16)}"

    def write(self, version: str) -> str:
        """The write that was executed under a dot in hex."""
        return self._writes.get(version, "?")

    def context(self, token: str) -> str:
        """What a token in hex has seen."""
        rows = [f"{self._actor(actor)}:{counter}" for actor, counter in sorted(vector_of(token).items())]
        return " ".join([*rows, *(f"+{self.version(dot)}" for dot in dots_of(token))]) or "nothing"

    def record(self, data: bytes) -> str:
        """A record's live siblings."""
        if not data:
            return "nothing"
        try:
            siblings = decode(data).siblings
        except DamagedRecord:
            return "a damaged record"
        shown = (f"{'deleted' if one.tombstone else name_of(one.value)} {self.version(one.dot.hex())}" for one in siblings)
        return ", ".join(shown) or "nothing"

    def _actor(self, actor: str) -> str:
        return self._actors.get(actor, "?")
