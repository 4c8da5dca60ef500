"""`kv serve` with a bug planted, for suites that must fail: `python -P -m kvchaos.simulation.planted_serve BUG --config FILE`.

The bugs are those of the simulation; what they patch is the production code, so that real nodes have them as well.
"""

from __future__ import annotations

import sys

from kvchaos.simulation.bugs import planted


def planted_serve_command(bug: str) -> tuple[str, ...]:
    """The command of a node that has `bug`, but for its arguments."""
    return (sys.executable, "-P", "-m", "kvchaos.simulation.planted_serve", bug)


def main() -> None:
    """The node, for as long as it lives."""
    from kvstore.commands.serve import serve

    with planted(sys.argv.pop(1)):
        serve()


if __name__ == "__main__":
    main()
