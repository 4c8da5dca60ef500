"""`kv` ends without taking the interpreter apart, and loses nothing by it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LEAVE = "from kvclient.cli.main import leave\n"


def ended(code: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", LEAVE + code], capture_output=True, text=True, timeout=60, check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_output_is_whole_and_the_exit_code_stands() -> None:
    done = ended("import sys\nsys.stdout.write('x' * 1_000_000)\nsys.stderr.write('error')\nleave(5)")
    assert (done.returncode, len(done.stdout), done.stderr) == (5, 1_000_000, "error")


def test_what_was_registered_for_the_end_is_done() -> None:
    done = ended("import atexit\natexit.register(print, 'at the end')\nleave(0)")
    assert (done.returncode, done.stdout) == (0, "at the end\n")


def test_a_thread_that_is_not_a_daemon_is_waited_for(tmp_path: Path) -> None:
    work = f"lambda: (go.wait(0.2), open({str(tmp_path / 'done')!r}, 'w').close())"
    done = ended(f"import threading\ngo = threading.Event()\nthreading.Thread(target={work}).start()\nleave(3)")
    assert done.returncode == 3
    assert (tmp_path / "done").exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the machine has no /dev/full")
def test_output_that_cannot_be_written_is_no_success() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", LEAVE + "print('text')\nleave(0)"], stdout=full, stderr=subprocess.PIPE, timeout=60, check=False
        )
    assert done.returncode != 0
