"""Histories of registers for the tests of their checker: simulated ones that are right, and the verdict of trying every order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvchaos.checkers.linearizability.operations import Kind, Op, Value
from kvchaos.history import Event, History

ALL = ("read", "write", "cas", "delete", "put_if_absent", "increment")


@dataclass(frozen=True, slots=True)
class Done:
    """A call from `began` to `ended` (None: never told), and what was told: `value` of the invocation, `result` of its end."""

    began: int
    ended: int | None
    f: str
    value: Any = None
    type: str = "ok"
    result: Any = None
    key: str = "k"
    facts: tuple[tuple[str, Any], ...] = ()


def history_of(calls: Sequence[Done]) -> History:
    """Each call is a process of its own."""
    rows: list[tuple[int, int, int, Done]] = []
    for process, call in enumerate(calls):
        rows.append((call.began, 0, process, call))
        if call.ended is not None:
            rows.append((call.ended, 1, process, call))
    history = History({"promises": ["linearizable"]})
    for index, (at, ends, process, call) in enumerate(sorted(rows, key=lambda row: row[:3])):
        type_, value = (call.type, call.result) if ends else ("invoke", call.value)
        history.events.append(Event(index, at, process, type_, call.f, call.key, value, None, dict(call.facts) if ends else {}))
    return history


def atomic_history(
    rng: random.Random,
    *,
    operations: int,
    clients: int,
    keys: int = 1,
    kinds: Sequence[str] = ALL,
    unknown: float = 0.05,
    unknown_a_key: int = 8,
) -> list[Done]:
    """What clients of registers without faults are told: each operation takes place at a random point of its time, so this is
    linearizable. Written values are unique. Another key follows one on which `unknown_a_key` outcomes were unknown."""
    plans, free = [], [0.0] * clients
    for _ in range(operations):
        client = min(range(clients), key=free.__getitem__)
        began = free[client]
        point = began + rng.uniform(1, 100)
        ended = point + rng.uniform(1, 100)
        free[client] = ended + rng.uniform(1, 20)
        plans.append((point, int(began * 1000), int(ended * 1000)))
    held: dict[str, Any] = {}
    doubts: dict[int, int] = {}
    calls = []
    for serial, (_, began, ended) in enumerate(sorted(plans)):
        number = rng.randrange(keys)
        key = f"k{number}.{doubts.get(number, 0) // unknown_a_key}"
        f, in_doubt = rng.choice(list(kinds)), rng.random() < unknown
        if in_doubt:
            doubts[number] = doubts.get(number, 0) + 1
        calls.append(_perform(rng, held, f, f"v{serial}", Done(began, ended, f, key=key), in_doubt))
    return calls


def _perform(rng: random.Random, held: dict[str, Any], f: str, fresh: str, call: Done, in_doubt: bool) -> Done:
    now, key = held.get(call.key), call.key
    applied = not in_doubt or rng.random() < 0.5
    if f == "increment" and isinstance(now, str):
        f = "delete"  # nobody counts on from a text
    told: dict[str, Any] = {"began": call.began, "ended": call.ended, "f": f, "key": key}
    if f == "read":
        return Done(**told, result=now, type="fail" if in_doubt else "ok")
    if f in ("cas", "put_if_absent"):
        old = None if f == "put_if_absent" else now if rng.random() < 0.8 else "other"
        told["value"] = fresh if f == "put_if_absent" else [old, fresh]
        holds = old == now
        if applied and holds:
            held[key] = fresh
        if in_doubt:
            return Done(**told, type="info")
        facts = () if holds else (("found", now),) if rng.random() < 0.5 else (("mismatch", True),)
        return Done(**told, result=told["value"], type="ok" if holds else "fail", facts=facts)
    after = (now or 0) + 2 if f == "increment" else fresh if f == "write" else None
    if applied:
        held[key] = after
    value = 2 if f == "increment" else after
    facts = (("result", after),) if f == "increment" and not in_doubt and rng.random() < 0.5 else ()
    return Done(**told, value=value, result=value, type="info" if in_doubt else "ok", facts=facts)


def is_linearizable_by_trying(ops: Sequence[Op], initial: Value = None) -> bool:
    """Every order there is (Wing and Gong, 1993): for a handful of operations."""
    first_end = min((op.ended for op in ops), default=float("inf"))
    if all(op.is_unknown for op in ops):
        return True
    for number, op in enumerate(ops):
        if op.began > first_end:
            continue
        rest = [*ops[:number], *ops[number + 1 :]]
        if op.is_unknown and is_linearizable_by_trying(rest, initial):
            return True
        after = _after(op, initial)
        if after is not _NEVER and is_linearizable_by_trying(rest, after):
            return True
    return False


_NEVER = ("never",)


def _after(op: Op, value: Value) -> Value:
    if op.kind is Kind.READ:
        return value if value == op.old else _NEVER
    if op.kind is Kind.DIFFER:
        return value if value != op.old else _NEVER
    if op.kind is Kind.WRITE:
        return op.new
    if op.kind is Kind.CAS:
        return op.new if value == op.old else _NEVER
    if value is not None and not isinstance(value, int):
        return _NEVER
    total = (value or 0) + op.by
    return total if op.old in (None, total) else _NEVER
