"""Replays quorum.txt: lines with > are commands, the lines below each are the tally's answer, to the letter.

After a deliberate change, run this file as a script from the project's root (PYTHONPATH=.:proto) and review what it prints.
"""

from __future__ import annotations

from pathlib import Path

from kvstore.core.quorum import Tally

TRANSCRIPT = Path(__file__).with_name("quorum.txt")


class Session:
    """The tally so far; each command answers with lines."""

    def __init__(self) -> None:
        self.tally: Tally | None = None
        self.names: list[str] = []

    def answer(self, command: str) -> list[str]:
        verb, *words = command.split()
        if verb == "ask":  # ask n1 n2 n3 need=2 keys=a,b
            options = dict(word.split("=") for word in words if "=" in word)
            self.names = options["keys"].split(",")
            self.tally = Tally([word for word in words if "=" not in word], int(options["need"]), len(self.names))
            return self.told()
        assert self.tally is not None
        if verb == "ok":  # ok n2, or: ok n2 but a,b
            refused = words[2].split(",") if len(words) > 1 else []
            self.tally.record(words[0], [self.names.index(name) for name in refused])
        elif verb == "fail":
            self.tally.fail(words[0])
        else:
            raise AssertionError(f"unknown command {verb}")
        return self.told()

    def told(self) -> list[str]:
        """What is newly decided, and what is still open."""
        assert self.tally is not None
        tally, lines = self.tally, []
        for outcome, positions in tally.settle():
            chosen = list(range(len(self.names))) if positions is None else positions
            who = " ".join(tally.answered_for(chosen[0])) or "nobody"
            lines.append(f"{','.join(self.names[at] for at in chosen)} {outcome.value}, answered by {who}")
        undecided = tally.undecided()
        waiting = range(len(self.names)) if undecided is None else undecided
        if waiting:
            lines.append(f"{','.join(self.names[at] for at in waiting)} pending, waiting for {' '.join(tally.waiting_in_order)}")
        else:
            lines.append("all decided")
        return lines


def replay() -> list[str]:
    session, lines = Session(), []
    for line in TRANSCRIPT.read_text().splitlines():
        if line.startswith(">"):
            lines += [line, *(f"  {answer}" for answer in session.answer(line[1:]))]
        elif not line.startswith("  "):
            lines.append(line)
    return lines


def test_the_tally_decides_as_the_transcript_says() -> None:
    assert replay() == TRANSCRIPT.read_text().splitlines()


if __name__ == "__main__":
    print("\n".join(replay()))
