"""Why a connection failed, when gRPC says no more than "unavailable": one handshake of our own, on the failure path only.

gRPC tells its reasons as text, if at all, and a server of it closes a connection whose certificate it refuses without a word. So
Python's ssl tries the same thing: its verification errors have numbers, and what the other side does after the handshake tells the
rest. Both sides of the wire ask here; the errors are those of `kvproto.errors`.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

from kvproto.errors import (
    CertificateExpired,
    CertificateRefused,
    CertificateRequired,
    TlsError,
    TlsNotSpoken,
    TlsRequired,
    UnknownAuthority,
    WrongHostName,
)

TIMEOUT_S = 0.4
"""For one attempt; there are two at the most."""

# X509_V_ERR_… of OpenSSL, which Python passes on as they are.
NOT_YET_VALID, EXPIRED = 9, 10
UNTRUSTED = frozenset({2, 18, 19, 20, 21})
WRONG_NAME = frozenset({62, 63, 64})
VALIDITY = {NOT_YET_VALID: "is not valid yet: look at the clocks", EXPIRED: "has expired: renew it"}


@dataclass(frozen=True, slots=True)
class OurSide:
    """What we bring to a handshake: PEM files (`ca` None: the system's authorities) and the name to look for ("": the host)."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    server_name: str = ""

    def context(self) -> ssl.SSLContext:
        """The settings of a handshake. Raises `OSError` or `ssl.SSLError` when the files do not add up."""
        context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
        context.set_alpn_protocols(["h2"])
        if self.cert is not None:
            load_pair(context, self.cert, self.key)
        return context


def load_pair(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    """Loads a certificate and its key. Raises `OSError` or `ssl.SSLError`; a key with a password is refused, nobody is asked."""
    context.load_cert_chain(cert, key, password=lambda: "")


async def explain_failure(address: str, ours: OurSide | None) -> TlsError | None:
    """What is wrong with TLS to host:port, or None when nothing is or it cannot be told; never raises. `ours` None: plain text."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdecimal():
        return None
    try:
        if ours is None:
            return await _explain_plain(address, host, int(port))
        context = ours.context()
        error = await _explain_tls(address, host, int(port), ours, context)
        if isinstance(error, CertificateRequired | CertificateRefused):
            # A node that stops at this moment closes the connection too; one that refuses us does so again.
            error = await _explain_tls(address, host, int(port), ours, context)
        return error
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):  # no connection, no answer, or files that are broken
        return None


async def _explain_plain(address: str, host: str, port: int) -> TlsError | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        await _first_byte(host, port, context, host)
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            return None
    return TlsRequired(
        f"{address} speaks TLS: connect with kvs://, --tls or tls= (a node: with [tls]), and the ca of the cluster", subject=address
    )


async def _explain_tls(address: str, host: str, port: int, ours: OurSide, context: ssl.SSLContext) -> TlsError | None:
    name = ours.server_name or host
    try:
        if await _first_byte(host, port, context, name):
            return None
    except ssl.SSLCertVerificationError as error:
        return _verification_error(address, name, ours, error)
    except ssl.SSLError as error:
        if "ALERT" not in (error.reason or ""):
            return TlsNotSpoken(f"{address} does not speak TLS: connect in plain text, or give the node [tls]", subject=address)
    except ConnectionResetError:
        pass
    return _own_error(address, ours)


async def _first_byte(host: str, port: int, context: ssl.SSLContext, name: str) -> bytes:
    """What the other side says first; b"" when it closes the connection after the handshake. gRPC speaks first, on both sides."""
    async with asyncio.timeout(TIMEOUT_S):
        reader, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
        try:
            return await reader.read(1)
        finally:
            writer.transport.abort()


def _verification_error(address: str, name: str, ours: OurSide, error: ssl.SSLCertVerificationError) -> TlsError:
    code = error.verify_code
    if code in VALIDITY:
        return CertificateExpired(f"the certificate of {address} {VALIDITY[code]} there", subject=address)
    if code in UNTRUSTED:
        trusted = "the system's authorities" if ours.ca is None else str(ours.ca)
        return UnknownAuthority(
            f"the certificate of {address} is signed by nobody in {trusted}: give the ca of the cluster", subject=address
        )
    if code in WRONG_NAME:
        return WrongHostName(
            f"the certificate of {address} is not for {name}: dial a name that it has, or say with server_name which one is meant",
            subject=address,
        )
    return TlsError(f"the certificate of {address} was not accepted: {error.verify_message}", subject=address)


def _own_error(address: str, ours: OurSide) -> TlsError:
    """The other side has closed the connection after a handshake that was right for us: it is our certificate that it minds."""
    if ours.cert is None:
        return CertificateRequired(f"{address} asks for a client certificate: give cert and key", subject=address)
    code = _verify_own(ours.cert, ours.key)
    if code in VALIDITY:
        return CertificateExpired(f"our certificate {ours.cert} {VALIDITY[code]}", subject=address)
    return CertificateRefused(
        f"{address} refuses our certificate {ours.cert}: it must be signed by the client_ca (or ca) of the node", subject=address
    )


def _verify_own(cert: Path, key: Path | None) -> int:
    """What OpenSSL says of our certificate when it is trusted as such: a handshake with ourselves, in memory; 0: nothing."""
    client, server = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    server.verify_mode = ssl.CERT_REQUIRED
    server.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    server.load_verify_locations(cert)
    for context in (client, server):
        load_pair(context, cert, key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_code
            except ssl.SSLError:
                return 0
    return 0
