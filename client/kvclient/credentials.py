"""TLS on the client's side: which files, how a channel is made of them, and what to say when it does not come about.

gRPC keeps the certificates a channel was made with, so files are looked at when a connection is begun, and a renewed certificate
gets a new channel (`grpc_transport.py`). grpc itself is imported with the first channel.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kvclient.errors import BadRequest, TlsError
from kvproto.frames import FrameNet, TcpFrames
from kvproto.options import CHANNEL_OPTIONS
from kvproto.tls_probe import OurSide, explain_failure
from kvproto.watched_files import WatchedFiles

Pem = tuple[bytes | None, bytes | None, bytes | None]
"""Authorities, key, certificate chain."""


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. `ca`: who signs the nodes' certificates (None: gRPC's own list of public authorities). `cert` and `key`: ours.
    `server_name`: the name that a node's certificate must have when it is not the host that is dialled (tunnels, tests)."""

    ca: str | os.PathLike[str] | None = None
    cert: str | os.PathLike[str] | None = None
    key: str | os.PathLike[str] | None = None
    server_name: str = ""

    def __post_init__(self) -> None:
        if (self.cert is None) != (self.key is None):
            raise BadRequest("cert and key belong together: give both or neither", subject="cert" if self.cert else "key")


class Security(Protocol):
    """How a node is connected to; `frames`: how without gRPC, where that may be."""

    frames: FrameNet | None

    def version(self) -> int:
        """Moves on when a new channel would be made of other certificates."""

    def channel(self, address: str) -> Any:
        """A `grpc.aio.Channel`."""

    async def explain(self, address: str) -> TlsError | None:
        """Why no connection came about, if that is TLS's fault."""


class PlainText:
    """No TLS; a node that speaks it is recognised."""

    def __init__(self) -> None:
        self.frames: FrameNet | None = TcpFrames()

    def version(self) -> int:
        """Nothing to renew."""
        return 0

    def channel(self, address: str) -> Any:
        """See `Security.channel`."""
        from kvclient.grpc_import import open_channel

        return open_channel(address)

    async def explain(self, address: str) -> TlsError | None:
        """See `Security.explain`."""
        return await explain_failure(address, None)


class TlsCredentials:
    """TLS with the files of `tls`. Raises `BadRequest` when they cannot be read or do not belong together."""

    def __init__(self, tls: Tls) -> None:
        self.frames: FrameNet | None = None  # they are plain text
        self._ours = ours = OurSide(_path(tls.ca), _path(tls.cert), _path(tls.key), tls.server_name)
        self._files = WatchedFiles([path for path in (ours.ca, ours.cert, ours.key) if path is not None], self._read)

    def version(self) -> int:
        """See `Security.version`."""
        self._files.look()
        return self._files.version

    def channel(self, address: str) -> Any:
        """See `Security.channel`."""
        from kvclient.grpc_import import aio, begin_use, grpc

        begin_use()
        ca, key, cert = self._files.look()
        name = self._ours.server_name
        options = [*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", name)] if name else CHANNEL_OPTIONS
        return aio.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert), options=options)

    async def explain(self, address: str) -> TlsError | None:
        """See `Security.explain`."""
        return await explain_failure(address, self._ours)

    def _read(self) -> Pem:
        ours = self._ours
        files = ", ".join(str(path) for path in (ours.ca, ours.cert, ours.key) if path is not None)
        try:
            ours.context()  # whether they add up; gRPC would only fail every handshake
            read = [None if path is None else path.read_bytes() for path in (ours.ca, ours.key, ours.cert)]
        except ssl.SSLError as error:
            raise BadRequest(f"{files}: not PEM files that belong together ({error.reason or error})", subject="tls") from error
        except OSError as error:
            raise BadRequest(f"{error.filename or files}: {error.strerror or error}", subject="tls") from error
        return read[0], read[1], read[2]


def _path(name: str | os.PathLike[str] | None) -> Path | None:
    return None if name is None else Path(name).expanduser().absolute()
