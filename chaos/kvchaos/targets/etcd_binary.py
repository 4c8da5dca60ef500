"""Finds an etcd, building it once if need be: to compare with, and to break.

In this order: the binary named by KV_BENCH_ETCD; one built earlier; a build with Go (etcd's server module has replace directives,
so `go install` refuses it, while a module that merely requires it builds); the machine's own `etcd`. Whatever is found, its version
is asked and printed with the table.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from kvchaos import go_builds
from kvchaos.targets.failures import TargetFailed

VERSION = "3.6.16"
PACKAGE = "go.etcd.io/etcd/server/v3"
GO_MOD = f"module kvstore-bench/etcd\n\ngo 1.24.0\n\nrequire {PACKAGE} v{VERSION}\n"


@dataclass(frozen=True, slots=True)
class EtcdBinary:
    """An executable and what `etcd --version` calls it, e.g. 3.6.16."""

    path: Path
    version: str


def find_etcd() -> EtcdBinary:
    """See the module's text. Raises `TargetFailed` when there is none and none can be built."""
    if named := os.environ.get("KV_BENCH_ETCD"):
        return EtcdBinary(Path(named), read_version(Path(named)))
    built = cache_folder() / "etcd"
    if not built.exists() and shutil.which("go"):
        build(built)
    if built.exists():
        return EtcdBinary(built, read_version(built))
    if installed := shutil.which("etcd"):
        return EtcdBinary(Path(installed), read_version(Path(installed)))
    raise TargetFailed(f"neither Go to build etcd {VERSION} nor an installed etcd was found; KV_BENCH_ETCD can name a binary")


def cache_folder() -> Path:
    """Where the build is kept between runs."""
    return go_builds.cache_folder("kvstore-bench") / f"etcd-{VERSION}"


def build(binary: Path) -> None:
    """Builds etcd and puts it at `binary` in one step. Raises `TargetFailed`; leaves nothing that looks done."""

    def compile_in(scratch: Path) -> Path:
        (scratch / "go.mod").write_text(GO_MOD)
        arguments = ["build", "-mod=mod", "-trimpath", "-o", "etcd", PACKAGE]
        go_builds.run_go(arguments, folder=scratch, title=f"etcd {VERSION}")
        return scratch / "etcd"

    try:
        go_builds.build_once(binary, compile_in, title=f"etcd {VERSION}")
    except go_builds.BuildFailed as error:
        raise TargetFailed(str(error)) from None


def read_version(binary: Path) -> str:
    """The version a binary reports. Raises `TargetFailed` if it does not run or is no etcd."""
    try:
        text = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise TargetFailed(f"{binary.name} does not run: {error}") from error
    name, _, version = text.partition("\n")[0].partition(": ")
    if name != "etcd Version" or not version:
        raise TargetFailed(f"{binary.name} says {text[:60]!r}, not an etcd version")
    return version.strip()
