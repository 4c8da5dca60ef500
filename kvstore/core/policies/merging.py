"""Siblings shown as one value, by a registered Python function; applied on read and never stored (safety rule 13).

Stored, two replicas would each mint their resolution, and resolve those, for ever. So the function runs wherever a key is read, in
any order of siblings and more than once, and has to be a merge: commutative, associative and idempotent. That is checked on samples
before a namespace may use it; `broken_law` says which law breaks, for tests of one's own under hypothesis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
from itertools import product

from kvstore.core.policies.operations import Cell, Reading
from kvstore.core.policies.plain import Siblings, live
from kvstore.core.versions import Record

Merge = Callable[[bytes, bytes], bytes]

SAMPLES_MAX = 24
"""Every triple of samples is tried: 13,824 of them."""


class LawBroken(ValueError):
    """The function is no merge: the text shows the law and the values that break it."""


def broken_law(function: Merge, one: bytes, two: bytes, three: bytes) -> str | None:
    """Which law `function` breaks on these values, with both sides; None if none. What the function raises passes through."""
    both: object = function(one, two)
    if not isinstance(both, bytes):
        return f"merge({one!r}, {two!r}) must be bytes, not {type(both).__name__}"
    for law, left, right in (
        ("gives the same twice", both, function(one, two)),
        ("is idempotent", function(one, one), one),
        ("is commutative", both, function(two, one)),
        ("is associative", function(both, three), function(one, function(two, three))),
    ):
        if left != right:
            return f"a merge {law}, but with {one!r}, {two!r}, {three!r}: {left!r} is not {right!r}"
    return None


class Merged(Siblings):
    """The siblings policy with a merge function in front of reads. Raises `LawBroken` if the function is none on `samples`.

    Samples are values as clients write them, the odd ones among them; at least two, and no more than `SAMPLES_MAX`.
    """

    __slots__ = ("function", "function_name")
    name = "merge"

    def __init__(self, function_name: str, function: Merge, samples: Iterable[bytes]) -> None:
        chosen = list(dict.fromkeys(samples))
        if not 2 <= len(chosen) <= SAMPLES_MAX:
            raise LawBroken(f"{function_name} needs 2 to {SAMPLES_MAX} different samples to be checked with, not {len(chosen)}")
        for triple in product(chosen, repeat=3):
            try:
                broken = broken_law(function, *triple)
            except Exception as error:
                raise LawBroken(f"{function_name} fails with {triple!r}: {error!r}") from error
            if broken is not None:
                raise LawBroken(f"{function_name}: {broken}")
        self.function_name = function_name
        self.function = function

    def read(self, record: Record, now_ms: int) -> Reading:
        """One value if the function takes the siblings, under the smallest of their dots, and for as long as the shortest lives;
        else the siblings, and why."""
        found = live(record, now_ms)
        if len(found) < 2:
            return super().read(record, now_ms)
        try:
            value: object = reduce(self.function, [sibling.value for sibling in found])
        except Exception as error:  # noqa: BLE001 - a user's function must not make a key unreadable
            return Reading(super().read(record, now_ms).cells, f"{self.function_name}: {error!r}")
        if not isinstance(value, bytes):
            return Reading(super().read(record, now_ms).cells, f"{self.function_name}: {type(value).__name__} is not bytes")
        ends = [sibling.expires_ms for sibling in found if sibling.expires_ms]
        return Reading((Cell(value, found[0].dot, min(ends, default=0)),))
