"""Connects and tells what it sees, in a word: `python glance.py HOST PORT SECONDS`. Stands alone, so that it starts quickly.

refused: at once. silent: no connection came about in time. greeted: whoever listens there spoke first. mute: it did not.
"""

import socket
import sys


def look(host: str, port: int, timeout_s: float) -> str:
    """One of the four words."""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            return "greeted" if connection.recv(1) else "mute"
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silent"
    except OSError as error:
        return f"error: {error}"


if __name__ == "__main__":
    sys.stdout.write(look(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
