"""Whoever does not speak the protocol is cut off, at once or when its time is up; whoever does is served meanwhile."""

from __future__ import annotations

import asyncio
import ssl
from random import Random

import pytest

from tests.hostile.conftest import Port

pytestmark = pytest.mark.usefixtures("short_handshakes")

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = bytes.fromhex("000000040000000000")
BYTES = {
    "nothing": b"",
    "noise": Random(1).randbytes(4096),
    "zeros": bytes(4096),
    "HTTP/1": b"GET / HTTP/1.1\r\nHost: store\r\n\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "half an HTTP/2 preface": PREFACE[:10],
    "an HTTP/2 preface and silence": PREFACE,
    "a frame of 16 MiB that does not come": PREFACE + SETTINGS + bytes.fromhex("ffffff000100000001"),
    "a header block that is none": PREFACE + SETTINGS + bytes.fromhex("000004010500000001") + b"\xff\xff\xff\xff",
    "half a TLS handshake": bytes.fromhex("1603010200010001fc0303"),
}


async def cut_off(port: Port, knock: bytes, context: ssl.SSLContext | None = None) -> None:
    """Returns when the node has closed the connection; the test's time limit is its bound, gRPC's own would be two minutes."""
    try:
        reader, writer = await asyncio.open_connection(port.host, port.port, ssl=context)
    except OSError:  # also that of TLS
        return
    try:
        writer.write(knock)
        async with asyncio.timeout(20):
            while await reader.read(4096):
                pass
    except OSError:
        pass
    finally:
        writer.transport.abort()


@pytest.mark.parametrize("name", BYTES)
async def test_a_stranger_is_cut_off(port: Port, name: str) -> None:
    cutting = asyncio.create_task(cut_off(port, BYTES[name]))
    await port.serves()
    await cutting


async def test_a_crowd_of_strangers_keeps_nobody_from_being_served(port: Port) -> None:
    crowd = [asyncio.create_task(cut_off(port, knock)) for knock in BYTES.values() for _ in range(10)]
    for _ in range(5):
        await port.serves()
    await asyncio.gather(*crowd)


@pytest.mark.parametrize("port", ["tls"], indirect=True)
@pytest.mark.parametrize("name", [name for name in BYTES if "TLS" not in name])
async def test_a_certificate_does_not_make_nonsense_welcome(port: Port, name: str) -> None:
    assert port.pki is not None
    tls = port.pki.client("insider")
    context = ssl.create_default_context(cafile=tls.ca)
    context.load_cert_chain(tls.cert, tls.key)  # type: ignore[arg-type]
    context.set_alpn_protocols(["h2"])
    await cut_off(port, BYTES[name], context)
