"""What a page says, as it is run here: the same commands on ports that are free, in folders of the test, and in seconds. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

FIRST_PORT = 7400
PORT_STEP = 10
NODES_MAX = 16

# How long a page lets something run is for people who have the time.
SIZES = (
    (r"(kv sim run\b.*) --minutes \d+", r"\1 --seeds 1"),
    (r"--seeds [\d_]+", "--seeds 1"),
    (r"(kv bench run\b[^|;]*?) --seconds [\d.]+", r"\1 --seconds 0.2"),
    (r"(kv bench run\b)", r"\1 --keys 100 --warm-up 0.1"),
    (r"(kvchaos\.recovery) (--seed \d+)$", r"\1 \2 --fault kill --victims 1"),  # the others: integration/test_recovery.py
)


def rewritten(text: str, addresses: Sequence[str], folder: Path) -> str:
    """`text` with the addresses of the documentation's cluster replaced by `addresses` (its nodes', in order), host and port."""
    for at, address in enumerate(addresses[:NODES_MAX]):
        host, _, port = address.rpartition(":")
        for offset in (0, 1):  # gRPC, and http one above
            said = f"{FIRST_PORT + PORT_STEP * at + offset}"
            text = re.sub(rf"\b(?:127\.0\.0\.1|localhost):{said}\b", f"{host}:{int(port) + offset}", text)
    return re.sub(r"embedded:/(?!/)", f"embedded:{folder}/", text)


def shortened(command: str) -> str:
    """A command with less to do."""
    for pattern, replacement in SIZES:
        command = re.sub(pattern, replacement, command)
    return command


def runs_on(command: str) -> bool:
    """Whether it runs until it is stopped: a cluster or a node in the foreground."""
    words = command.partition("#")[0].split()
    if words[:2] == ["kv", "serve"]:
        return True
    actions = {"restart", "stop", "pause", "resume", "wipe", "--help"}
    return words[:2] == ["kv", "dev"] and not actions.intersection(words)


def exit_code_of(command: str) -> int:
    """What it ends with when all is well: a planted bug must be found."""
    return 8 if re.search(r"\bkv sim run\b.* --bug ", command) else 0
