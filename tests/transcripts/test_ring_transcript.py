"""Replays ring.txt: lines with > are commands, the lines below each are the planner's answer, to the letter.

Hashes are part of it, so it also pins plans across processes, machines and versions: during a rolling upgrade two versions plan
alike. After a deliberate change, run this file as a script from the project's root (PYTHONPATH=.:proto) and review what it prints.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from kvstore.core.ring import Member, Ring
from kvstore.core.ring_planner import plan_moves, plan_ring

TRANSCRIPT = Path(__file__).with_name("ring.txt")


class Session:
    """The ring so far; each command answers with lines."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.partitions = self.replicas = 0
        self.ring: Ring | None = None

    def answer(self, command: str) -> list[str]:
        verb, *words = command.split()
        match verb:
            case "cluster":
                options = dict(word.split("=") for word in words if "=" in word)
                self.partitions, self.replicas, self.ring = int(options["partitions"]), int(options["replicas"]), None
                self.members = {member.id: member for member in map(member_of, words) if "=" not in member.id}
                return self.plan()
            case "join" | "change":
                self.members.update((member.id, member) for member in map(member_of, words))
                return self.plan()
            case "leave":
                for node_id in words:
                    del self.members[node_id]
                return self.plan()
            case "swap":
                del self.members[words[0]]
                return self.answer(f"join {words[1]}")
            case "owners":
                return self.owners()
            case "key":
                assert self.ring is not None
                partition = self.ring.partition_of(words[0].encode())
                return [f"partition {partition}: {' '.join(self.ring.owners_of(partition))}"]
            case _:
                raise AssertionError(f"unknown command {verb}")

    def plan(self) -> list[str]:
        old = self.ring
        new = plan_ring(
            list(self.members.values()),
            partitions=self.partitions,
            replicas=self.replicas,
            previous=old,
            epoch=1 if old is None else old.epoch + 1,
        )
        new.check()
        self.ring = new
        firsts = Counter(new.owners_of(partition)[0] for partition in range(new.partitions))
        lines = [f"epoch {new.epoch}, hash {new.hash:016x}, {new.replicas} owners each"]
        for member in new.members:
            place = f" in zone {member.zone}" if member.zone else ""
            lines.append(f"{member.id}{place} owns {len(new.partitions_of(member.id))}, coordinates {firsts[member.id]}")
        return lines if old is None else lines + moves(old, new)

    def owners(self) -> list[str]:
        assert self.ring is not None
        return [f"{partition:2}: {' '.join(self.ring.owners_of(partition))}" for partition in range(self.ring.partitions)]


def member_of(word: str) -> Member:
    """`id`, `id@zone`, `id*weight` or `id@zone*weight`."""
    name, _, weight = word.partition("*")
    node_id, _, zone = name.partition("@")
    return Member(node_id, zone=zone, weight=int(weight or 1))


def moves(old: Ring, new: Ring) -> list[str]:
    changes = plan_moves(old, new)
    gained = sum(len(move.gained) for move in changes)
    return [
        f"{gained} of {new.partitions * new.replicas} slots gained in {len(changes)} partitions",
        *(
            f"{move.partition:2}: {' '.join([f'+{node}' for node in move.gained] + [f'-{node}' for node in move.lost])}"
            for move in changes
        ),
    ]


def replay(transcript: str) -> str:
    """The transcript as the code would write it: comments, blank lines and commands kept, answers made anew."""
    session, lines = Session(), []
    for line in transcript.splitlines():
        if line.startswith(">"):
            lines += [line, *(f"  {reply}" for reply in session.answer(line[1:]))]
        elif not line.startswith(" "):
            lines.append(line)
    return "\n".join(lines) + "\n"


def test_the_planner_answers_as_the_transcript_says() -> None:
    transcript = TRANSCRIPT.read_text(encoding="utf-8")
    assert transcript.count("\n> ") >= 10, "the transcript is there"
    assert replay(transcript) == transcript


if __name__ == "__main__":
    print(replay(TRANSCRIPT.read_text(encoding="utf-8")), end="")
