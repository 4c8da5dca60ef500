"""Runs a program that must not outlive whoever started it: `python leash.py PROGRAM ARGUMENTS…`.

Its standard input is a pipe from the owner. When that ends, however the owner ended, the program is killed; so it must be one that
loses nothing by that. Ends with the program's code. Stands alone, so that it starts quickly.
"""

import os
import signal
import subprocess
import sys
import threading


def main(command: list[str]) -> int:
    """The program's exit code, negative for a signal."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    signal.signal(signal.SIGTERM, lambda number, frame: process.kill())

    def wait_for_owner() -> None:
        while os.read(0, 4096):
            pass
        process.kill()

    threading.Thread(target=wait_for_owner, daemon=True).start()
    return process.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
