"""What a client has done so far, in numbers that are added up once a batch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class ClientStats:
    """Counts since the client connected. `operations` and `reads` count each operation once, however often it was tried.

    `hedges`: reads asked once more of another owner because their answer was late; `hedges_won`: those for which the second answer
    came first. `reads_moved`: reads that had not left yet and went to another owner instead, which costs nothing. `retries`:
    attempts after one that failed.
    """

    batches: int = 0
    operations: int = 0
    reads: int = 0
    hedges: int = 0
    hedges_won: int = 0
    reads_moved: int = 0
    retries: int = 0
