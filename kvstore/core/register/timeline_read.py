"""What an owner answers alone of a register, when its group is proven to be fresh. Pure; the proof is `Progress.proof`."""

from __future__ import annotations

from kvstore.core.register import held as registers
from kvstore.core.register import payload as payloads
from kvstore.core.register.acceptor import Acceptor
from kvstore.core.register.progress import Progress


def is_answerable(payload: bytes | None, seen: bytes, now_ms: int) -> bool:
    """Whether what is shown may be told: not when it has expired, for its tombstone is committed first (safety rule 10), and not
    when the session has `seen` a later version (rule 20)."""
    if payload is None:
        return not seen
    return not payloads.has_expired(payload, now_ms) and payloads.version(payload) >= seen


def shown(
    store_key: bytes, held: bytes | None, progress: Progress, acceptor: Acceptor, proof: tuple[float, int]
) -> tuple[bool, bytes | None]:
    """Whether what is committed of a key is known here, and its payload. `proof`: that the group is as fresh as it has to be.

    What is accepted is shown if it is durable and known to be committed. Else what it came over, if that was the latest when the
    group others were asked: of what lies between, nobody knows whether it was answered already.
    """
    if held is None:
        return True, None
    if progress.is_durable(store_key) and acceptor.is_committed(store_key, held):
        progress.was_shown(store_key)
        return True, registers.accepted(held)
    below = registers.beside(held) if progress.changed_after(store_key, proof) else None
    return below is not None, below
