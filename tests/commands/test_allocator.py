"""What a node's process frees it keeps for a while, unless whoever started it has set up the allocator."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

VALUES = 200
PAGES_OF_A_VALUE = 256

PROGRAM = f"""
import resource
from kvstore.commands.allocator import keep_freed_memory
keeps = keep_freed_memory()
bytes(1 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range({VALUES}):
    b"".join([b"x" * (1 << 20), b"y"])
print(keeps, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is another one")


def run(**environment: str) -> tuple[str, int]:
    """Whether the process keeps memory, and the pages that it had to ask the system for."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, timeout=30, check=True)
    keeps, faults = done.stdout.split()
    return keeps, int(faults)


def test_large_values_are_copied_into_memory_that_was_freed_before() -> None:
    keeps, faults = run()
    assert keeps == "True"
    assert faults < 5 * PAGES_OF_A_VALUE


def test_what_the_operator_has_set_up_stays() -> None:
    keeps, faults = run(MALLOC_MMAP_THRESHOLD_="131072")
    assert keeps == "False"
    assert faults > VALUES * PAGES_OF_A_VALUE, "and it is what makes the difference"
