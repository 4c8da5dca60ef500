"""An advice as lines for people, and as a row for programs. The tables of docs/consistency.md are made of the same words."""

from __future__ import annotations

from typing import Any

from kvclient.dial.advice import Advice
from kvclient.dial.costs import Cost
from kvclient.dial.setting import LINEARIZABLE, Kept, Level, Setting
from kvclient.dial.staleness import Staleness

LABEL_WIDTH = 11


def lines(advice: Advice) -> list[str]:
    """What `kv dial` prints."""
    setting, words = advice.setting, advice.promise.value
    out = [heading(setting), ""]
    out += _labelled("promise", [words.title, words.says, f"but {words.leaves}", f"in the literature: {words.literature}"])
    out += _labelled("away", [_away(advice, count) for count in range(setting.n + 1)])
    if advice.zone is not None:
        out += _labelled("a zone", [f"writes / reads: {advice.zone}"])
    out += _labelled("a cut", [_side(setting, "larger", advice.sides[0]), _side(setting, "smaller", advice.sides[1])])
    out += _labelled("disks", [_disks(advice)])
    out += _labelled("cost", _cost(setting, advice.cost))
    out += _labelled("staleness", _staleness(advice))
    return out


def heading(setting: Setting) -> str:
    """The setting in one line."""
    if setting.mode == LINEARIZABLE:
        how = f"writes are decided by {setting.w} of {_replicas(setting.n)}, {setting.read} reads"
    else:
        read = f"{setting.read} reads of {setting.r}" if setting.read is Level.ATOMIC else f"reads of {setting.r}"
        how = f"writes to {setting.w} of {_replicas(setting.n)}, {read}"
        exact = setting.read is not Level.PRESET and setting.write is not Level.PRESET
        if not setting.sloppy:
            how += "; exactly so, or refused"
        else:
            how += "; stand-ins may be among them" if exact else "; fewer or stand-ins where they are away"
    return f"{setting.preset} ({setting.mode}): {how}"


def row(advice: Advice) -> dict[str, Any]:
    """The same for programs."""
    setting, words, stale = advice.setting, advice.promise.value, advice.staleness
    return {
        "preset": setting.preset,
        "mode": setting.mode,
        "n": setting.n,
        "r": setting.r,
        "w": setting.w,
        "read": setting.read,
        "write": setting.write,
        "sloppy": setting.sloppy,
        "kept": setting.kept,
        "promise": advice.promise.name.lower(),
        "literature": words.literature,
        "says": words.says,
        "leaves": words.leaves,
        "away": [{"writes": each.writes, "reads": each.reads} for each in advice.away],
        "zone": None if advice.zone is None else {"writes": advice.zone.writes, "reads": advice.zone.reads},
        "survived_disks": advice.survived_disks,
        "round_trips": advice.cost._asdict(),
        "staleness": None if stale is None else _stale_row(stale),
    }


def _stale_row(stale: Staleness) -> dict[str, Any]:
    return {
        "fresh_at_once": stale.fresh_at_once,
        "window_ms": round(stale.window_ms, 3),
        "misses_last_versions_p": [round(each, 6) for each in stale.old_versions_p],
    }


def _labelled(label: str, rows: list[str]) -> list[str]:
    return [f"{label if not at else '':<{LABEL_WIDTH}}{each}" for at, each in enumerate(rows)]


def _away(advice: Advice, away: int) -> str:
    who = {0: "no replica", 1: "one replica"}.get(away, f"{away} replicas")
    return f"{who:<12} writes {advice.away[away].writes:<9} reads {advice.away[away].reads}"


def _side(setting: Setting, name: str, outcome: Any) -> str:
    larger = setting.n // 2 + 1
    count = larger if name == "larger" else setting.n - larger
    return f"the side of {count}: writes {outcome.writes:<9} reads {outcome.reads}"


def _disks(advice: Advice) -> str:
    lost, kept = advice.survived_disks, advice.setting.kept
    if kept is Kept.MEMORY:
        return "no disk has it: a write goes when there is no room for it, or with the processes of the replicas"
    if kept is Kept.UNSYNCED:
        took = "the node" if advice.setting.w == 1 else f"all {advice.setting.w} nodes"
        return f"an acknowledged write was written and not synced: lost if the power goes at {took} that took it"
    if not lost:
        return "an acknowledged write is on one disk until the others have it: lost with that disk"
    return f"an acknowledged write survives the loss of {lost} of the {advice.setting.w} disks that took it"


def _cost(setting: Setting, cost: Cost) -> list[str]:
    write = f"write: {_trips(cost.write)}"
    read = f"read: {_trips(cost.read)}"
    if cost.write_max > cost.write:
        write += f", up to {cost.write_max} after a take-over"
    if cost.read_max > cost.read:
        why = {
            Level.ATOMIC: "where replicas differ",
            Level.TIMELINE: "where one replica cannot prove that it is fresh",
            Level.BOUNDED: "where one replica cannot prove that it is fresh",
        }.get(setting.read, "after a take-over")
        read += f", up to {cost.read_max} {why}"
    return [write, read]


def _trips(count: int) -> str:
    return {0: "no round trip between nodes", 1: "1 round trip"}.get(count, f"{count} round trips")


def _staleness(advice: Advice) -> list[str]:
    setting, stale = advice.setting, advice.staleness
    if setting.mode == LINEARIZABLE:
        return {
            Level.TIMELINE: ["up to the cluster's timeline_bound_s"],
            Level.BOUNDED: ["up to the bound of the call"],
        }.get(setting.read, ["none"])
    if setting.kept is Kept.MEMORY:
        return ["a read may miss what was evicted, and be old where a replica has missed a write"]
    if setting.r + setting.w > setting.n:
        return ["none while nothing says degraded" if setting.sloppy else "none"]
    if stale is None:
        return ["reads through another replica may be old; --round-trip-ms or --measured tells for how long"]
    return [
        f"right after a write {stale.fresh_at_once:.1%} of the reads through another replica show it,",
        f"after {stale.window_ms:,.1f} ms 99.9% do (PBS; the node that took the write shows it at once)",
    ]


def _replicas(count: int) -> str:
    return "1 replica" if count == 1 else f"{count} replicas"
