"""Finds the etcd to compare with, building it once if need be.

In this order: the binary named by KV_BENCH_ETCD; one built earlier; a build with Go (etcd's server module has replace directives,
so `go install` refuses it, while a module that merely requires it builds); the machine's own `etcd`. Whatever is found, its version
is asked and printed with the table.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import BenchError

VERSION = "3.6.16"
BUILD_TIMEOUT_S = 900
PACKAGE = "go.etcd.io/etcd/server/v3"
GO_MOD = f"module kvstore-bench/etcd\n\ngo 1.24.0\n\nrequire {PACKAGE} v{VERSION}\n"


@dataclass(frozen=True, slots=True)
class EtcdBinary:
    """An executable and what `etcd --version` calls it, e.g. 3.6.16."""

    path: Path
    version: str


def find_etcd() -> EtcdBinary:
    """See the module's text. Raises `BenchError` when there is none and none can be built."""
    if named := os.environ.get("KV_BENCH_ETCD"):
        return EtcdBinary(Path(named), read_version(Path(named)))
    built = cache_folder() / "etcd"
    if not built.exists() and shutil.which("go"):
        build(built)
    if built.exists():
        return EtcdBinary(built, read_version(built))
    if installed := shutil.which("etcd"):
        return EtcdBinary(Path(installed), read_version(Path(installed)))
    raise BenchError(f"neither Go to build etcd {VERSION} nor an installed etcd was found; KV_BENCH_ETCD can name a binary")


def cache_folder() -> Path:
    """Where the build is kept between runs: below $XDG_CACHE_HOME, by default ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kvstore-bench" / f"etcd-{VERSION}"


def build(binary: Path) -> None:
    """Builds etcd and puts it at `binary` in one step, so that an interrupted build leaves nothing that looks done."""
    print(f"building etcd {VERSION} (once, a minute or two)", file=sys.stderr)
    binary.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=binary.parent) as scratch:
        (Path(scratch) / "go.mod").write_text(GO_MOD)
        command = ["go", "build", "-mod=mod", "-trimpath", "-o", "etcd", PACKAGE]
        try:
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise BenchError(f"building etcd {VERSION} took more than {BUILD_TIMEOUT_S} s") from None
        if done.returncode:
            raise BenchError(f"building etcd {VERSION} failed: {done.stderr.strip().splitlines()[-1:]}")
        os.replace(Path(scratch) / "etcd", binary)


def read_version(binary: Path) -> str:
    """The version a binary reports. Raises `BenchError` if it does not run or is no etcd."""
    try:
        text = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchError(f"{binary.name} does not run: {error}") from error
    name, _, version = text.partition("\n")[0].partition(": ")
    if name != "etcd Version" or not version:
        raise BenchError(f"{binary.name} says {text[:60]!r}, not an etcd version")
    return version.strip()
