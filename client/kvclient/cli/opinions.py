"""What the nodes think of each other, for `kv status`: who is doubted by whom, and every opinion as a row."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvproto.columns import NodeStatus

ALIVE = "alive"


def doubts(rows: Iterable[NodeStatus]) -> dict[str, dict[str, list[str]]]:
    """By node: each state but alive that others see it in, and who they are."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for opinion in row.opinions:
            if opinion.state != ALIVE:
                found.setdefault(opinion.id, {}).setdefault(opinion.state, []).append(row.node_id)
    return found


def judged(rows: Sequence[NodeStatus]) -> list[NodeStatus]:
    """The rows with the state that most of the others agree on: slow or suspect; whoever answers us is not dead, whatever they
    say. What does not answer stays dead."""
    answering = sum(bool(row.opinions) for row in rows)
    doubted = doubts(rows)
    result = []
    for row in rows:
        doubters = doubted.get(row.node_id, {})
        others = answering - bool(row.opinions)
        gone = len(doubters.get("suspect", [])) + len(doubters.get("dead", []))
        state = row.state
        if state == ALIVE and 2 * gone > others:
            state = "suspect"
        elif state == ALIVE and 2 * (gone + len(doubters.get("slow", []))) > others:
            state = "slow"
        result.append(replace(row, state=state))
    return result


def seen_as(doubters: dict[str, list[str]]) -> str:
    """In words; "" when nobody doubts it."""
    return "; ".join(f"{state} by {', '.join(nodes)}" for state, nodes in sorted(doubters.items()))


def opinion_rows(rows: Iterable[NodeStatus]) -> list[dict[str, Any]]:
    """A row an opinion: `node` takes `peer` for `state`."""
    found = []
    for row in rows:
        for opinion in row.opinions:
            plain = asdict(opinion)
            found.append({"node": row.node_id, "peer": plain.pop("id"), **plain})
    return found
