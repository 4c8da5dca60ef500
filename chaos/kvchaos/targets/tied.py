"""Becomes a program that is killed when whoever started it ends: `python tied.py PARENT PROGRAM ARGUMENTS…`.

Unlike with leash.py the program keeps the process id, so that it can be paused. Where the system has no such tie (macOS) it runs
without. Stands alone, so that it starts quickly.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Never returns."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before it was tied
            sys.exit(1)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
