"""One process's share of a run: `python -m kvclient.bench.worker`, driven by lines of JSON on stdin and stdout.

The first line in is the `Share`. The worker opens its operations, says `{"ready": true}`, waits for a line so that all workers
begin together, runs the loop and says its `Measured`. SIGINT ends the loop before its time. An error of the store ends the worker
with `{"error": …}` instead. What is measured is named by a factory, `module:attribute`, so that a comparison with other stores runs
in the same worker.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import IO, Any

from kvclient.bench.histogram import Latencies
from kvclient.bench.loop import Halt, LoopResult, Operation, run, run_closed_loop
from kvclient.bench.open_loop import run_open_loop
from kvproto.errors import KvError, error_class


@dataclass(slots=True)
class Tally:
    """Counts of what the operations found out, those of the warm-up included; `degraded` answers achieved less than was asked."""

    degraded: int = 0


@dataclass(frozen=True, slots=True)
class Operations:
    """What a factory yields: the operation, and the kind of operation number i (for a histogram a kind)."""

    op: Operation
    kinds: tuple[str, ...]
    kind_of: Callable[[int], str]
    tally: Tally = field(default_factory=Tally)


Factory = Callable[[Mapping[str, Any]], AbstractAsyncContextManager[Operations]]


@dataclass(frozen=True, slots=True)
class Share:
    """What one process does for `warm_up_s` and `seconds`, on what `factory` makes of `parameters`: `in_flight` callers; with a
    `rate_per_s` the open loop, and then `in_flight` is the most that may be under way."""

    factory: str
    parameters: Mapping[str, Any]
    in_flight: int
    seconds: float
    warm_up_s: float = 0.0
    first: int = 0
    rate_per_s: float = 0.0


@dataclass(slots=True)
class Measured:
    """What one process, or several together, measured in a window of `seconds`; latencies by kind of operation."""

    seconds: float
    completed: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    latencies: dict[str, Latencies] = field(default_factory=dict)
    interrupted: bool = False
    degraded: int = 0

    def merge(self, other: Measured) -> None:
        """Adds what another process measured in the same window."""
        self.seconds = max(self.seconds, other.seconds)  # they differ only where an interrupt reached one after the other
        self.interrupted = self.interrupted or other.interrupted
        self.completed += other.completed
        self.degraded += other.degraded
        for code, count in other.errors.items():
            self.errors[code] = self.errors.get(code, 0) + count
        for kind, latencies in other.latencies.items():
            self.latencies.setdefault(kind, Latencies()).merge(latencies)

    def to_json(self) -> str:
        """One line."""
        encoded = {kind: latencies.encode() for kind, latencies in self.latencies.items()}
        row = {"seconds": self.seconds, "completed": self.completed, "errors": self.errors, "interrupted": self.interrupted}
        return json.dumps({**row, "degraded": self.degraded, "latencies": encoded})

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Measured:
        """The reverse of `to_json`, decoded."""
        latencies = {kind: Latencies.decode(text) for kind, text in row["latencies"].items()}
        return cls(row["seconds"], row["completed"], dict(row["errors"]), latencies, row["interrupted"], row["degraded"])


def resolve_factory(name: str) -> Factory:
    """The factory that `module:attribute` names. Raises `ImportError`, `AttributeError`."""
    module, _, attribute = name.partition(":")
    factory: Factory = getattr(import_module(module), attribute)
    return factory


async def measure(share: Share, when_ready: Callable[[], None] = lambda: None) -> Measured:
    """Opens the operations, calls `when_ready` (which may block until the others are ready too), runs the loop. SIGINT ends
    the loop before its time, with what was measured until then."""
    halt = Halt()
    async with resolve_factory(share.factory)(share.parameters) as operations:
        with _called_by_sigint(halt):
            when_ready()
            result = await _run_loop(share, operations.op, halt)
    measured = summarize(result, operations.kinds, operations.kind_of)
    measured.interrupted = halt.called
    measured.degraded = operations.tally.degraded
    return measured


async def _run_loop(share: Share, op: Operation, halt: Halt) -> LoopResult:
    if share.rate_per_s:
        return await run_open_loop(
            op,
            rate_per_s=share.rate_per_s,
            in_flight_max=share.in_flight,
            seconds=share.seconds,
            warm_up_s=share.warm_up_s,
            first=share.first,
            halt=halt,
        )
    return await run_closed_loop(
        op, in_flight=share.in_flight, seconds=share.seconds, warm_up_s=share.warm_up_s, first=share.first, halt=halt
    )


@contextmanager
def _called_by_sigint(halt: Halt) -> Iterator[None]:
    """SIGINT calls `halt` during the block, where signals can be had: in a main thread, and not on Windows."""
    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
        yield
        return
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, halt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def summarize(result: LoopResult, kinds: Iterable[str], kind_of: Callable[[int], str]) -> Measured:
    """A loop's result with one histogram for each kind."""
    latencies = {kind: Latencies(result.latencies_ns(lambda i, kind=kind: kind_of(i) == kind)) for kind in kinds}  # type: ignore[misc]
    return Measured(result.seconds, result.completed, dict(result.errors), latencies)


def serve(commands: IO[str], answers: IO[str]) -> int:
    """One run, as the module's docstring says; returns the process's exit code."""

    def say(line: str) -> None:
        answers.write(line + "\n")
        answers.flush()

    def when_ready() -> None:
        say(json.dumps({"ready": True}))
        commands.readline()

    share = Share(**json.loads(commands.readline()))
    try:
        say(run(measure(share, when_ready)).to_json())
    except KvError as error:
        flags = {"retryable": error.retryable, "may_have_applied": error.may_have_applied}
        say(json.dumps({"error": {"code": int(error.code), "message": error.message, **flags, **error.numbers()}}))
        return 1
    return 0


def error_from_row(row: Mapping[str, Any]) -> KvError:
    """The error a worker ended with."""
    numbers = {name: value for name, value in row.items() if name not in {"code", "message"}}
    return error_class(row["code"])(row["message"], **numbers)


def share_line(share: Share) -> str:
    """A share as its line of JSON."""
    return json.dumps(asdict(share))


if __name__ == "__main__":
    from kvclient.cli.main import prepare_environment

    prepare_environment()
    sys.exit(serve(sys.stdin, sys.stdout))
