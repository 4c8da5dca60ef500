"""Finds the Toxiproxy server, building it once if need be; whatever is found is the version that the faults were tried with.

In this order: the binary named by TOXIPROXY_SERVER; `toxiproxy-server` on the PATH, if it is of that version; one built earlier; a
build with Go, the machine's or one that pip brings. There is no version without it: a run that cannot have it fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from kvchaos import go_builds
from kvchaos.faults.failures import InjectorFailure

VERSION = "2.12.0"
"""2.13 changes what `bandwidth` 0 means and how toxics are removed; take it only together with the conformance suite."""
MODULE = "github.com/Shopify/toxiproxy/v2"
HOW_TO_GET_IT = (
    f"toxiproxy-server {VERSION} can be named by TOXIPROXY_SERVER, lie on the PATH, or be built with Go "
    f"({MODULE}/cmd/server@v{VERSION}), which needs Go or pip, and a way to the Go modules"
)


def find_server() -> Path:
    """See the module's text. Raises `InjectorFailure` that says how to get it."""
    if named := os.environ.get("TOXIPROXY_SERVER"):
        _check_version(Path(named))
        return Path(named)
    installed = shutil.which("toxiproxy-server")
    if installed and _is_of_version(Path(installed)):
        return Path(installed)
    try:
        binary = go_builds.build_once(cached_server(), _build, title=f"toxiproxy {VERSION}")
    except (go_builds.BuildFailed, OSError) as error:
        raise InjectorFailure(f"no Toxiproxy: {error}. {HOW_TO_GET_IT}") from error
    _check_version(binary)
    return binary


def cached_server() -> Path:
    """Where a server that was built here lies."""
    return go_builds.cache_folder("kvstore-chaos") / f"toxiproxy-{VERSION}" / "toxiproxy-server"


def read_version(binary: Path) -> str:
    """The version a server reports, e.g. 2.12.0. Raises `InjectorFailure` if it does not run or is none."""
    try:
        said = subprocess.run(
            [binary, "-version"], capture_output=True, text=True, timeout=30, check=True, stdin=subprocess.DEVNULL
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise InjectorFailure(f"{binary} does not run: {error}") from error
    name, _, version = said.rpartition(" version ")
    if name != "toxiproxy-server":
        raise InjectorFailure(f"{binary} says {said[:60]!r}: that is no toxiproxy-server")
    return version


def _build(scratch: Path) -> Path:
    """`go install` calls the program after its folder, and leaves its version out unless it is linked in."""
    linked = f"-X {MODULE}.Version={VERSION}"
    with go_builds.any_go() as go:
        go_builds.run_go(
            ["install", "-trimpath", "-ldflags", linked, f"{MODULE}/cmd/server@v{VERSION}"],
            go=go,
            folder=scratch,
            title=f"toxiproxy {VERSION}",
            environment={"GOBIN": str(scratch), "GOFLAGS": ""},
        )
    return scratch / "server"


def _is_of_version(binary: Path) -> bool:
    try:
        return read_version(binary) == VERSION
    except InjectorFailure:
        return False


def _check_version(binary: Path) -> None:
    found = read_version(binary)
    if found != VERSION:
        raise InjectorFailure(f"{binary} is toxiproxy {found}; the faults were tried with {VERSION}. {HOW_TO_GET_IT}")
