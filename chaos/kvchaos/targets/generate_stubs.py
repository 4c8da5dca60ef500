"""Generates the committed stubs of protos/etcd_kv.proto, or with --check ends with 1 if they are stale.

Uses the pinned generator of proto/generate.py. Only messages are generated: whoever calls names the three methods itself, which
is all that a generated service stub would do."""

from __future__ import annotations

import argparse
import filecmp
import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

TARGETS = Path(__file__).resolve().parent
CHAOS = TARGETS.parent.parent
PACKAGE = Path("kvchaos/targets/etcd_stubs")
STUBS = ["etcd_kv_pb2.py", "etcd_kv_pb2.pyi"]


def generator_python() -> Path:
    """The interpreter of the project's pinned generator, made on first use."""
    spec = importlib.util.spec_from_file_location("kvproto_generate", CHAOS.parent / "proto" / "generate.py")
    assert spec is not None and spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    python: Path = generate.generator_python()
    return python


def generate(out: Path) -> None:
    """Writes the stubs below `out`, as the package kvchaos.targets.etcd_stubs."""
    protos = TARGETS / "protos"
    subprocess.run(
        [str(generator_python()), "-m", "grpc_tools.protoc", f"-I{PACKAGE}={protos}", f"--python_out={out}", f"--pyi_out={out}"]
        + [str(protos / "etcd_kv.proto")],
        check=True,
    )


def main() -> int:
    """The command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; end with 1 if the stubs are stale")
    if not parser.parse_args().check:
        generate(CHAOS)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        generate(Path(scratch))
        fresh, committed = Path(scratch) / PACKAGE, CHAOS / PACKAGE
        _, differing, missing = filecmp.cmpfiles(fresh, committed, STUBS, shallow=False)
    stale = [*differing, *missing]
    for stub in stale:
        print(f"{PACKAGE / stub} is not what its .proto gives: run `python -m kvchaos.targets.generate_stubs`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
