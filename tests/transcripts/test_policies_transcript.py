"""Replays policies.txt: lines with > are what happens to one key, the lines below each are what a replica then reads and holds.

After a deliberate change, run this file as a script from the project's root (PYTHONPATH=.:proto) and review what it prints.
"""

from __future__ import annotations

from pathlib import Path

from kvstore.core.policies.items import decode_item, decode_removed, decode_total
from kvstore.core.policies.operations import (
    Add,
    Assign,
    Cell,
    Delete,
    Discard,
    Event,
    Increment,
    Kind,
    Operation,
    Policy,
    Put,
    Remove,
)
from kvstore.core.policies.registry import POLICIES
from kvstore.core.versions import EMPTY, Record, Sibling, make_dot

TRANSCRIPT = Path(__file__).with_name("policies.txt")


class Session:
    """One key at as many replicas as are named; a2 is the second event that replica a minted."""

    def __init__(self) -> None:
        self.policy: Policy = POLICIES["siblings"]
        self.held: dict[str, Record] = {}
        self.minted: dict[str, int] = {}
        self.clock = 0

    def answer(self, command: str) -> list[str]:
        """The line that follows `> command`."""
        name, *words = command.split()
        if name == "key":  # key of policy set
            self.policy, self.held, self.minted = POLICIES[words[-1]], {}, {}
            return []
        if words[0] == "gets":  # b gets a's: the copy that a holds now
            record = self.policy.join(self.held.get(name, EMPTY), self.held.get(words[1].removesuffix("'s"), EMPTY))
        else:
            self.minted[name] = self.minted.get(name, 0) + 1
            self.clock += 10
            dot = make_dot(name.encode().rjust(12), self.minted[name])
            event = Event(dot, hlc=self.clock)
            record = self.policy.apply(self.held.get(name, EMPTY), self.operation(words), event)
        self.held[name] = record
        return [f"{name}  reads {self.read(record)}  holds {', '.join(map(self.item, record.siblings))}"]

    def operation(self, words: list[str]) -> Operation:
        """puts x | deletes | adds 5 | adds x | adds x to f | removes x [from f] | sets f to x | drops f"""
        field = words[3].encode() if len(words) > 3 else b""
        match words[0]:
            case "puts":
                return Put(words[1].encode())
            case "deletes":
                return Delete()
            case "adds" if words[1].lstrip("-").isdigit():
                return Increment(int(words[1]), field)
            case "adds":
                return Add(words[1].encode(), field)
            case "removes":
                return Remove(words[1].encode(), field)
            case "sets":
                return Assign(words[1].encode(), words[3].encode())
            case "drops":
                return Discard(words[1].encode())
        raise AssertionError(words)

    def read(self, record: Record) -> str:
        """What a client is told."""
        cells = self.policy.read(record, 0).cells
        return " ".join(self.cell(cell) for cell in cells) or "nothing"

    @staticmethod
    def cell(cell: Cell) -> str:
        """A value, with its field if it has one."""
        return f"{cell.field.decode()}:{cell.value.decode()}" if cell.field else cell.value.decode()

    def item(self, sibling: Sibling) -> str:
        """What is stored, under its dot."""
        dot = name(sibling.dot)
        if sibling.tombstone and not sibling.value:
            return f"{dot} deleted"
        if self.policy.name in ("siblings", "lww"):
            return f"{dot} {sibling.value.decode()}"
        item = decode_item(sibling.value)
        field = f"{item.field.decode()}:" if item.field else ""
        if item.kind is Kind.REMOVED:
            rows = decode_removed(item.payload).items()
            gone = [f"{total} of {name(key[1] + at.to_bytes(8, 'big'))}" for key, (at, total) in rows]
            fields = [f"{key[0].decode()}:" if key[0] else "" for key, _ in rows]
            return f"{dot} removed {' '.join(map(str.__add__, fields, gone))}"
        if item.kind is Kind.COUNTER:
            return f"{dot} {field}total {decode_total(item.payload)}"
        return f"{dot} {field}{item.payload.decode()}"


def name(dot: bytes) -> str:
    """a2 for the second event of a."""
    return f"{dot[:12].decode().strip()}{int.from_bytes(dot[12:], 'big')}"


def replay() -> list[str]:
    session, lines = Session(), []
    for line in TRANSCRIPT.read_text().splitlines():
        if line.startswith(">"):
            lines += [line, *(f"  {answer}" for answer in session.answer(line[1:].strip()))]
        elif not line.startswith("  "):
            lines.append(line)
    return lines


def test_policies_resolve_as_the_transcript_says() -> None:
    assert replay() == TRANSCRIPT.read_text().splitlines()


if __name__ == "__main__":
    print("\n".join(replay()))
