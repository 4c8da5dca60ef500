"""The lint settings do what the style asks: clocks and chance of the machine are refused, with the replacement named."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.house.repository import ROOT

BANNED = [
    "import time\n\ntime.time()\n",
    "from time import monotonic\n\nmonotonic()\n",
    "import datetime\n\ndatetime.datetime.now()\n",
    "from datetime import datetime\n\ndatetime.utcnow()\n",
    "import uuid\n\nuuid.uuid4()\n",
    "import random\n\nrandom.random()\n",
    "from random import shuffle\n\nshuffle([])\n",
    "import os\n\nos.urandom(8)\n",
    "import secrets\n\nsecrets.token_bytes(8)\n",
]


def banned_in(source: str, as_file: str) -> str:
    """What ruff's TID251 says of `source` as if it stood at `as_file`; empty: nothing."""
    command = [sys.executable, "-m", "ruff", "check", "-q", "--no-cache", "--select", "TID251", "--stdin-filename", as_file, "-"]
    return subprocess.run(command, input=source, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60).stdout


@pytest.mark.parametrize("source", BANNED)
@pytest.mark.parametrize("as_file", ["kvstore/core/new.py", "client/kvclient/new.py"])
def test_time_and_chance_of_the_machine_are_refused_and_the_replacement_named(source: str, as_file: str) -> None:
    said = banned_in(source, as_file)
    assert "TID251" in said
    assert "injected" in said


@pytest.mark.parametrize("as_file", ["kvstore/runtime.py", "kvstore/commands/new.py", "tests/laws/test_new.py"])
def test_they_are_allowed_where_the_machine_is_meant(as_file: str) -> None:
    assert [banned_in(source, as_file) for source in BANNED] == [""] * len(BANNED)


def test_an_injected_random_and_a_random_of_ones_own_are_allowed() -> None:
    assert banned_in("import random\n\nrng = random.Random(1)\nrng.random()\nrng.choice([1])\n", "kvstore/core/new.py") == ""
