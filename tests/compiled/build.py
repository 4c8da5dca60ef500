"""Builds the distributions with their hot modules compiled, and unpacks them into one folder (docs/compiled.md):

    python -m tests.compiled.build FOLDER

Nothing is done where FOLDER is of these very sources. It is built in a copy of them, as the compiler's plug-in moves project files
about while it works.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = {".": "kvstore", "proto": "kvproto", "client": "kvclient", "chaos": "kvchaos"}
"""Folder of the project file to the package beside it, in the order in which they are built: what is built is checked against the
sources of the others."""
STAMP = ".digest"
BUILD_TIMEOUT_S = 900.0


def sources() -> Iterator[Path]:
    """Every file that goes into a distribution, in order."""
    for folder, package in DISTRIBUTIONS.items():
        yield ROOT / folder / "pyproject.toml"
        yield from sorted(
            path for path in (ROOT / folder / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts
        )
    yield from (ROOT / "README.md", ROOT / "LICENSE")


def digest() -> str:
    """Of the sources and of the interpreter that would run them."""
    found = hashlib.sha256(sys.version.encode())
    for path in sources():
        found.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return found.hexdigest()


def build(folder: Path) -> bool:
    """Makes `folder` of these sources; False if it was already. Raises `CalledProcessError`."""
    stamp, now = folder / STAMP, digest()
    if stamp.is_file() and stamp.read_text() == now:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="kvstore-compiled-") as name:
        copy, wheels = Path(name) / "sources", Path(name) / "wheels"
        for path in sources():
            target = copy / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        paths = os.pathsep.join(str(copy / part) for part in DISTRIBUTIONS)
        environment = dict(os.environ, HATCH_BUILD_HOOKS_ENABLE="1", MYPYPATH=paths)
        common = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
        command = [*common, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(wheels)]
        for part in DISTRIBUTIONS:
            subprocess.run([*command, str(copy / part)], check=True, timeout=BUILD_TIMEOUT_S, env=environment)
        found = [str(path) for path in sorted(wheels.glob("*.whl"))]
        subprocess.run(
            [*common, "install", "-q", "--no-deps", "--target", str(folder), *found], check=True, timeout=BUILD_TIMEOUT_S
        )
    stamp.write_text(now)
    return True


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="Builds the compiled distributions.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print(f"{folder}: {'built' if build(folder) else 'is of these sources already'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
