"""The clients of a scenario: at every site, for every column, processes that write and read unique values until they are stopped.

A process goes on with one operation after the other, at its pace. Keys are given up after a while, so that no key's history grows
beyond what checkers can search.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence

from kvchaos.history import Recorder
from kvchaos.operations import Operation
from kvchaos.performer import ClientPast, Performer
from kvchaos.register_performer import RegisterPerformer
from kvchaos.scenarios.columns import Column
from kvclient import AsyncClient

KEYS = 6
OPERATIONS_A_KEY = 24
"""Of one process; then it goes on with the next generation of keys."""
PACE_S = 0.02
MIX = (40, 50, 10, 0)
REGISTER_MIX = (25, 50, 5, 20)
"""Of puts, gets, deletes and compare-and-sets."""
TIMEOUT_MS = 2_000


class Load:
    """The processes of one column."""

    def __init__(
        self,
        column: Column,
        clients: Mapping[str, AsyncClient],
        recorder: Recorder,
        *,
        seed: str,
        keys: int = KEYS,
        write_gap_s: float = 0.0,
    ) -> None:
        """`write_gap_s`: between two writes of a process at least so long; it reads meanwhile."""
        self.column = column
        self.sites: Sequence[str] = tuple(clients)
        self.recorder = recorder
        self.site_of = dict(enumerate(self.sites))
        self.done: Counter[tuple[str, str, str]] = Counter()
        """How many operations were told what, by site, kind (reads, writes) and outcome (ok, fail, info)."""
        self.told: Counter[tuple[str, str]] = Counter()
        """The same without the outcome."""
        self._clients = clients
        self._seed = seed
        self._serial = 0
        self._keys = keys
        self._write_gap_s = write_gap_s
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def keys(self) -> list[str]:
        """Every key that was used."""
        return sorted({event.key for event in self.recorder.history.events if event.key is not None})

    def answered(self, site: str) -> int:
        """Acknowledged operations of a site, of the kind of which there are fewer."""
        return min(self.done[site, kind, "ok"] for kind in ("reads", "writes"))

    def start(self) -> None:
        """Lets them go."""
        self._tasks = [
            asyncio.create_task(self._go(process, site), name=f"{self.column.name}@{site}")
            for process, site in self.site_of.items()
        ]

    async def stop(self) -> None:
        """Lets each finish what it has begun. Raises what one died of."""
        self._stopping = True
        tasks, self._tasks = self._tasks, []
        await asyncio.gather(*tasks)

    async def abort(self) -> None:
        """Ends them where they stand."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check(self) -> None:
        """Raises what a process died of."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def read_at_rest(self, site: str) -> None:
        """The last word on every key, asked of all replicas."""
        last = 1_000_000
        reader = self._performer(site, last, numbers=1, timeout_ms=10_000, final=True)
        level = "linearizable" if self.column.registers else "all"
        for key in self.keys:
            await reader.perform(Operation(last, 0, "get", key, "", level=level))

    def _performer(
        self, site: str, process: int, *, numbers: int, timeout_ms: int, final: bool = False
    ) -> Performer | RegisterPerformer:
        store = self._clients[site].namespace(self.column.namespace)
        if self.column.registers:
            return RegisterPerformer(store, self.recorder, process, numbers=numbers, timeout_ms=timeout_ms, final=final)
        return Performer(store, self.recorder, process, numbers=numbers, past=ClientPast(list), timeout_ms=timeout_ms, final=final)

    async def _go(self, process: int, site: str) -> None:
        rng = random.Random(f"{self._seed}/{self.column.name}/{process}")
        performer = self._performer(site, process, numbers=len(self.site_of), timeout_ms=TIMEOUT_MS)
        mix = REGISTER_MIX if self.column.registers else MIX
        done, write_at_s = 0, 0.0
        now_s = asyncio.get_running_loop().time
        while not self._stopping:
            generation = done // (OPERATIONS_A_KEY * self._keys)
            key = f"{self.column.name}/{generation}/{rng.randrange(self._keys)}"
            self._serial += 1
            f = rng.choices(("put", "get", "delete", "cas"), mix)[0] if now_s() >= write_at_s else "get"
            context = rng.choice(("none", "read"))
            seen, mine = len(self.recorder.history.events), performer.process
            await performer.perform(Operation(process, 0, f, key, f"w{self._serial}", context=context, level=self.column.level))
            done += 1
            if f != "get":
                write_at_s = now_s() + self._write_gap_s
            kind = "reads" if f == "get" else "writes"
            self.told[site, kind] += 1
            for event in self.recorder.history.events[seen:]:
                if event.type != "invoke" and event.process == mine:
                    # A condition that does not hold is an answer.
                    self.done[site, kind, "ok" if event.facts.get("mismatch") else event.type] += 1
            await asyncio.sleep(rng.uniform(0.5, 1.5) * PACE_S)
