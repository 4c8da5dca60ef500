"""What the demo does, one function a step; each says what it shows and how to do it by hand, and checks what it claims.

The steps share a `Scene`: the cluster, a client and what has been acknowledged so far.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING

from kvproto.errors import KvError
from kvstore.commands.demo_data import in_chunks
from kvstore.commands.drawing import draw_latencies
from kvstore.commands.local_cluster import LocalCluster
from kvstore.commands.stage import Stage

if TYPE_CHECKING:
    from kvclient import AsyncClient

CHUNK = 500
CHUNKS_IN_FLIGHT = 6
ATTEMPTS_MAX = 5
CALL_TIMEOUT_S = 15.0
VICTIM = "n2"
LOOKUPS = ("SNOWMAN", "HOT BEVERAGE", "GREEK SMALL LETTER LAMDA", "LATIN CAPITAL LETTER A")
PREFIX = "CIRCLED DIGIT "
PREFIX_OF_FEW = "GREEK SMALL "
PREFIX_SHOWN = 9
SAMPLES = 1_000
CUT = ("chaos", "pacelc", "--split")
PROMISE_BROKEN = 8


@dataclass(slots=True)
class Scene:
    """What the steps share.

    `names` is what is to be stored, `handled` how many of them have been tried to the end, `acknowledged` what the store has
    promised to keep, `broken` the claims that did not hold.
    """

    stage: Stage
    cluster: LocalCluster
    client: AsyncClient
    names: dict[str, bytes]
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    handled: int = 0
    broken: list[str] = field(default_factory=list)

    def check(self, holds: bool, text: str) -> None:
        """Says a claim with the outcome of its check; one that fails decides how the demo ends."""
        if holds:
            self.stage.good(text)
        else:
            self.stage.bad(text)
            self.broken.append(text)


async def load_and_kill(scene: Scene) -> None:
    """Stores every name while one node is killed and, later, started again."""
    stage, total = scene.stage, len(scene.names)
    stage.step(
        f"{total:,} Unicode names, and a node killed in the middle",
        shows=f"{VICTIM} gets SIGKILL at a third and comes back at two thirds; writes need 2 of 3.",
        how=f"kv load names.jsonl   beside   kill -9 PID; kv dev restart {VICTIM} --data DIR",
    )
    began_s = perf_counter()
    reached = asyncio.Condition()
    chunks = in_chunks(scene.names, CHUNK)
    with stage.progress("storing", total) as advance:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_kill_and_restart(scene, reached), name="kill-and-restart")
            for number in range(CHUNKS_IN_FLIGHT):
                tasks.create_task(_store_chunks(scene, chunks, advance, reached), name=f"load-{number}")
    seconds = perf_counter() - began_s
    stored = len(scene.acknowledged)
    stage.say(f"{stored:,} acknowledged in {seconds:.1f} s ({stored / seconds:,.0f} a second), {total - stored:,} not")
    # What was not acknowledged was not promised; but two of three nodes were up all the time, so all of it should have been.
    scene.check(stored == total, "every write found its two nodes while the third was away")


async def _kill_and_restart(scene: Scene, reached: asyncio.Condition) -> None:
    total = len(scene.names)

    async def passed(count: int) -> int:
        async with reached:
            await reached.wait_for(lambda: scene.handled >= count)
        return scene.handled

    at = await passed(total // 3)
    pid = scene.cluster.pids[VICTIM]
    await scene.cluster.kill(VICTIM)
    scene.stage.say(f"{VICTIM} (pid {pid}) killed after {at:,} names; the other two go on", style="yellow")
    at = await passed(2 * total // 3)
    await scene.cluster.act("restart", VICTIM)
    scene.stage.say(f"{VICTIM} started again after {at:,} names (pid {scene.cluster.pids[VICTIM]})", style="yellow")


async def _store_chunks(
    scene: Scene, chunks: Iterator[dict[str, bytes]], advance: Callable[[int], None], reached: asyncio.Condition
) -> None:
    for chunk in chunks:
        left = chunk
        for _ in range(ATTEMPTS_MAX):
            left = await _store(scene, left)
            if not left:
                break
        advance(len(chunk))
        scene.handled += len(chunk)
        async with reached:
            reached.notify_all()


async def _store(scene: Scene, chunk: dict[str, bytes]) -> dict[str, bytes]:
    """Stores a chunk; what was not acknowledged, to be tried again: the same value once more changes nothing."""
    from kvclient.errors import BatchError

    try:
        await scene.client.put_many(chunk, timeout_s=CALL_TIMEOUT_S)
        failed: set[str] = set()
    except BatchError as error:
        failed = set(error.errors)
    except KvError:
        failed = set(chunk)
    scene.acknowledged.update((name, value) for name, value in chunk.items() if name not in failed)
    return {name: chunk[name] for name in chunk if name in failed}


async def read_back(scene: Scene) -> None:
    """Reads everything that was acknowledged and compares it."""
    stage, total = scene.stage, len(scene.acknowledged)
    stage.step(
        "Everything acknowledged is read back and compared",
        shows="An acknowledged write is on the disks of two nodes; SIGKILL takes none away.",
        how="kv dump | sort   beside   sort names.jsonl",
    )
    missing, different = [], []
    with stage.progress("comparing", total) as advance:
        for chunk in in_chunks(scene.acknowledged, CHUNK * CHUNKS_IN_FLIGHT):
            entries = await scene.client.get_many(list(chunk), timeout_s=CALL_TIMEOUT_S)
            missing += [name for name in chunk if not entries[name].found]
            different += [name for name, value in chunk.items() if entries[name].found and entries[name].values != [value]]
            advance(len(chunk))
    equal = total - len(missing) - len(different)
    scene.check(
        not missing and not different, f"{equal:,} of {total:,} equal, {len(missing):,} missing, {len(different):,} different"
    )


async def look_up(scene: Scene) -> None:
    """Single keys."""
    stage = scene.stage
    names = [name for name in LOOKUPS if name in scene.acknowledged]
    stage.step("Lookups", shows="The client knows the ring and asks a node that holds the key.", how=f'kv get "{names[0]}"')
    right = 0
    for name in names:
        entry = await scene.client.get(name, timeout_s=CALL_TIMEOUT_S)
        right += entry.values == [scene.acknowledged[name]]
        stage.say(f"{name:<26} {_shown(entry.values)}   from {' '.join(entry.receipt.acknowledged)}")
    scene.check(right == len(names), f"{right} of {len(names)} as they were stored")


async def scan_prefix(scene: Scene) -> None:
    """A range in key order over the whole ring."""
    prefix = PREFIX if any(name.startswith(PREFIX) for name in scene.acknowledged) else PREFIX_OF_FEW
    expected = sorted(name for name in scene.acknowledged if name.startswith(prefix))[:PREFIX_SHOWN]
    scene.stage.step(
        "A prefix scan",
        shows="Keys in order over the whole namespace, merged from every node's partitions.",
        how=f'kv scan "{prefix}" --limit {PREFIX_SHOWN}',
    )
    found = []
    async for entry in scene.client.scan(prefix=prefix, limit=PREFIX_SHOWN):
        found.append(entry.key.decode())
        scene.stage.say(f"{found[-1]:<26} {_shown(entry.values)}")
    scene.check(found == expected, f"{len(found)} keys, in order, none left out")


async def update_concurrently(scene: Scene, open_client: Callable[[], AsyncClient]) -> None:
    """Two clients change what they both have read; nothing is lost, and a third write merges."""
    key = LOOKUPS[0] if LOOKUPS[0] in scene.acknowledged else min(scene.acknowledged, key=lambda name: (len(name), name))
    scene.stage.step(
        "A concurrent update",
        shows="Two clients change the same version: both changes are kept, until merged.",
        how=f"kv -o json get {key}   then twice   kv put {key} VALUE --context …",
    )
    async with open_client() as other:
        mine, theirs = await scene.client.get(key), await other.get(key)
        await scene.client.put(key, b"Ada was here", context=mine.context)
        await other.put(key, b"Grace was here", context=theirs.context)
    both = await scene.client.get(key)
    # Sorted by value: siblings come in the order of their dots, and two coordinators' dots in no order a reader could expect.
    for number, value in enumerate(sorted(both.values), start=1):
        scene.stage.say(f"sibling {number}: {value.decode()}")
    scene.check(sorted(both.values) == [b"Ada was here", b"Grace was here"], "both updates are there, neither has won by luck")
    await scene.client.put(key, b"Ada and Grace were here", context=both.context)
    merged = await scene.client.get(key)
    scene.check(merged.values == [b"Ada and Grace were here"], f"merged with the context of that read: {_shown(merged.values)}")


async def measure_latency(scene: Scene) -> None:
    """One operation after the other, drawn."""
    scene.stage.step(
        "Latency, one operation at a time",
        shows="A put ends when two nodes have synced it to disk, a get when two answered.",
        how="kv bench run --workload put --in-flight 1 --seconds 5",
    )
    client, keys = scene.client, list(scene.acknowledged)[:: max(1, len(scene.acknowledged) // SAMPLES)][:SAMPLES]
    gets = await _timed(client.get, keys)
    puts = await _timed(lambda key: client.put(f"latency/{key}", b"x" * 100), keys)
    lines = draw_latencies({f"put ({len(puts):,})": puts, f"get ({len(gets):,})": gets}, blocks=scene.stage.can_draw_blocks)
    scene.stage.picture(lines)


async def cut_in_two(scene: Scene) -> None:
    """Four presets through one cut, and the table that it gives: done by the chaos suite, on a cluster of its own."""
    scene.stage.step(
        "One cluster cut in two, every preset side by side",
        shows="Available or consistent in a partition; quick or current else: you choose.",
        how=" ".join(("kv", *CUT)),
    )
    command = (sys.executable, "-P", "-m", "kvclient.cli.main", *CUT)
    # On a terminal it tells there what it is doing: this takes most of a minute.
    told = None if sys.stderr.isatty() else asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=told
    )
    try:
        out, err = await process.communicate()
    except asyncio.CancelledError:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)  # it heals, and ends its nodes
        await process.wait()
        raise
    if out:
        scene.stage.picture(out.decode().splitlines())
    if process.returncode in (0, PROMISE_BROKEN):
        scene.check(process.returncode == 0, "every side did what its preset promises")
    else:  # no Toxiproxy to be had, say: nothing was shown, and nothing was broken
        scene.stage.say(f"not shown: {((err or b'').decode().strip().splitlines() or ['see above'])[-1]}")


async def _timed(operation: Callable[[str], Awaitable[object]], keys: list[str]) -> list[float]:
    seconds = []
    for key in keys:
        began_s = perf_counter()  # the loop's own clock may count whole milliseconds only
        await operation(key)
        seconds.append(perf_counter() - began_s)
    return seconds


def _shown(values: list[bytes]) -> str:
    return " | ".join(value.decode() for value in values) or "(nothing)"
