"""Named places at which a process may end, in the work that goes on beside clients: between two steps of which one is durable.

Whatever a job has done by then must be enough for the next life to go on with, so each of its steps gets a name here. In production
a point is passed and nothing happens. The simulation kills the node at the passing that a schedule names (`crash_at`), and one
scenario for each job goes through all of its points. Not for the way of a request: a point is passed where there is something to
repair, to hand over, to end or to agree on.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CrashPoint:
    """`name` begins with the job; `sentence` says what has been done by then and what has not."""

    name: str
    sentence: str

    @property
    def job(self) -> str:
        """Whose step it is."""
        return self.name.partition(".")[0]

    async def passed(self) -> None:
        """Awaited at the place. Never lets anybody else run: it returns at once, or the process is gone."""


POINTS: dict[str, CrashPoint] = {}
"""Every point of the modules that are imported, by name."""


def crash_point(name: str, sentence: str) -> CrashPoint:
    """A new point. A module makes its points when it is imported."""
    assert "." in name and name not in POINTS, f"{name} is no new name of a job's step"
    point = POINTS[name] = CrashPoint(name, sentence)
    return point
