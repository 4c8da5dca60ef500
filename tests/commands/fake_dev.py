"""`kv dev` as it is, over stand-ins for its nodes."""

from __future__ import annotations

import sys
from pathlib import Path

from kvstore.commands import local_node
from kvstore.commands.dev import dev

if __name__ == "__main__":
    local_node.SERVE = (sys.executable, str(Path(__file__).with_name("fake_node.py")))
    dev()
