"""Several processes measuring together, begun at the same moment, their histograms merged.

One client process is one core; where servers have cores to spare, the generator needs several to load them. Each worker is in a
process group of its own, so that Ctrl-C reaches this process alone, which tells the workers.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from kvclient.bench.loop import run
from kvclient.bench.worker import Measured, Share, error_from_row, measure, share_line
from kvproto.errors import KvError

Worker = subprocess.Popen[str]


def measure_in_processes(share: Share, processes: int) -> Measured:
    """Measures `share` with its callers and its rate divided over `processes` (1: this one). SIGINT ends the measurement before its
    time. Raises the error of the first worker that failed, `ValueError` if there are fewer callers than processes; leaves no
    process behind."""
    if processes == 1:
        return run(measure(share))
    with _started(_divide(share, processes)) as workers:
        for worker in workers:
            _hear(worker)
        for worker in workers:
            _say(worker, "go")
        parts = _hear_all(workers)
    total = parts[0]
    for part in parts[1:]:
        total.merge(part)
    return total


def _divide(share: Share, processes: int) -> list[Share]:
    """Shares whose callers add up, and whose operation numbers differ (each counts on from its own far apart beginning). The
    parameters tell each process which of how many it is."""
    if not 1 <= processes <= share.in_flight:
        raise ValueError(f"{share.in_flight} callers cannot be divided over {processes} processes")
    each, more = divmod(share.in_flight, processes)
    return [
        replace(
            share,
            parameters={**share.parameters, "process": at, "processes": processes},
            in_flight=each + (at < more),
            first=share.first + (at << 40),
            rate_per_s=share.rate_per_s / processes,
        )
        for at in range(processes)
    ]


@contextmanager
def _started(shares: list[Share]) -> Iterator[list[Worker]]:
    """The workers, each with its share; killed and reaped when the block is left early."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    workers: list[Worker] = []
    try:
        for share in shares:
            command = [sys.executable, "-P", "-m", "kvclient.bench.worker"]
            workers.append(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, process_group=0
                )
            )
            _say(workers[-1], share_line(share))
        yield workers
    finally:
        for worker in workers:
            if worker.poll() is None:
                worker.kill()
            worker.communicate()


def _hear_all(workers: Sequence[Worker]) -> list[Measured]:
    """What each has measured; at an interrupt, until then. A second interrupt is raised."""
    parts: list[Measured] = []
    interrupted = False
    while len(parts) < len(workers):
        try:
            parts.append(Measured.from_row(_hear(workers[len(parts)])))
        except KeyboardInterrupt:
            if interrupted:
                raise
            interrupted = True
            for worker in workers:
                worker.send_signal(signal.SIGINT)
    return parts


def _say(worker: Worker, line: str) -> None:
    assert worker.stdin is not None
    try:
        worker.stdin.write(line + "\n")
        worker.stdin.flush()
    except BrokenPipeError:
        return  # it has ended: what it said last, or its exit code, is heard next


def _hear(worker: Worker) -> Mapping[str, Any]:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise KvError(f"a worker of the benchmark ended with code {worker.wait()} before it had measured anything")
    row: Mapping[str, Any] = json.loads(line)
    if "error" in row:
        raise error_from_row(row["error"])
    return row
