"""Replays versions.txt: lines with > are what happens to one key, the lines below each are what replicas hold, to the letter.

A replica prints as `name  sees <vector>  holds <values>  knows <superseded ids>`; a3 is the third write that replica a coordinated.
After a deliberate change, run this file as a script from the project's root (PYTHONPATH=.) and review what it prints.
"""

from __future__ import annotations

from pathlib import Path

from kvstore.core.record import (
    decode,
    decode_context,
    floor_ms,
    read_siblings,
)
from kvstore.core.record_writes import (
    known_request,
    merge_records,
    mint,
    unseen,
)
from kvstore.core.versions import HORIZON, NOTHING, Context, Sibling, make_dot

TRANSCRIPT = Path(__file__).with_name("versions.txt")
RETRIES_MAX = 2


class Session:
    """One key at as many replicas as are named, and what clients were told."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.counters: dict[str, int] = {}
        self.epochs: dict[str, str] = {}
        self.tokens: dict[str, bytes] = {}
        self.ids: dict[bytes, str] = {}

    def answer(self, command: str) -> list[str]:
        """The lines that follow `> command`."""
        verb, *words = command.split()
        match verb:
            case "put" | "delete":
                return self.write(words[0], words[2], [] if len(words) < 4 else words[3:], deleted=verb == "delete")
            case "copy":
                source, target = words[0], words[2]
                record, held = self.held[source], self.held.get(target)
                self.held[target] = record if held is None else merge_records(held, record)
                return [self.line(target)]
            case "read":
                merged = self.held[words[0]]
                for name in words[1 : words.index("into")]:
                    merged = merge_records(merged, self.held[name])
                live, self.tokens[words[-1]] = read_siblings(merged, 0)
                return [
                    f"{words[-1]} reads {self.values(live)} and may say: seen {self.rows(decode_context(self.tokens[words[-1]]))}"
                ]
            case "crash":
                self.epochs[words[0]] = self.epochs.get(words[0], "") + "'"
                self.counters[words[0]] = 0
                del self.held[words[0]]
                return [f"{words[0]}  holds nothing and goes on as {words[0]}{self.epochs[words[0]]}"]
            case _:
                raise AssertionError(f"unknown command {verb}")

    def write(self, value: str, name: str, options: list[str], *, deleted: bool) -> list[str]:
        """`put VALUE at REPLICA [knowing READER | knowing nothing]`: the value is the request, so the same again is a retry."""
        issued_ms = int(value.lstrip("abcdefghijklmnopqrstuvwxyz") or 0)
        request_id = issued_ms.to_bytes(6, "big") + value.encode().rjust(10, b"_")
        self.ids[request_id] = value
        context = Context(overwrite=True)
        if options:
            context = NOTHING if options[1] == "nothing" else decode_context(self.tokens[options[1]])
        base = self.held.get(name)
        known = known_request(base, request_id, context)
        if known is not None:
            return [f"known: {value} is {self.dot(known.dot)} already"]
        if base is not None and issued_ms <= floor_ms(base):
            return [f"refused: {value} may have been executed unknown to this replica"]
        if unseen(base, context):
            return [f"not yet: {name} has to fetch {', '.join(map(self.dot, unseen(base, context)))} first"]
        self.counters[name] = self.counters.get(name, 0) + 1
        actor = f"{name}{self.epochs.get(name, '')}".encode().ljust(12, b"_")
        write = Sibling(make_dot(actor, self.counters[name]), request_id, 0, 0, deleted, b"" if deleted else value.encode())
        minted = mint(base, write, context, cutoff_ms=0, retries_max=RETRIES_MAX)
        self.held[name], self.tokens[value] = minted.record, minted.context
        return [self.line(name)]

    def line(self, name: str) -> str:
        """What a replica holds."""
        record = decode(self.held[name])
        record.check()
        known = " ".join(sorted(self.ids[request_id] for request_id in record.retries)) or "-"
        floor = f"  may not know ids up to {floor_ms(self.held[name])}" if floor_ms(self.held[name]) else ""
        return f"{name}  sees {self.rows(Context(record.vector))}  holds {self.values(record.siblings)}  knows {known}{floor}"

    def values(self, siblings: tuple[Sibling, ...] | list[Sibling]) -> str:
        """Each sibling with its dot."""
        shown = [f"{self.ids[held.request_id] if not held.tombstone else 'deleted'}({self.dot(held.dot)})" for held in siblings]
        return " ".join(shown) or "nothing"

    def rows(self, context: Context) -> str:
        """A vector, and dots beyond it."""
        rows = [self.dot(make_dot(actor, counter)) for actor, counter in sorted(context.vector.items()) if actor != HORIZON]
        return " ".join([*(f"..{row}" for row in rows), *(self.dot(dot) for dot in sorted(context.dots))]) or "-"

    @staticmethod
    def dot(dot: bytes) -> str:
        """a3 for the third write of replica a."""
        return f"{dot[:12].rstrip(b'_').decode()}{int.from_bytes(dot[12:], 'big')}"


def replay(text: str) -> str:
    """`text` with the answers that the code gives now."""
    session, lines = Session(), list[str]()
    for line in text.splitlines():
        if line == "> new":
            session = Session()
            lines.append(line)
        elif line.startswith(">"):
            lines += [line, *(f"  {answer}" for answer in session.answer(line[1:].strip()))]
        elif not line.startswith("  "):
            lines.append(line)
    return "\n".join(lines) + "\n"


def test_the_transcript_is_what_happens() -> None:
    text = TRANSCRIPT.read_text("utf-8")
    assert replay(text) == text


if __name__ == "__main__":
    print(replay(TRANSCRIPT.read_text("utf-8")), end="")
