"""Adds today's wire to wire_v1.json: `python -m tests.golden.regenerate`.

Run it on purpose, after a field, a message or a method was *added*; the examples of before stay and must still decode. If the test
is red because a field was renamed, renumbered or removed, this does not help, and rightly so: nodes of the older version would
misread what the newer sends.
"""

from __future__ import annotations

import json

from tests.golden import wire


def main() -> None:
    """Reads the table if there is one, extends it and writes it back."""
    table = wire.load() if wire.GOLDEN.exists() else {"messages": {}, "enums": {}, "methods": {}}
    text = json.dumps(wire.extended(table), indent=1, sort_keys=True, ensure_ascii=False)
    wire.GOLDEN.write_text(text + "\n", encoding="utf-8")
    print(f"{wire.GOLDEN.name}: {len(wire.MESSAGES)} messages")


if __name__ == "__main__":
    main()
