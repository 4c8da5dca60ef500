"""Who answers for each home replica of a round: itself, or a stand-in while it cannot be reached (Dynamo, SOSP'07, section 4.6).

Pure: given who can be reached and who is called dead, `plan_seats` decides; a round asks for a substitute when somebody fails it.
Each stand-in sits once, so that answers that count are copies on distinct nodes. A node that coordinates without being a home
replica takes the first seat that is free: it mints, so it stores (safety rule 1).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from kvstore.cluster.view import OwnerSet


class Seats:
    """Holders by home replica. `absent`: homes in whose place nobody answers. `passed_over`: homes that may be there all the same,
    and take their own seat again when no stand-in is left for it."""

    __slots__ = ("_spare", "_stood_in", "absent", "holders", "homes", "passed_over", "sloppy")

    def __init__(self, homes: tuple[str, ...], spare: Iterable[str], *, sloppy: bool) -> None:
        self.homes = homes
        self.holders: dict[str, str] = {}
        self.absent: list[str] = []
        self.passed_over: set[str] = set()
        self.sloppy = sloppy
        self._spare = list(spare)
        self._stood_in: dict[str, str] = {}  # also those who have left their seat: their answer may still be on its way

    def __len__(self) -> int:
        """How many nodes answer."""
        return len(self.holders)

    def home_of(self, node: str) -> str:
        """In whose place `node` answers; itself, if it is a home replica."""
        return self._stood_in.get(node, node)

    def fill(self, home: str) -> str:
        """The next stand-in takes the seat of `home`, or itself if it was passed over; "" when there is nobody left."""
        self.holders.pop(home, None)
        if not self._spare and home in self.passed_over:
            self.passed_over.remove(home)
            self.holders[home] = home
            return home
        if not self._spare:
            if home not in self.absent:
                self.absent.append(home)
            return ""
        holder = self.holders[home] = self._spare.pop(0)
        self._stood_in[holder] = home
        return holder

    def reseat(self, home: str, holder: str) -> None:
        """`holder`, who had the seat of `home` before, has it again: it is asked once more, because there is nobody else."""
        assert self.home_of(holder) == home and home not in self.holders
        self.holders[home] = holder
        if home in self.absent:
            self.absent.remove(home)

    @property
    def has_spare(self) -> bool:
        """Whether a stand-in is left."""
        return bool(self._spare)

    @property
    def stand_ins(self) -> list[tuple[str, str]]:
        """(stand-in, home replica) of every seat that is not taken by its owner."""
        return [(holder, home) for home, holder in self.holders.items() if holder != home]


def plan_seats(
    owners: OwnerSet, me: str, is_reachable: Callable[[str], bool], *, sloppy: bool, dead: Collection[str] = ()
) -> Seats:
    """The seats as of now. Without `sloppy` homes that cannot be reached stay absent.

    Those that are only called `dead` may be there all the same, so they are replaced where there is somebody else, and keep their
    seat where there is not: an opinion never makes a round fail, or fewer copies, where the node would have answered.
    """
    spare = [node for node in owners.stand_ins if node != me and is_reachable(node) and node not in dead] if sloppy else []
    if sloppy and not owners.includes_me:
        spare.insert(0, me)
    seats = Seats(owners.nodes, spare, sloppy=sloppy)
    called_dead: list[str] = []
    for home in owners.nodes:
        if home != me and not is_reachable(home):
            seats.fill(home)
        else:
            seats.holders[home] = home
            if home in dead:
                called_dead.append(home)
    # After the others: what there is of stand-ins goes first to the seats of those that cannot be asked at all.
    for home in called_dead:
        if seats.has_spare:
            seats.fill(home)
            seats.passed_over.add(home)
    return seats
