"""The processes of another store: the same faults and the same care as for nodes of ours, with a command of its own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kvchaos.faults.nodes import READY_TIMEOUT_S, Condition, NodePlace, NodeProcesses
from kvchaos.processes import FaultFailed, RestartFailed
from kvchaos.targets import tied
from kvchaos.targets.questions import HTTP_VERSION, Question, ask

PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "all_proxy", "no_proxy"})
"""The environment's own must not stand between the servers."""
READY_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True)
class TargetPlace(NodePlace):
    """One server: what is run, with which variables besides ours, and where it answers `question` once it is up."""

    command: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    question: Question = HTTP_VERSION


class TargetProcesses(NodeProcesses):
    """The servers at `places`."""

    def __init__(self, places: Sequence[TargetPlace]) -> None:
        super().__init__(places)
        self._places = {place.id: place for place in places}

    async def start(self) -> None:
        """Starts every server. Raises `RestartFailed`."""
        for place in self._places.values():
            place.data.mkdir(parents=True, exist_ok=True)
        await self.restart(*self._places)

    async def end(self) -> None:
        """Kills every server: what they hold is thrown away, and a Redis that writes its first log does not heed SIGTERM."""
        for node, process in self._processes.items():
            self.conditions[node] = Condition.DOWN
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*(process.wait() for process in self._processes.values()))

    def skew(self, node: str, offset_ms: int) -> None:
        """Raises `FaultFailed`: other stores' clocks are not ours to set."""
        raise FaultFailed(f"the clock of {node} cannot be set")

    async def _start(self, node: str) -> None:
        place = self._places[node]
        place.data.mkdir(parents=True, exist_ok=True)  # a wiped one has none
        ours = {name: value for name, value in os.environ.items() if name.lower() not in PROXY_VARIABLES}
        with place.log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", tied.__file__, str(os.getpid())),
                *place.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**ours, **place.environment},
            )
        self._processes[node] = process
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while process.returncode is None:
                    if (await ask(place.listen, place.question)).answered:
                        break
                    await asyncio.sleep(READY_INTERVAL_S)
        except BaseException as error:
            if process.returncode is None:
                process.kill()
                await process.wait()
            if isinstance(error, TimeoutError):
                raise RestartFailed(f"{node} was not ready after {READY_TIMEOUT_S:g} s: {self._last_words(node)}") from None
            raise
        if process.returncode is not None:
            raise RestartFailed(f"{node} did not start: {self._last_words(node)}")
        self.conditions[node] = Condition.RUNNING
