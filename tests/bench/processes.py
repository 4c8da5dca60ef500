"""Processes of a run: each in a session of its own, so that Ctrl-C reaches only the comparison, which ends them by process id."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from kvchaos.targets.failures import TargetFailed

STOP_PATIENCE_S = 10.0
STDOUT_LINE_BYTES_MAX = 16 << 20


BenchError = TargetFailed
"""A side could not be had, started or measured; the text says why, for the table's notes."""


async def start(argv: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None, talks: bool = False) -> Process:
    """Starts `argv` with `environment` added to ours; stderr goes to `log`, and so does stdout unless it `talks` through pipes."""
    with log.open("ab") as out:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE if talks else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE if talks else out,
            stderr=out,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
            limit=STDOUT_LINE_BYTES_MAX,
        )


async def stop(process: Process, *, patience_s: float = STOP_PATIENCE_S) -> bool:
    """SIGTERM, then SIGKILL after `patience_s`. Returns when the process is gone; False if it had to be killed."""
    if process.returncode is not None:
        return True
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), patience_s)
    except TimeoutError:
        process.kill()
        await process.wait()
        return False
    return True


async def read_line(process: Process, *, timeout_s: float, what: str, log: Path) -> bytes:
    """The next line of a process that `talks`. Raises `BenchError` if none comes in time or the process has ended.

    The error quotes the end of `log`, because the logs of a run are removed with its data.
    """
    assert process.stdout is not None, f"{what} was started without pipes"
    try:
        line = await asyncio.wait_for(process.stdout.readline(), timeout_s)
    except TimeoutError:
        raise BenchError(f"{what}: no answer within {timeout_s:.0f} s{last_words(log)}") from None
    if not line:
        raise BenchError(f"{what}: ended with {await process.wait()}{last_words(log)}")
    return line


def last_words(log: Path) -> str:
    """The last line of a log as the end of a sentence; nothing if it has none."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    said = [line.strip() for line in lines if line.strip()]
    return f" ({said[-1][-300:]})" if said else ""


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nothing listens on now, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def cpu_seconds(pids: Sequence[int]) -> float:
    """CPU time the processes have used so far, user and system; those that are gone, or all where there is no /proc, count 0."""
    ticks = 0
    for pid in pids:
        try:
            # The second field, the name in brackets, may hold spaces: what follows the last bracket starts with the third.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def machine_busy_seconds() -> float:
    """CPU time that everything on the machine has used so far, idling and waiting for disks left out; 0 where there is no /proc."""
    try:
        first = Path("/proc/stat").read_text().partition("\n")[0]
    except OSError:
        return 0.0
    # cpu user nice system idle iowait irq softirq steal guest guest_nice, the last two being part of user and nice.
    fields = [int(field) for field in first.split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def send_signal(pids: Sequence[int], number: signal.Signals) -> None:
    """Sends `number` to each process that still exists."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
