"""Compiles shim.c when it is first needed: with the machine's C compiler, else with the one in the `ziglang` package, by pip.

The library is kept in the user's cache under the hash of its source and of how it is compiled, so that it is built once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from kvchaos.go_builds import cache_folder

SOURCE = Path(__file__).with_name("shim.c")
CACHE = cache_folder("kvstore-chaos")
COMPILERS = ("cc", "gcc", "clang")
# A fortified build would replace the very functions that are defined here.
FLAGS = ("-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-U_FORTIFY_SOURCE")
BUILD_TIMEOUT_S = 100
INSTALL_TIMEOUT_S = 600


class CannotBuild(Exception):
    """No compiler worked; the message has what the last one said."""


def build_shim(folder: Path = CACHE / "shim", which: Callable[[str], str | None] = shutil.which) -> Path:
    """The compiled shim. Raises `CannotBuild`; on anything but Linux there is nothing to preload it with."""
    if not sys.platform.startswith("linux"):
        raise CannotBuild("the shim is preloaded the way Linux does it")
    digest = hashlib.sha256(SOURCE.read_bytes() + " ".join(FLAGS).encode()).hexdigest()[:16]
    library = folder / f"shim-{digest}.so"
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _compile(library, which)
    return library


def _compile(library: Path, which: Callable[[str], str | None]) -> None:
    """Puts the library in place in one step: two processes may be at it, and an interrupted build must not look done."""
    with tempfile.TemporaryDirectory(dir=library.parent) as scratch:
        fresh = Path(scratch) / library.name
        command = find_compiler(which) or zig_compiler(CACHE / "zig")
        _run([*command, *FLAGS, "-o", str(fresh), str(SOURCE)], BUILD_TIMEOUT_S)
        os.replace(fresh, library)


def find_compiler(which: Callable[[str], str | None]) -> tuple[str, ...] | None:
    """The machine's own C compiler, or None."""
    found = (which(name) for name in COMPILERS)
    return next(((path,) for path in found if path), None)


def zig_compiler(folder: Path) -> tuple[str, ...]:
    """Zig's C compiler, installed into `folder` (some 400 MB) when it is not there yet."""
    if not (folder / "ziglang").is_dir():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-q")
            _run([*pip, "--target", scratch, "ziglang"], INSTALL_TIMEOUT_S)
            with suppress(OSError):  # another process was quicker
                os.replace(Path(scratch) / "ziglang", folder / "ziglang")
    return (str(folder / "ziglang" / "zig"), "cc")


def _run(command: Sequence[str], timeout_s: float) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBuild(f"{Path(command[0]).name}: {error}") from error
    if done.returncode:
        raise CannotBuild(f"{Path(command[0]).name}: {done.stderr.strip()[-2000:]}")
