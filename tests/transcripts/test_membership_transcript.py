"""Replays membership.txt: lines with > are what happens to node n1, the lines below each are what it does, to the letter.

After a deliberate change, run this file as a script from the project's root (PYTHONPATH=.:proto) and review what it prints.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from random import Random

from kvstore.core.membership.detector import FailureDetector
from kvstore.core.membership.incarnation import LEASE
from kvstore.core.membership.messages import (
    Ack,
    Gossip,
    Instruction,
    Message,
    Nack,
    Ping,
    PingRequest,
    Reserve,
    RoundTrip,
    Send,
)
from kvstore.core.membership.suspicion import LAN
from kvstore.core.membership.table import Changed, Claim, State

TRANSCRIPT = Path(__file__).with_name("membership.txt")
# Gossip that no probe carries, and the exchange of whole tables, would fill the page.
TIMING = replace(LAN, gossip_nodes=0, sync_interval_ms=10_000_000, claims_per_message_max=4)


class Session:
    """One detector, and the numbers of the pings that it sent."""

    def __init__(self) -> None:
        self.detector: FailureDetector | None = None
        self.now_ms = 0
        self.pings: dict[str, int] = {}

    def answer(self, command: str) -> list[str]:
        """The lines that follow `> command`."""
        words = command.split()
        if words[0] == "start":  # start n1 beside n2 n3
            first = int(words[words.index("from") + 1]) if "from" in words else 0
            others = tuple(word for word in words[3:] if word.startswith("n"))
            self.now_ms, self.pings = 0, {}
            self.detector = FailureDetector(
                words[1], others, timing=TIMING, rng=Random(209), now_ms=0, incarnation=first, reserved=first + LEASE
            )
            return self.told(self.detector.tick(0))
        assert self.detector is not None
        if words[0] == "at":  # at 1500 ms
            self.now_ms = int(words[1])
            return self.told(self.detector.tick(self.now_ms))
        if words[0] == "until":  # until something happens
            while not (lines := self.told(self.detector.tick(self.now_ms))):
                self.now_ms = self.detector.wake_ms
            return lines
        if words[0] == "wait":
            return self.wait(words[-1])
        if words[0] == "reserved":
            return self.told(self.detector.reserved(self.now_ms, int(words[1])))
        if words[0] in {"slow", "quick"}:
            return self.told(self.detector.mark_slow(self.now_ms, words[1], slow=words[0] == "slow"))
        return self.told(self.detector.receive(self.now_ms, words[0], self.message(words[0], words[1:])))

    def wait(self, member: str) -> list[str]:
        """wait for n3: the others answer meanwhile, n3 does not, and all that is left out."""
        assert self.detector is not None
        while True:
            for instruction in self.detector.tick(self.now_ms):
                if isinstance(instruction, Changed):
                    return self.told([instruction])
                if isinstance(instruction, Send) and isinstance(instruction.message, Ping) and instruction.to != member:
                    self.detector.receive(self.now_ms, instruction.to, Ack(instruction.message.sequence, ()))
            self.now_ms = self.detector.wake_ms

    def message(self, sender: str, words: list[str]) -> Message:
        """n2 answers n3 | n2 has no answer of n3 | n2 pings | n2 asks for n3 | n2 says; perhaps: saying n3 suspect 0 by n4."""
        said = words[words.index("saying") + 1 :] if "saying" in words else []
        claims = tuple(
            Claim(said[at], State[said[at + 1].upper()], int(said[at + 2]), said[at + 4]) for at in range(0, len(said), 5)
        )
        match words[0]:
            case "answers":
                return Ack(self.pings[words[1]] if len(words) > 1 and words[1] in self.pings else self.pings[sender], claims)
            case "has":
                return Nack(self.pings[words[-1]], claims)
            case "pings":
                return Ping(7, "n1", claims)
            case "asks":
                return PingRequest(8, words[2], claims)
            case "says":
                return Gossip(claims)
        raise AssertionError(words)

    def told(self, instructions: list[Instruction]) -> list[str]:
        """What it does, a line each."""
        lines = []
        for instruction in instructions:
            match instruction:
                case Send(to, message):
                    lines.append(f"{self.now_ms:>6}  → {to}  {self.line(to, message)}")
                case Changed(member, before, after, incarnation, by):
                    lines.append(
                        f"{self.now_ms:>6}  {member} was {before.name.lower()} and is {after.name.lower()}, "
                        f"incarnation {incarnation}, says {by}"
                    )
                case Reserve(up_to):
                    lines.append(f"{self.now_ms:>6}  wants incarnations up to {up_to} kept durably")
                case RoundTrip(peer, took_ms):
                    lines.append(f"{self.now_ms:>6}  {peer} answered after {took_ms} ms")
        return lines

    def line(self, to: str, message: Message) -> str:
        """A message, and the claims that it carries."""
        text = ""
        match message:
            case Ping(sequence, target):
                self.pings[target] = sequence
                text = "are you there?"
            case PingRequest(_, target):
                text = f"please ping {target}"
            case Ack():
                text = "I am here" if message.sequence == 7 else "it answered"
            case Nack():
                text = "no answer yet, but I am here"
            case Gossip():
                text = "listen" if not message.sync else "this is what I believe"
        rumours = ", ".join(f"{claim.member} {claim.state.name.lower()} {claim.incarnation}" for claim in message.claims)
        return f"{text}  ({rumours})"


def replay() -> list[str]:
    session, lines = Session(), []
    for line in TRANSCRIPT.read_text().splitlines():
        if line.startswith(">"):
            lines += [line, *(f"  {answer}" for answer in session.answer(line[1:].strip()))]
        elif not line.startswith("  "):
            lines.append(line)
    return lines


def test_the_detector_does_what_the_transcript_says() -> None:
    assert replay() == TRANSCRIPT.read_text().splitlines()


if __name__ == "__main__":
    print("\n".join(replay()))
