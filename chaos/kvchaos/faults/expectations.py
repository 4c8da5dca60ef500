"""What must be seen of a link in each of its states, if its target answers. Pure.

A probe sends what is no request: a node that gets it closes the connection, so the close shows that requests pass; and a node
greets everybody who connects, so the greeting shows that responses do.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvchaos.faults.link_state import DOWNSTREAM, UPSTREAM, LinkState, is_stall


@dataclass(frozen=True, slots=True)
class Expectation:
    """What a probe of the link must see. `closes` None: cannot be told from outside. `breaks`: a call that goes on ends with the
    connection. A round trip takes `round_trip_s` longer than without the fault, and `kbytes_per_s` pass, 0 for no limit."""

    refused: bool = False
    breaks: bool = False
    greets: bool = True
    closes: bool | None = True
    round_trip_s: float = 0.0
    kbytes_per_s: int = 0

    @property
    def serves(self) -> bool:
        """Whether a call gets its answer."""
        return not (self.refused or self.breaks) and self.greets and self.closes is True

    def sentence(self) -> str:
        """In words."""
        if self.refused:
            return "refused"
        if self.breaks:
            return "broken"
        if not self.serves:
            return "requests lost" if self.greets else "responses lost" if self.closes else "blocked"
        slow = [f"+{self.round_trip_s * 1000:.0f} ms"] if self.round_trip_s else []
        slow += [f"{self.kbytes_per_s} kB/s"] if self.kbytes_per_s else []
        return " ".join(["slow", *slow]) if slow else "open"


def expected_of(state: LinkState) -> Expectation:
    """What must be seen of a link in `state`, whose target answers."""
    kinds = {(toxic.type, toxic.stream) for toxic in state.toxics if not is_stall(toxic)}
    holes = {stream for type_, stream in kinds if type_ == "timeout"}
    stalls = {toxic.stream for toxic in state.toxics if is_stall(toxic)}
    responses = DOWNSTREAM not in holes | stalls
    closes: bool | None = UPSTREAM not in holes | stalls
    if closes and DOWNSTREAM in stalls:
        closes = None  # the close is held back behind the greeting
    delays = [toxic.attributes["latency"] for toxic in state.toxics if toxic.type == "latency" and not is_stall(toxic)]
    rates = [toxic.attributes["rate"] for toxic in state.toxics if toxic.type == "bandwidth"]
    return Expectation(
        refused=not state.enabled,
        breaks=any(type_ in ("reset_peer", "limit_data") for type_, _ in kinds),
        greets=responses,
        closes=closes,
        round_trip_s=sum(delays) / 1000,
        kbytes_per_s=min(rates, default=0),
    )
