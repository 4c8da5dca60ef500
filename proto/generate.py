"""Generates the committed protobuf stubs, or with --check says whether they are up to date.

The generator is the oldest grpcio-tools we support, because stubs refuse runtimes older than their generator. It needs an older
protobuf than the one the project runs with, so it lives in a virtual environment of its own under .cache/.
"""

from __future__ import annotations

import argparse
import filecmp
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent
FILES = ["key_value", "peer", "admin"]
REQUIREMENTS = ROOT / "requirements-generate.txt"
ENVIRONMENT = ROOT.parent / ".cache" / "generate"


def generator_python() -> Path:
    """The generator's interpreter, its environment made on first use and again when the requirements change."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / "requirements.txt"
    if not (stamp.exists() and stamp.read_text() == REQUIREMENTS.read_text()):
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
        subprocess.run(
            # The list is complete: a resolver could only come upon a newer release, for which it has no hash.
            [python, "-m", "pip", "install", "-q", "--require-hashes", "--no-deps", "-r", str(REQUIREMENTS)],
            check=True,
        )
        subprocess.run([python, "-m", "pip", "check", "-q"], check=True)
        stamp.write_text(REQUIREMENTS.read_text())
    return python


def generate(out: Path) -> list[Path]:
    """Writes every stub below `out` and returns their paths relative to it."""
    protos = [f"kvproto/v1/{name}.proto" for name in FILES]
    subprocess.run(
        [generator_python(), "-m", "grpc_tools.protoc", f"-I{ROOT}", f"--python_out={out}", f"--pyi_out={out}"]
        + [f"--grpc_python_out={out}", *protos],
        check=True,
        cwd=ROOT,
    )
    return [Path(f"kvproto/v1/{name}_pb2{ending}") for name in FILES for ending in (".py", ".pyi", "_grpc.py")]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; end with 1 if the stubs are stale")
    if not parser.parse_args().check:
        generate(ROOT)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        stubs = generate(Path(scratch))
        stale = [
            stub
            for stub in stubs
            if not (ROOT / stub).exists() or not filecmp.cmp(ROOT / stub, Path(scratch) / stub, shallow=False)
        ]
    for stub in stale:
        print(f"{stub} is not what its .proto gives: run `python proto/generate.py`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
