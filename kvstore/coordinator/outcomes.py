"""What a round tells its client: receipts for what was met, typed errors for what was not. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from kvproto.columns import GroupReply, Kind, Receipt
from kvproto.errors import BehindSession, DeadlineExceeded, KvError, Overloaded, QuorumUnreachable
from kvstore.coordinator.batch import SubBatch
from kvstore.core.quorum import Tally

STAND_INS_FULL_RETRY_AFTER_S = 1.0

Emit = Callable[[GroupReply, int], None]
"""Takes a reply and the number of operations it answers."""


def receipt(
    sub: SubBatch,
    acknowledged: Sequence[str],
    *,
    now_ms: int,
    durable: bool,
    explanation: Sequence[str] = (),
    hedged: bool = False,
    degraded: bool = False,
    hinted: bool = False,
    needed: int | None = None,
) -> Receipt:
    """What was achieved for the operations that `acknowledged` had answered when the reply left. `degraded`: they are fewer than
    the preset asks for. `hinted`: there are stand-ins among them. `needed`: fewer than the level
    takes, where it is proven that so many will do."""
    view, info = sub.view, sub.space.info
    zones = view.zones
    return Receipt(
        level=sub.group.level,
        needed=sub.need if needed is None else needed,
        n=info.n,
        n_asked=info.n_asked,
        acknowledged=tuple(acknowledged),
        zones=tuple([zones.get(node, "") for node in acknowledged]),
        durable=durable and info.is_durable,
        degraded=degraded,
        hinted=hinted,
        hedged=hedged,
        ring_epoch=view.ring.epoch,
        coordinator=view.me,
        server_time_ms=now_ms,
        explanation=tuple(explanation),
    )


def out_of_reach(sub: SubBatch, unreachable: Sequence[str]) -> QuorumUnreachable:
    """Why a write is refused before anything of it is written."""
    reached = [node for node in sub.counting if node not in unreachable]
    return QuorumUnreachable(
        f"{len(reached)} of the {sub.need} replicas needed can be reached (not {', '.join(unreachable)}): nothing was written",
        needed=sub.need,
    )


def not_met(
    sub: SubBatch, tally: Tally, position: int, *, timed_out: bool, applied: bool, rebuilding: Collection[str] = ()
) -> KvError:
    """Why the level was not reached: too few can still answer, or too little time. `applied`: our own replica may hold the write;
    `rebuilding`: home replicas that answer, and do not count."""
    received, contacted = tally.received(position), len(tally.targets)
    what = "answer" if sub.group.kind is Kind.GET else "acknowledge"
    if timed_out:
        text = f"{received} of the {sub.need} replicas needed did {what} before the deadline ({contacted} were asked)"
        cls: type[KvError] = DeadlineExceeded
    else:
        gone = ", ".join([node for node in tally.failed if node not in rebuilding]) or "none"
        if not tally.failed:
            gone = "a replica refused"
        able = received + len(tally.waiting)
        text = f"{able} of the {sub.need} replicas needed can {what} ({contacted} were asked; unreachable: {gone})"
        if rebuilding:
            text += f"; {', '.join(sorted(rebuilding))} may have lost records, and counts again once the others have been heard"
        cls = QuorumUnreachable
    return cls(text, needed=sub.need, received=received, contacted=contacted, may_have_applied=applied)


def not_written_back(sub: SubBatch, tally: Tally, position: int) -> QuorumUnreachable:
    """Why an atomic read is not answered although enough have answered it."""
    return QuorumUnreachable(
        f"what {tally.received(position)} replicas answered could not be made to be held by {sub.need} of them in time: "
        "not answered, because a later read might not show it",
        needed=sub.need,
        received=tally.received(position),
        contacted=len(tally.targets),
    )


def behind_session(sub: SubBatch, tally: Tally, position: int) -> BehindSession:
    """Why a session's read is not answered."""
    return BehindSession(
        "no replica that can be reached has what this session has seen of the key: try again, or read without the session",
        needed=sub.need,
        received=tally.received(position),
        contacted=len(tally.targets),
    )


def nobody_holds(sub: SubBatch, tally: Tally, position: int) -> Overloaded:
    """Why a preset fails although there are stand-ins: they hold too much for others already. What our own replica has stored of
    the write stays, so it is unknown."""
    received = tally.received(position)
    return Overloaded(
        f"{received} of the {sub.need} replicas needed did acknowledge; no stand-in can hold more for {', '.join(tally.failed)}",
        needed=sub.need,
        received=received,
        contacted=len(tally.targets),
        retry_after_s=STAND_INS_FULL_RETRY_AFTER_S,
        subject="hints",
        may_have_applied=True,
    )
