"""What a checker finds: which promise broke, about which key, by which events of the history."""

from __future__ import annotations

from dataclasses import dataclass

from kvchaos.history import Call


@dataclass(frozen=True, slots=True)
class Violation:
    """`promise` is the checker's name for it; `events` are indices into the history, the accusing ones first."""

    promise: str
    key: str
    text: str
    events: tuple[int, ...] = ()

    def sentence(self) -> str:
        """One line."""
        about = f" of {self.key}" if self.key else ""
        return f"{self.promise}{about}: {self.text}"


def events_of(*calls: Call | None) -> tuple[int, ...]:
    """The indices of the calls' beginnings and ends, each once, in the order given."""
    found: dict[int, None] = {}
    for call in calls:
        if call is not None:
            found[call.invoke.index] = None
            if call.end is not None:
                found[call.end.index] = None
    return tuple(found)
