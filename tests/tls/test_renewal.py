"""Certificates that are renewed under processes that go on running: the next connection has them, none that stands is lost."""

from __future__ import annotations

import asyncio
import os
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from kvclient import AsyncClient, Tls
from kvclient.errors import CertificateRefused
from kvstore.config import TlsConfig
from kvstore.runtime import SystemClock
from kvstore.transport.credentials import NodeCredentials
from tests.support.certificates import Pki
from tests.support.clocks import ManualClock
from tests.support.nodes import free_ports
from tests.support.waiting import until
from tests.telemetry.http_client import fetch
from tests.tls.conftest import SecureNodes


async def served_certificate(address: str, tls: Tls) -> bytes:
    """What is presented at a handshake now, DER; b"" when the node does not accept ours."""
    context = ssl.create_default_context(cafile=tls.ca)
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(tls.cert, tls.key)  # type: ignore[arg-type]
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=context)
    try:
        der: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return der if await reader.read(1) else b""
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


def der_of(cert: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(cert.read_text())


async def test_a_renewed_certificate_is_served_at_the_next_handshake_and_connections_that_stand_go_on(nodes: SecureNodes) -> None:
    await nodes.start()
    address = nodes.addresses["n1"]
    before = await served_certificate(address, nodes.client)
    async with AsyncClient(nodes.at, tls=nodes.client) as client:
        await client.put("k", b"before", level="all")
        writing = asyncio.gather(*(client.put(f"k{at}", b"v", level="all") for at in range(200)))
        for node in nodes.ids:
            nodes.pki.node(node, client_ca=nodes.clients.ca)
        after = await served_certificate(address, nodes.client)
        await writing
        assert nodes.is_linked()
        assert (await client.put("k", b"after", level="all")).receipt.acknowledged
    assert before != after == der_of(nodes.root / "tls" / "n1.pem")


async def test_a_new_authority_is_trusted_and_an_old_one_no_more_from_the_next_handshake_on(nodes: SecureNodes) -> None:
    await nodes.start("n1")
    address = nodes.addresses["n1"]
    others = Pki(nodes.root / "tls", "others")
    other = others.client("other", ca=nodes.pki.ca)
    assert not await served_certificate(address, other)
    nodes.clients.ca.write_bytes(nodes.clients.ca.read_bytes() + others.ca.read_bytes())
    assert await served_certificate(address, other)
    assert await served_certificate(address, nodes.client)
    nodes.clients.ca.write_bytes(others.ca.read_bytes())
    assert not await served_certificate(address, nodes.client)
    assert await served_certificate(address, other)


async def test_broken_files_keep_what_was_served_and_are_told_once(nodes: SecureNodes, events: list[dict[str, object]]) -> None:
    await nodes.start("n1")
    address, tls = nodes.addresses["n1"], nodes.tls["n1"]
    assert tls is not None
    before = await served_certificate(address, nodes.client)
    good = tls.cert.read_bytes()
    tls.cert.write_text("half a certif")
    for _ in range(3):
        assert await served_certificate(address, nodes.client) == before
    (kept,) = [event for event in events if event["event"] == "certificate_kept"]
    assert str(tls.cert) in str(kept["reason"]) and kept["log_level"] == "error"
    tls.cert.unlink()
    assert await served_certificate(address, nodes.client) == before
    tls.cert.write_bytes(good)
    assert await served_certificate(address, nodes.client) == before
    assert [event["event"] for event in events].count("certificate_loaded") == 2


async def test_peers_dial_with_renewed_certificates(nodes: SecureNodes) -> None:
    """All change to another authority: bundles that hold both, new certificates, and then only the new one. Nobody is remade."""
    await nodes.start()
    after = Pki(nodes.root / "tls", "after")
    old = nodes.pki.ca.read_bytes()
    nodes.pki.ca.write_bytes(old + after.ca.read_bytes())
    for node in nodes.ids:
        cert, key = after.issue(f"{node}-after", "127.0.0.1", node)
        tls = nodes.tls[node]
        assert tls is not None
        os.replace(key, tls.key)
        os.replace(cert, tls.cert)
    nodes.pki.ca.write_bytes(after.ca.read_bytes())
    await nodes.stop("n2")
    await nodes.start("n2")
    async with AsyncClient(nodes.at, tls=nodes.client) as client:
        assert sorted((await client.put("k", b"v", level="all")).receipt.acknowledged) == ["n1", "n2"]


async def test_a_client_reconnects_with_its_renewed_certificate(nodes: SecureNodes) -> None:
    """1. The node is restarted with another authority for clients. 2. The client is refused. 3. Its files are replaced. 4. It is
    served, without having been made again."""
    await nodes.start("n1")
    client = AsyncClient(nodes.addresses["n1"], tls=nodes.client, timeout_s=20)
    await client.put("k", b"v", level="one")
    await nodes.stop("n1")
    others = Pki(nodes.root / "tls", "others")
    tls = nodes.tls["n1"]
    assert tls is not None
    nodes.tls["n1"] = replace(tls, client_ca=others.ca)
    await nodes.start("n1")
    with pytest.raises(CertificateRefused):
        await AsyncClient(nodes.addresses["n1"], tls=nodes.client).connect()
    writing = asyncio.create_task(client.put("k", b"w", level="one"))
    renewed = others.client("renewed")
    os.replace(renewed.key, nodes.client.key)  # type: ignore[arg-type]
    os.replace(renewed.cert, nodes.client.cert)  # type: ignore[arg-type]
    assert (await writing).receipt.acknowledged == ("n1",)
    await client.close()


class Expiry:
    """A node's credentials beside a clock that is moved by hand."""

    def __init__(self, tls: TlsConfig, clock: ManualClock) -> None:
        self.clock = clock
        self.credentials = NodeCredentials(tls, node_id="n1", members=["n1"], clock=clock)

    def days_left(self) -> float:
        assert self.credentials.expires_at_ms is not None
        return (self.credentials.expires_at_ms - self.clock.now_ms()) / 86_400_000


async def test_a_certificate_that_expires_within_two_weeks_is_told_once_a_day(
    pki: Pki, events: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def count(seconds: float) -> None:
        nonlocal looks
        looks += 1
        await real_sleep(0)

    real_sleep = asyncio.sleep
    monkeypatch.setattr(asyncio, "sleep", count)
    clock = ManualClock(SystemClock().now_ms())
    expiry = Expiry(pki.node("n1", days=30), clock)
    watching = asyncio.create_task(expiry.credentials.watch())

    async def looked_again() -> list[dict[str, object]]:
        seen = looks
        while looks < seen + 3:
            await real_sleep(0)
        return [event for event in events if event["event"] == "certificate_expires_soon"]

    try:
        assert 29.9 < expiry.days_left() <= 30
        assert await looked_again() == []
        clock.advance_s(17 * 86_400)
        (told,) = await looked_again()
        assert told["log_level"] == "warning" and told["days"] == 13.0 and "n1.pem" in str(told["file"])
        clock.advance_s(3600)
        assert len(await looked_again()) == 1
        clock.advance_s(86_400)
        assert len(await looked_again()) == 2
    finally:
        watching.cancel()


async def test_a_node_says_when_its_certificate_expires(nodes: SecureNodes) -> None:
    await nodes.start("n1")
    node = nodes.running["n1"]
    first = node.certificate_expires_at_ms
    assert first is not None
    nodes.pki.node("n1", client_ca=nodes.clients.ca, days=60)
    await served_certificate(nodes.addresses["n1"], nodes.client)
    await until(lambda: node.certificate_expires_at_ms != first)
    assert node.certificate_expires_at_ms - first > 29 * 86_400_000  # type: ignore[operator]


async def test_the_metrics_say_so_too(nodes: SecureNodes) -> None:
    nodes.http = {"n1": f"127.0.0.1:{free_ports(1)[0]}"}
    await nodes.start("n1")
    expires_at_ms = nodes.running["n1"].certificate_expires_at_ms
    assert expires_at_ms is not None
    _, _, text = await fetch(nodes.http["n1"], "/metrics")
    (line,) = [line for line in text.splitlines() if line.startswith("kv_certificate_expiry_timestamp_seconds ")]
    assert float(line.split()[1]) == expires_at_ms / 1000
