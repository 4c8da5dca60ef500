"""The story of one round, told from what was noted as it went: whom it waited for, and for how much of the time. Pure; for the slow
log."""

from __future__ import annotations

from collections.abc import Sequence

from kvstore.transport.peers import Chunk


def tell_story(
    asked: Sequence[Chunk], own: tuple[str, float] | None, started_s: float, now_s: float
) -> tuple[str, float, dict[str, object]]:
    """Who kept a round waiting, for how long, and the milliseconds of everybody asked. Whoever was heard last decided it; unless
    some were not heard at all and nobody else for long, then it was they. `own`: our node, and when our own disk was done; times
    are of the loop."""
    replicas: dict[str, object] = {}
    last, who = 0.0, ""
    if own is not None:
        node, heard_s = own
        replicas[node] = {"disk_ms": _ms(heard_s - started_s)}
        last, who = heard_s, f"disk of {node}"
    silent: list[str] = []
    for chunk in asked:
        queued_s = (chunk.sent_s or now_s) - started_s
        if not chunk.heard_s:
            silent.append(chunk.node)
            replicas[chunk.node] = {"queued_ms": _ms(queued_s), "silent_ms": _ms(now_s - chunk.sent_s) if chunk.sent_s else 0.0}
            continue
        answered_s = chunk.heard_s - (chunk.sent_s or started_s)
        facts: dict[str, object] = {"queued_ms": _ms(queued_s if chunk.sent_s else 0.0), "answered_ms": _ms(answered_s)}
        if chunk.disk_ms:
            facts["disk_ms"] = chunk.disk_ms
        if chunk.error is not None:
            facts["error"] = chunk.error.code.name.lower()
        replicas[chunk.node] = facts
        if chunk.heard_s >= last:
            last, who = chunk.heard_s, _why_late(chunk, queued_s if chunk.sent_s else 0.0, answered_s)
    if silent and now_s - last > last - started_s:
        return f"no answer of {', '.join(silent)}", now_s - started_s, replicas
    return who, last - started_s, replicas


def _why_late(chunk: Chunk, queued_s: float, answered_s: float) -> str:
    if queued_s > answered_s:
        return f"queue to {chunk.node}"
    return f"disk of {chunk.node}" if chunk.disk_ms > answered_s * 500 else chunk.node


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
