"""Where a node meets the world: time, chance, disk, network and threads, as one object chosen when the node is made.

Production is here; the simulated world (kvstore/simulation/) brings its own and starts the very same `Node`. Nothing below asks
which of the two it was given.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import grpc.aio

from kvproto.frames import FrameNet, TcpFrames
from kvproto.options import CHANNEL_OPTIONS, SERVER_OPTIONS
from kvstore.api.http_server import HttpServer
from kvstore.api.malformed import RefuseMalformed
from kvstore.config import NodeConfig
from kvstore.runtime import Clock, StartWorker, ThreadWorker, system_random, system_timer, wall_clock
from kvstore.storage.directory import DataDirectory, open_directory
from kvstore.storage.disk_engine import open_disk_engine
from kvstore.storage.engine import Engine
from kvstore.transport.security import PlainText, Security, explain_plain

FILES_KEPT = 1200
"""For the engine, which keeps a thousand tables open, its logs, and the links to peers."""


class Directory(Protocol):
    """An open data directory (contract: storage/directory.py)."""

    @property
    def clean_state(self) -> bytes | None:
        """What the last clean stop left, if nothing was opened since."""

    def subdirectory(self, name: str) -> Path:
        """A place in it for one engine."""

    def append(self, name: str, data: bytes) -> None:
        """Adds to a file in it, durably. Raises `StorageError`."""

    def close(self, clean_state: bytes | None = None) -> None:
        """Lets go of it, with the marker of a clean stop if a state is given."""


class Seams(Protocol):
    """What a node is handed. `channel` and `server` give what grpc.aio's channels and `server` would, the latter for so many
    connections with calls; `frames` how connections between nodes without gRPC are made; `sockets` how many connections there may
    be; `security` says who is on the other side of a connection, and is plain text unless `secure` was called; `timer` gives
    seconds for durations, finer than the loop's clock; `http` serves an address over HTTP, where there is one."""

    clock: Clock
    rng: random.Random
    timer: Callable[[], float]
    start_worker: StartWorker
    channel: Callable[[str], Any]
    server: Callable[[Sequence[grpc.aio.ServerInterceptor[Any, Any]], int], Any]
    frames: FrameNet
    sockets: Callable[[int], Sockets]
    http: type[HttpServer] | None
    security: Security

    def secure(self, config: NodeConfig) -> None:
        """From here on `channel` and `security` go by the node's [tls]. Raises `UserError` naming what is wrong with it."""

    def open_directory(self, path: Path, *, cluster_id: str, node_id: str) -> Directory:
        """Takes the data directory for this process; raises as storage/directory.py says."""

    def open_engine(self, path: Path, *, write_buffer_bytes: int, cache_bytes: int) -> Engine:
        """Opens the engine at a place within the data directory. Raises `StorageError`."""


class ProductionSeams:
    """The machine: its clock, its randomness, LevelDB, gRPC, threads."""

    def __init__(self) -> None:
        self.clock: Clock = wall_clock()
        self.rng = system_random()
        self.start_worker: StartWorker = ThreadWorker
        self.channel: Callable[[str], Any] = _open_channel
        self.timer: Callable[[], float] = system_timer
        self.server: Callable[[Sequence[grpc.aio.ServerInterceptor[Any, Any]], int], Any] = _make_server
        self.frames: FrameNet = TcpFrames()
        self.sockets: Callable[[int], Sockets] = _sockets
        self.http: type[HttpServer] | None = HttpServer
        self.security: Security = PlainText(explain_plain)

    def secure(self, config: NodeConfig) -> None:
        """See `Seams.secure`. cryptography is imported for those who use it."""
        from kvstore.transport.credentials import NodeCredentials

        assert config.tls is not None, "only a node with [tls] asks for it"
        credentials = NodeCredentials(config.tls, node_id=config.node_id, members=config.nodes, clock=self.clock)
        self.security, self.channel = credentials, credentials.channel

    def open_directory(self, path: Path, *, cluster_id: str, node_id: str) -> DataDirectory:
        """See `Seams.open_directory`."""
        return open_directory(path, cluster_id=cluster_id, node_id=node_id)

    def open_engine(self, path: Path, *, write_buffer_bytes: int, cache_bytes: int) -> Engine:
        """See `Seams.open_engine`."""
        return open_disk_engine(path, write_buffer_bytes=write_buffer_bytes, cache_bytes=cache_bytes)


def _open_channel(address: str) -> Any:
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)


class Sockets(NamedTuple):
    """How many connections may be open: over gRPC, and of clients that send frames."""

    grpc: int
    frames: int


def sockets_allowed(connections_max: int, files_max: int) -> Sockets:
    """How many connections may be open where `connections_max` may have calls and the process may open `files_max` files.

    Those without calls count as well, and so do peers and whoever looks at the node's health: so there may be some more. But never
    so many that the engine cannot open a table any more, which would be a failed disk. A client that sends frames has one of each;
    where files are few most clients do without.
    """
    free = files_max - min(FILES_KEPT, files_max * 3 // 4)
    frames = min(connections_max, free // 5)
    return Sockets(min(connections_max + connections_max // 4 + 64, free - frames), frames)


def _sockets(connections_max: int) -> Sockets:
    return sockets_allowed(connections_max, resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _make_server(interceptors: Sequence[grpc.aio.ServerInterceptor[Any, Any]], connections_max: int) -> Any:
    options = [*SERVER_OPTIONS, ("grpc.max_allowed_incoming_connections", _sockets(connections_max).grpc)]
    return grpc.aio.server(options=options, interceptors=[*interceptors, RefuseMalformed()])
