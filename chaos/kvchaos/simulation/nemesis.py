"""Does to a world what a schedule says, and undoes it. Every fault is written into the history when it takes and when it is over.

Faults may overlap: a link is free again when the last fault that blocks it is over, and a node that is down is left alone by
whatever needs it running. What could not be done is noted as skipped, never passed over in silence.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from kvchaos.history import Recorder
from kvchaos.simulation.crash_points import CrashPoints
from kvchaos.simulation.members import note_incarnations
from kvchaos.simulation.schedule import Fault, Schedule
from kvchaos.simulation.stopwatch import Stopwatch
from kvproto.errors import KvError
from kvstore.core.ring import Ring
from kvstore.simulation.disk import Backup
from kvstore.simulation.machine import Killed
from kvstore.simulation.world import World

RESTART_PAUSE_S = 0.5
STARTS_MAX = 20

Undo = Callable[[], None]


class Nemesis:
    """The faults of one schedule. `run` returns when the last has begun; `end` undoes what is left and starts every node."""

    def __init__(self, world: World, schedule: Schedule, recorder: Recorder, stopwatch: Stopwatch, points: CrashPoints) -> None:
        self._world = world
        self._points = points
        self._stopwatch = stopwatch
        self._schedule = schedule
        self._recorder = recorder
        self._blocks: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        self._undo: dict[int, tuple[Fault, Undo]] = {}
        self._tasks: list[Any] = []
        self._backups: dict[int, Backup] = {}
        self._stopping: set[str] = set()
        self._is_over = False

    async def run(self) -> None:
        """Begins and ends faults at their times."""
        moments: list[tuple[int, int, Callable[[], None]]] = []
        for number, fault in enumerate(self._schedule.faults):
            moments.append((fault.at_ms, len(moments), lambda number=number, fault=fault: self._begin(number, fault)))  # type: ignore[misc]
            if fault.for_ms:
                moments.append((fault.at_ms + fault.for_ms, len(moments), lambda number=number: self._finish(number)))  # type: ignore[misc]
            if fault.kind == "rollback":
                back_ms = max(0, fault.at_ms - fault.args["back_ms"])
                moments.append((back_ms, -1, lambda number=number, fault=fault: self._back_up(number, fault)))  # type: ignore[misc]
        began_s = self._world.now_s
        for at_ms, _, act in sorted(moments, key=lambda moment: moment[:2]):
            await self._world.sleep(max(0.0, began_s + at_ms / 1000 - self._world.now_s))
            if self._is_over:
                return
            act()

    async def end(self) -> None:
        """Nothing is wrong any more: links, processes, disks and clocks; every node that is down is started."""
        self._is_over = True
        for number in list(self._undo):
            self._finish(number)
        world = self._world
        world.heal_all()
        for name in world.machines:
            disk = world.disk(name)
            while disk.failure() is not None:
                pass
        for task in self._tasks:
            await task
        await self.revive()
        self._recorder.fault("healed", {"running": world.running})

    async def revive(self) -> None:
        """Starts every node that is down; one whose disk failed may still be ending when everything is healed."""
        world = self._world
        for name in world.machines:
            for _ in range(STARTS_MAX):
                if name in world.running:
                    break
                if not await self._start(name):
                    await world.sleep(RESTART_PAUSE_S)

    def _begin(self, number: int, fault: Fault) -> None:
        did = getattr(self, f"_do_{fault.kind}")(number, **fault.args)
        if did is None:
            self._recorder.fault("skipped", {"kind": fault.kind, **fault.args})
            return
        self._recorder.fault(fault.kind, dict(fault.args))
        self._undo[number] = (fault, did)

    def _finish(self, number: int) -> None:
        found = self._undo.pop(number, None)
        if found is not None:
            fault, undo = found
            if undo is not _nothing:
                self._recorder.fault(f"end of {fault.kind}", dict(fault.args))
            undo()

    # --- links: each returns how to undo it, or None if it could not be done

    def _do_cut(self, number: int, source: str, target: str) -> Undo:
        return self._block("cut", [(source, target)])

    def _do_stall(self, number: int, source: str, target: str) -> Undo:
        return self._block("stall", [(source, target)])

    def _do_mute(self, number: int, node: str, client: str) -> Undo:
        return self._block("cut", [(node, client)])

    def _do_partition(self, number: int, groups: list[list[str]]) -> Undo:
        return self._block(
            "cut", [(one, other) for group in groups for one in group for rest in groups for other in rest if rest is not group]
        )

    def _do_isolate(self, number: int, node: str) -> Undo:
        others = [name for name in (*self._schedule.node_ids, *self._schedule.client_ids) if name != node]
        return self._block("cut", [link for other in others for link in ((node, other), (other, node))])

    def _block(self, how: str, links: Iterable[tuple[str, str]]) -> Undo:
        chosen = list(links)
        for link in chosen:
            self._blocks[link].append(how)
            getattr(self._world, how)(*link)

        def undo() -> None:
            for link in chosen:
                self._blocks[link].remove(how)
                if not self._blocks[link]:
                    self._world.heal(*link)

        return undo

    def _do_slow(self, number: int, source: str, target: str, ms: float) -> Undo:
        self._world.set_link(source, target, delay_ms=self._schedule.delay_ms + ms)
        return lambda: self._world.set_link(source, target, delay_ms=self._schedule.delay_ms)

    def _do_lossy(self, number: int, source: str, target: str, share: float) -> Undo:
        self._world.set_link(source, target, loss=share)
        return lambda: self._world.set_link(source, target, loss=self._schedule.loss)

    def _do_reset(self, number: int, left: str, right: str) -> Undo:
        self._world.reset(left, right)
        return _nothing

    # --- processes

    def _do_crash(self, number: int, nodes: list[str], *, silent: bool = False) -> Undo | None:
        running = [node for node in nodes if node in self._world.running]
        for node in running:
            self._world.crash(node, silent=silent)
        return (lambda: self._start_soon(*running)) if running else None

    def _do_power(self, number: int, nodes: list[str]) -> Undo | None:
        return self._do_crash(number, nodes, silent=True)

    def _do_crash_at(self, number: int, point: str, *, passing: int = 1, down_ms: int = 100, silent: bool = False) -> Undo:
        def fire(name: str) -> None:
            self._recorder.fault("crash", {"nodes": [name], "point": point})
            self._world.crash(name, silent=silent)
            self._spawn(start(name))

        async def start(name: str) -> None:
            await self._start(name, after_ms=down_ms)
            self._recorder.fault("end of crash", {"nodes": [name], "point": point})

        return self._points.arm(point, passing=passing, fire=fire)

    def _do_stop(self, number: int, node: str) -> Undo | None:
        if node not in self._world.running or self._world.process(node).is_paused or node in self._stopping:
            return None
        self._stopping.add(node)
        self._spawn(self._stop(node))
        return lambda: self._start_soon(node)

    def _do_pause(self, number: int, node: str) -> Undo | None:
        if node not in self._world.running or self._world.process(node).is_paused:
            return None
        process = self._world.process(node)
        self._world.pause(node)
        self._stopwatch.paused(node)

        def undo() -> None:
            self._stopwatch.resumed(node)
            if process.is_alive and process.is_paused:
                self._world.resume(node)

        return undo

    # --- disks

    def _do_wipe(self, number: int, node: str) -> Undo:
        if node in self._world.running:
            self._world.crash(node)
        self._world.wipe(node)
        return lambda: self._start_soon(node)

    def _do_rollback(self, number: int, node: str, back_ms: int) -> Undo | None:
        if number not in self._backups:
            return None
        if node in self._world.running:
            self._world.crash(node)
        self._world.restore(node, self._backups[number])
        return lambda: self._start_soon(node)

    def _back_up(self, number: int, fault: Fault) -> None:
        self._backups[number] = self._world.backup(fault.args["node"])

    def _do_failing_disk(self, number: int, node: str, error: str, applied: bool) -> Undo:
        self._world.disk(node).fail_next_write(error, applied=applied)
        return lambda: self._start_soon(node)

    def _do_slow_disk(self, number: int, node: str, ms: float) -> Undo:
        self._world.disk(node).slow_ms = ms

        def undo() -> None:
            self._world.disk(node).slow_ms = 0.0

        return undo

    def _do_flip(self, number: int, node: str, records: int = 1) -> Undo | None:
        if node not in self._world.running:
            return None
        flipped = [self._world.disk(node).flip_bit() for _ in range(records)]
        return _nothing if any(flipped) else None

    # --- clocks and rings

    def _do_skew(self, number: int, node: str, ms: int) -> Undo:
        self._world.skew(node, ms)
        return lambda: self._world.skew(node, 0)

    def _do_epoch(self, number: int, delays_ms: list[int]) -> Undo | None:
        world = self._world
        ready = [name for name in world.running if world.node(name).local is not None]
        if not ready:
            return None
        last = world.ring or world.local(ready[0]).ring.view.ring
        world.ring = Ring(last.epoch + 1, last.members, last.partitions, last.replicas, last.owners)
        for name, delay_ms in zip(self._schedule.node_ids, delays_ms, strict=False):
            self._spawn(self._give_ring(name, delay_ms))
        return _nothing

    async def _give_ring(self, name: str, delay_ms: int) -> None:
        world = self._world
        await world.sleep(delay_ms / 1000)
        if name in world.running and world.node(name).local is not None:
            world.give_ring(name)
            self._recorder.fault("install_epoch", {"node": name, "epoch": world.local(name).ring.view.ring.epoch})

    # --- starting and stopping takes time

    def _spawn(self, work: Any) -> None:
        self._tasks.append(self._world.loop.main.spawn(work))

    def _start_soon(self, *nodes: str) -> None:
        for node in nodes:
            self._spawn(self._start(node))

    async def _start(self, node: str, *, after_ms: int = 0) -> bool:
        """Whether it runs afterwards."""
        world = self._world
        await world.sleep(after_ms / 1000)
        while node in self._stopping:
            await world.sleep(0.01)
        if node in world.running:
            return True
        self._recorder.fault("start", {"node": node})
        self._recorder.fault("install_epoch", {"node": node, "epoch": 1})
        try:
            await world.restart(node, linked=False)
        except (KvError, Killed) as error:
            self._recorder.fault("not started", {"node": node, "error": str(error)})
            return False
        if world.ring is not None:
            self._recorder.fault("install_epoch", {"node": node, "epoch": world.ring.epoch})
        note_incarnations(world, self._recorder, node)
        return True

    async def _stop(self, node: str) -> None:
        try:
            await self._world.stop(node)
        except (KvError, Killed) as error:
            self._recorder.fault("not stopped", {"node": node, "error": str(error)})
        finally:
            self._stopping.discard(node)


def _nothing() -> None:
    """Over at once."""
