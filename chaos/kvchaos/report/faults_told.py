"""When a fault was there, from the events that the fault plane wrote: begun, seen, being lifted, healed. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kvchaos.history import NEMESIS, Event

LIFTS = frozenset({"heal", "restart", "resume"})
LOOKS = "verify"


@dataclass(slots=True)
class Band:
    """One time for which something was wrong, in seconds. `seen_s`: it was there for certain; `lifting_s`: its end began;
    `healed_s`: it was seen to be over. None: that never happened."""

    words: list[str]
    begun_s: float
    seen_s: float | None = None
    lifting_s: float | None = None
    healed_s: float | None = None

    @property
    def label(self) -> str:
        """What was done, in the plane's words."""
        return " and ".join(self.words)

    def sentence(self) -> str:
        """For people who do not see the picture."""
        seen = "never seen" if self.seen_s is None else f"seen at {self.seen_s:.1f} s"
        lifting = "never lifted" if self.lifting_s is None else f"being lifted from {self.lifting_s:.1f} s"
        healed = "" if self.healed_s is None else f", over at {self.healed_s:.1f} s"
        return f"{self.label} from {self.begun_s:.1f} s, {seen}, {lifting}{healed}"


def bands_of(events: Iterable[Event], zero_ns: int) -> list[Band]:
    """In order. What the injector tries out before the first operation is left out."""
    bands: list[Band] = []
    looked = False
    for event in events:
        if event.process != NEMESIS or event.time_ns < zero_ns or not isinstance(event.value, dict):
            continue
        at_s, phase = (event.time_ns - zero_ns) / 1e9, event.value.get("phase")
        last = bands[-1] if bands else None
        there = last is not None and last.lifting_s is None
        if phase == "begin":
            if event.f in LIFTS:
                if last is not None and there:
                    last.lifting_s, looked = at_s, False
            elif event.f != LOOKS:
                looked = False
                if last is None or not there:
                    bands.append(Band([event.f], at_s))
                elif event.f not in last.words:
                    last.words.append(event.f)
        elif phase == "active" and last is not None and not looked:
            # For certain only by the first look; where there was none, since the call returned.
            if there and event.f not in LIFTS:
                last.seen_s = at_s
            elif not there and (event.f in LIFTS or event.f == LOOKS):
                last.healed_s = at_s
            looked = event.f == LOOKS
    return bands
