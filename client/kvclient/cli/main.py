"""Entry point of `kv`: prepares the process, then hands over to the command tree.

Runs before anything heavy is imported, because gRPC reads its experiments from the environment when it is first loaded. With its
event engine off a message round trip costs about half (grpcio 1.85, measured); the client *library* never edits its
host's environment, so this is the command's business. So is gRPC's own log: it writes to stderr, where scripts read one error
object. A value set by the user stands.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import threading
from collections.abc import Sequence
from typing import NoReturn

from kvproto.options import EVENT_ENGINE_OFF, GRPC_SILENT

COLLECT_AFTER = (100_000, 50, 50)
"""As in a node: what is imported is looked at over and over otherwise, and none of it is garbage."""


def prepare_environment() -> None:
    """Sets what gRPC reads at import, unless the user has set it."""
    os.environ.setdefault("GRPC_EXPERIMENTS", EVENT_ENGINE_OFF)
    os.environ.setdefault("GRPC_VERBOSITY", GRPC_SILENT)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code (docs/command.md, "Exit codes"); `argv` defaults to the process's arguments."""
    prepare_environment()
    try:
        from kvclient.cli import tree
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in {"click", "rich"}:
            raise
        print(f"kv needs the package {error.name!r}: pip install 'kvstore-client[cli]'", file=sys.stderr)
        return 2
    return tree.run(sys.argv[1:] if argv is None else list(argv))


def run_process() -> NoReturn:
    """The process `kv`: `main`, and out."""
    gc.set_threshold(*COLLECT_AFTER)
    leave(main())


def leave(code: int) -> NoReturn:
    """Ends the process without taking the interpreter apart: of a `kv get` that is a tenth, and nothing of it is for anybody. What
    was registered for the end is done, and who waits for threads or has lost its stdout goes the long way."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.exit(code)
    atexit._run_exitfuncs()  # noqa: SLF001 - what os._exit leaves out, and the only way to have it done
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        sys.exit(code)
    os._exit(code)


if __name__ == "__main__":
    run_process()
