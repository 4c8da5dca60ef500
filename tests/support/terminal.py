"""A program at a terminal: what it shows can be waited for, and keys can be pressed."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

PATIENCE_S = 30.0
ESCAPES = re.compile(r"\x1b(?:\[[0-9;?]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9]|[=>])")
# So that Ctrl-C typed here is a signal there.
TAKE_THE_TERMINAL = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
ASKS_FOR_CURSOR = b"\x1b[6n"


class Terminal:
    """Runs `command` with a terminal on all three streams; a context manager that ends it."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], *, columns: int = 100) -> None:
        self._mine, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", TAKE_THE_TERMINAL, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment, "TERM": environment.get("TERM", "xterm-256color")},
            start_new_session=True,
        )
        os.close(theirs)
        self._text = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        os.close(self._mine)

    def press(self, keys: str) -> None:
        """Types."""
        os.write(self._mine, keys.encode())

    def until(self, pattern: str) -> str:
        """Waits until what has been shown since the last call matches; returns it, up to the match's end."""
        ends_s = time.monotonic() + PATIENCE_S
        while (found := re.search(pattern, self._text)) is None:
            if not self._read(ends_s - time.monotonic()):
                raise AssertionError(f"{pattern!r} was not shown, but: {self._text!r}")
        shown, self._text = self._text[: found.end()], self._text[found.end() :]
        return shown

    def end(self) -> int:
        """Waits for the program's end; its exit code."""
        ends_s = time.monotonic() + PATIENCE_S
        while self._read(ends_s - time.monotonic()):
            pass
        return self.process.wait(timeout=PATIENCE_S)

    def _read(self, patience_s: float) -> bool:
        """Takes what is there next; False at the program's end, or when the patience is over."""
        ready, _, _ = select.select([self._mine], [], [], max(0.0, patience_s))
        try:
            data = os.read(self._mine, 65536) if ready else b""
        except OSError:  # how Linux tells that the other side is closed
            data = b""
        if ASKS_FOR_CURSOR in data:
            os.write(self._mine, b"\x1b[1;1R")
        self._text += ESCAPES.sub("", data.decode(errors="replace"))
        return bool(data)
