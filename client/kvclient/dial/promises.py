"""What a setting promises, under the name that the literature has for it, and what it does not promise.

Names: eventual consistency (Vogels, 2009), regular register (Lamport, 1986), no new-old inversion and the read that writes back
(Attiya, Bar-Noy and Dolev, 1995), linearizability (Herlihy and Wing, 1990), timeline consistency (Cooper et al., PNUTS, 2008),
bounded staleness (Terry, 2013). Which of them holds when is safety rule 12's.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from kvclient.dial.setting import LINEARIZABLE, Kept, Level, Setting


class Words(NamedTuple):
    """A promise's name, what it is called in the literature, what it says, and what it leaves open."""

    title: str
    literature: str
    says: str
    leaves: str


class Promise(Enum):
    """From the weakest to the strongest of each mode."""

    CACHE = Words(
        "a cache",
        "eventual consistency (Vogels 2009), of what is there",
        "what is found was written, and what was deleted or superseded does not come back once replicas can reach each other",
        "nothing acknowledged is promised to stay: not found says nothing, and a read may be old",
    )
    EVENTUAL = Words(
        "eventual",
        "eventual consistency (Vogels 2009)",
        "replicas come to agree; what was acknowledged is kept, concurrent writes as siblings",
        "a read may be old",
    )
    REGULAR_UNLESS_DEGRADED = Words(
        "regular while nothing says degraded",
        "regular register (Lamport 1986), while every receipt is neither degraded nor hinted",
        "a read that begins after a write was acknowledged shows it, or what superseded it",
        "beside a fault that receipts tell of, a read may be old",
    )
    REGULAR = Words(
        "regular",
        "regular register (Lamport 1986)",
        "a read that begins after a write was acknowledged shows it, or what superseded it",
        "beside a write under way two reads may show new, then old",
    )
    ATOMIC = Words(
        "regular, and never un-seen",
        "regular register without new-old inversion (Attiya, Bar-Noy, Dolev 1995)",
        "as regular, and what one such read showed no later one misses",
        "writes do not compete for one order: concurrent ones are siblings",
    )
    UNSEEN_ONLY = Words(
        "never un-seen",
        "monotonic reads over all clients (Attiya, Bar-Noy, Dolev 1995, the read alone)",
        "what one such read showed no later one misses",
        "a read may miss a write that fewer than n - r + 1 replicas acknowledged",
    )
    TIMELINE = Words(
        "timeline",
        "timeline consistency (Cooper et al. 2008)",
        "all replicas go through the same values in the same order; a session never goes back",
        "a read may be old, up to the staleness bound",
    )
    BOUNDED = Words(
        "bounded staleness",
        "bounded staleness (Terry 2013)",
        "as timeline, and no older than the bound that was asked for",
        "within the bound a read may be old",
    )
    LINEARIZABLE = Words(
        "linearizable",
        "linearizability (Herlihy and Wing 1990)",
        "as if there were one copy, and every operation happened at one instant between its call and its answer",
        "nothing about two keys together",
    )

    @property
    def title(self) -> str:
        """Its short name."""
        return self.value.title

    @property
    def literature(self) -> str:
        """Where the name is from."""
        return self.value.literature


def promise_of(setting: Setting) -> Promise:
    """What reads may rely on when every read and write of the key is made with this setting."""
    if setting.mode == LINEARIZABLE:
        return {Level.TIMELINE: Promise.TIMELINE, Level.BOUNDED: Promise.BOUNDED}.get(setting.read, Promise.LINEARIZABLE)
    if setting.kept is Kept.MEMORY:
        return Promise.CACHE
    overlap = setting.r + setting.w > setting.n
    if setting.read is Level.ATOMIC:
        strict = setting.write is Level.COUNT and not setting.sloppy
        return Promise.ATOMIC if overlap and strict else Promise.UNSEEN_ONLY
    if not overlap:
        return Promise.EVENTUAL
    if setting.sloppy:
        return Promise.REGULAR_UNLESS_DEGRADED
    # Whoever hears every home replica misses nothing that another read has shown: it is on a disk of one of them.
    return Promise.ATOMIC if setting.r == setting.n else Promise.REGULAR
