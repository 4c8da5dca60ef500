"""What each fault of a link is made of, and in which steps it is put on and taken off. Pure.

A link is directed: the connections that `source` opens to `target`. Requests travel upstream, responses downstream, on the same
connection; so a cut can lose either. Toxiproxy's toxics are described in the project's own words at TOXICS below.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

STALL_MS = 3_600_000
"""A delay that outlasts every run: bytes are held, in order, and let go when it is taken off."""
DELAY_MS_MAX = 60_000
TRUNCATE_BYTES_MAX = 1 << 20

UPSTREAM, DOWNSTREAM = "upstream", "downstream"

TOXICS = {
    "timeout": "with 0: a black hole; connections that lost bytes in it are closed when it is taken off",
    "latency": "delays each chunk from its arrival, keeps order and loses nothing",
    "bandwidth": "lets through so many kilobytes a second; never 0, which 2.12 takes for a stall and 2.13 for no limit",
    "reset_peer": "resets a connection at the first bytes that pass",
    "limit_data": "closes a connection after so many bytes",
}


class Kind(Enum):
    """How a cut link looks to those at its ends."""

    BLACKHOLE = "blackhole"
    """Bytes vanish: deadlines pass, only pings notice. Lost for good: what was under way is closed when the link is healed."""
    REFUSE = "refuse"
    """Connections are closed and new ones refused at once."""
    STALL = "stall"
    """Bytes are held back and arrive when the link is healed, however late."""


class Direction(Enum):
    """Which half of the connection is cut."""

    BOTH = "both"
    REQUESTS = "requests"
    RESPONSES = "responses"

    @property
    def streams(self) -> tuple[str, ...]:
        """Toxiproxy's words for it."""
        return {"both": (UPSTREAM, DOWNSTREAM), "requests": (UPSTREAM,), "responses": (DOWNSTREAM,)}[self.value]


@dataclass(frozen=True, slots=True, order=True)
class Link:
    """The connections that `source`, a node or a site of clients, opens to the node `target`."""

    source: str
    target: str

    def __str__(self) -> str:
        return f"{self.source}->{self.target}"


@dataclass(frozen=True, slots=True)
class Toxic:
    """One toxic of one stream. `name` is unique at its link."""

    name: str
    type: str
    stream: str
    attributes: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.type in TOXICS, self.type
        assert self.type != "bandwidth" or self.attributes["rate"] > 0, (
            "a bandwidth of 0 means different things in different versions"
        )


@dataclass(frozen=True, slots=True)
class LinkState:
    """What is done to a link; the default is nothing."""

    enabled: bool = True
    toxics: tuple[Toxic, ...] = ()

    def with_toxics(self, *added: Toxic) -> LinkState:
        """With these, in place of those of the same names."""
        names = {toxic.name for toxic in added}
        return replace(self, toxics=(*(toxic for toxic in self.toxics if toxic.name not in names), *added))

    def toxic(self, name: str) -> Toxic | None:
        """The toxic of that name."""
        return next((toxic for toxic in self.toxics if toxic.name == name), None)


OPEN = LinkState()


def cut(state: LinkState, kind: Kind, direction: Direction) -> LinkState:
    """`state`, and cut. Refusing knows no direction: a connection is there or it is not; raises `ValueError` for one."""
    _refuse_both(state, "reset_peer", "limit_data")
    if kind is Kind.REFUSE:
        if direction is not Direction.BOTH:
            raise ValueError(f"a refused connection has no {direction.value} that could pass")
        return replace(state, enabled=False)
    if kind is Kind.STALL:
        return state.with_toxics(*(Toxic(f"stall_{one}", "latency", one, {"latency": STALL_MS}) for one in direction.streams))
    return state.with_toxics(*(Toxic(f"hole_{one}", "timeout", one, {"timeout": 0}) for one in direction.streams))


def delayed(state: LinkState, ms: int) -> LinkState:
    """`state`, and each way takes `ms` longer: a round trip twice that."""
    if not 0 < ms <= DELAY_MS_MAX:
        raise ValueError(f"a delay of {ms} ms is not between 1 and {DELAY_MS_MAX}")
    return state.with_toxics(*(Toxic(f"delay_{one}", "latency", one, {"latency": ms}) for one in (UPSTREAM, DOWNSTREAM)))


def throttled(state: LinkState, kbytes_per_s: int) -> LinkState:
    """`state`, and each connection carries at most so many thousand bytes a second each way."""
    if kbytes_per_s < 1:
        raise ValueError("a link cannot be throttled to nothing: cut it")
    return state.with_toxics(*(Toxic(f"rate_{one}", "bandwidth", one, {"rate": kbytes_per_s}) for one in (UPSTREAM, DOWNSTREAM)))


def resetting(state: LinkState) -> LinkState:
    """`state`, and every connection is reset as soon as something is sent on it, either way."""
    _refuse_both(state, "timeout")
    return state.with_toxics(*(Toxic(f"reset_{one}", "reset_peer", one, {"timeout": 0}) for one in (UPSTREAM, DOWNSTREAM)))


def truncated(state: LinkState, size_bytes: int, direction: Direction) -> LinkState:
    """`state`, and each connection is closed after `size_bytes` of that direction, counted from now."""
    if not 0 < size_bytes <= TRUNCATE_BYTES_MAX:
        raise ValueError(f"{size_bytes} bytes are not between 1 and {TRUNCATE_BYTES_MAX}")
    _refuse_both(state, "timeout")
    return state.with_toxics(*(Toxic(f"limit_{one}", "limit_data", one, {"bytes": size_bytes}) for one in direction.streams))


def _refuse_both(state: LinkState, *types: str) -> None:
    """A link that is cut cannot be seen to break connections, nor the other way round."""
    if any(toxic.type in types or ("timeout" in types and is_stall(toxic)) for toxic in state.toxics):
        raise ValueError("a link is either cut or breaks its connections: heal it first")


def is_stall(toxic: Toxic) -> bool:
    """Whether it holds bytes back for good, rather than for a while."""
    return toxic.type == "latency" and toxic.attributes["latency"] >= STALL_MS


# --- steps


@dataclass(frozen=True, slots=True)
class Step:
    """One call: `verb` is enable, disable, add, change or remove."""

    verb: str
    toxic: Toxic | None = None


def plan_change(before: LinkState, after: LinkState, *, stalled: bool = False) -> list[Step]:
    """The calls that lead from `before` to `after`.

    2.12 deadlocks when toxics change while a receiver does not read and the pipe to it is full. Where that is to be expected
    (`stalled`), or bytes were lost and the connections are to be closed anyway, the link is disabled first and enabled last. A
    stall or a delay that is taken off must not be: what it holds would be lost.
    """
    gone = [toxic for toxic in before.toxics if after.toxic(toxic.name) is None]
    new = [toxic for toxic in after.toxics if before.toxic(toxic.name) is None]
    other = [toxic for toxic in after.toxics if (old := before.toxic(toxic.name)) is not None and old != toxic]
    changes = [
        *(Step("remove", toxic) for toxic in gone),
        *(Step("change", toxic) for toxic in other),
        *(Step("add", toxic) for toxic in new),
    ]
    closes = bool(changes) and (stalled or any(toxic.type not in ("latency", "bandwidth") for toxic in gone))
    steps = [Step("disable")] if before.enabled and (closes or not after.enabled) else []
    steps += changes
    enabled = before.enabled and steps[:1] != [Step("disable")]
    return [*steps, Step("enable")] if after.enabled and not enabled else steps
