"""Nodes among themselves: with certificates that name them they work together, and nobody else gets into the Peer service."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat, load_pem_private_key

from kvclient import AsyncClient, Tls
from kvclient.credentials import TlsCredentials
from kvproto.codec import decode_error
from kvproto.errors import NotAllowed, UserError
from kvproto.v1 import peer_pb2, peer_pb2_grpc
from kvstore.config import TlsConfig
from kvstore.node import Node
from kvstore.transport.certificates import is_signed_by, read_node_pem
from tests.support.certificates import HOSTS, Pki
from tests.support.nodes import Nodes
from tests.support.waiting import until
from tests.tls.conftest import SecureNodes


@asynccontextmanager
async def peer_stub(address: str, tls: Tls) -> AsyncIterator[Any]:
    """The Peer service at `address`, as somebody with these files reaches it."""
    channel = TlsCredentials(tls).channel(address)
    try:
        yield peer_pb2_grpc.PeerStub(channel)
    finally:
        await channel.close()


def hello(nodes: Nodes, as_node: str) -> peer_pb2.HelloRequest:
    return peer_pb2.HelloRequest(
        cluster_id=nodes.settings.id,
        node_id=as_node,
        incarnation=7,
        protocol=1,
        settings=nodes.settings.canonical_json(),
        actor=bytes(12),
        lease=10**6,
    )


async def said(nodes: Nodes, tls: Tls, as_node: str) -> NotAllowed | None:
    """What n1 answers to whoever greets it as `as_node` with these files."""
    async with peer_stub(nodes.addresses["n1"], tls) as stub:
        reply = await stub.Hello(hello(nodes, as_node), timeout=5)
    if not reply.HasField("error"):
        assert reply.node_id == "n1"
        return None
    error = decode_error(reply.error)
    assert isinstance(error, NotAllowed), error
    assert not reply.node_id and not reply.incarnation and not reply.remembered_actor, "a stranger is told nothing"
    return error


def of_node(nodes: SecureNodes, node: str) -> Tls:
    tls = nodes.tls[node]
    assert tls is not None
    return Tls(ca=nodes.pki.ca, cert=tls.cert, key=tls.key)


async def test_nodes_with_certificates_replicate_to_each_other(nodes: SecureNodes) -> None:
    await nodes.start()
    async with AsyncClient(nodes.at, tls=nodes.client) as client:
        receipt = (await client.put("k", b"v", level="all")).receipt
        assert sorted(receipt.acknowledged) == ["n1", "n2"]
        assert (await client.get("k", level="all")).value == b"v"
        assert [row.state for row in await client.admin.status()] == ["alive", "alive"]
        assert [entry.key async for entry in client.scan()] == [b"k"]
    for node in nodes.running.values():
        assert node.parts.frames is None and node.parts.peers is not None, "nothing of it is plain text"
        assert [link.over for link in node.parts.peers.links.values()] == ["grpc"]


async def test_a_client_is_no_peer(nodes: SecureNodes) -> None:
    """It may read and write values, but hand in no records, read no pages, and say of no node what that has leased."""
    await nodes.start("n1")
    error = await said(nodes, nodes.client, "n2")
    assert error is not None and "not signed by the ca" in error.message and error.subject == "n2"
    async with peer_stub(nodes.addresses["n1"], nodes.client) as stub:
        call = stub.Exchange()
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
        page = await stub.Page(peer_pb2.PageRequest(namespace=1), timeout=5)
        assert isinstance(decode_error(page.error), NotAllowed) and not page.keys
    async with peer_stub(nodes.addresses["n1"], of_node(nodes, "n2")) as stub:
        reply = await stub.Hello(hello(nodes, "n2"), timeout=5)
    assert not reply.HasField("error") and not reply.remembered_actor, "a node is let in; what the client said is not remembered"


async def test_a_node_cannot_greet_as_another(nodes: SecureNodes) -> None:
    await nodes.start("n1")
    error = await said(nodes, of_node(nodes, "n2"), "n1")
    assert error is not None and "is that of n2, not of n1" in error.message


async def test_with_one_authority_for_all_only_the_name_makes_a_peer(nodes: SecureNodes) -> None:
    for node in nodes.ids:
        nodes.tls[node] = nodes.pki.node(node)
    await nodes.start()
    client = nodes.pki.client("someone")
    async with AsyncClient(nodes.at, tls=client) as store:
        await store.put("k", b"v", level="all")
    error = await said(nodes, client, "n2")
    assert error is not None and "names no node" in error.message
    async with peer_stub(nodes.addresses["n1"], client) as stub:
        page = await stub.Page(peer_pb2.PageRequest(namespace=1), timeout=5)
    assert isinstance(decode_error(page.error), NotAllowed)


async def test_a_clients_authority_below_that_of_the_nodes_makes_no_peers(nodes: SecureNodes) -> None:
    """What it signs is signed by the nodes' authority too, by way of it; so certificates must name their node."""
    below = nodes.pki.below("clients-below")
    nodes.tls["n1"] = nodes.pki.node("n1", client_ca=below.ca)
    await nodes.start("n1")
    client = below.client("someone", ca=nodes.pki.ca)
    async with AsyncClient(nodes.addresses["n1"], tls=client) as store:
        await store.put("k", b"v", level="one")
    error = await said(nodes, client, "n2")
    assert error is not None and "names no node" in error.message


async def test_where_clients_have_their_own_authority_a_node_need_not_be_named(nodes: SecureNodes) -> None:
    for node in nodes.ids:
        cert, key = nodes.pki.issue(f"host-of-{node}", *HOSTS)
        nodes.tls[node] = replace(nodes.pki.node(node, client_ca=nodes.clients.ca), cert=cert, key=key)
    await nodes.start()


async def test_a_certificate_signed_by_way_of_another_authority_is_as_good(nodes: SecureNodes) -> None:
    below = nodes.pki.below("nodes-below")
    for node in nodes.ids:
        nodes.tls[node] = replace(below.node(node, client_ca=nodes.clients.ca), ca=nodes.pki.ca)
    await nodes.start()


async def test_a_node_that_the_others_do_not_accept_does_not_start(nodes: SecureNodes) -> None:
    """Its certificate is signed by the clients' authority, which it takes for that of the nodes; gRPC lets it in, as a client."""
    await nodes.start("n1")
    both = nodes.root / "tls" / "both.pem"
    both.write_bytes(nodes.pki.ca.read_bytes() + nodes.clients.ca.read_bytes())
    nodes.tls["n2"] = replace(nodes.clients.node("n2"), ca=both)
    with pytest.raises(NotAllowed, match="not signed by the ca of n1"):
        await Node(nodes.config("n2")).start()


async def test_a_node_in_plain_text_beside_one_with_tls_serves_alone_and_says_why(
    nodes: SecureNodes, events: list[dict[str, object]]
) -> None:
    await nodes.start("n1")
    nodes.tls["n2"] = None
    await nodes.start_one("n2")

    def reasons(subject: str) -> list[object]:
        return [event["reason"] for event in events if event["event"] == "peer_refused" and event["peer"] == subject]

    await until(lambda: bool(reasons("n1") and reasons("n2")))
    assert all("speaks TLS" in str(reason) for reason in reasons("n1")), "n2 of n1"
    assert all("does not speak TLS" in str(reason) for reason in reasons("n2")), "n1 of n2"
    async with AsyncClient(nodes.addresses["n2"]) as client:
        await client.put("k", b"v", level="one")


def encrypted(key: Path) -> Path:
    loaded = load_pem_private_key(key.read_bytes(), None)
    path = key.with_name("encrypted.key")
    path.write_bytes(loaded.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    return path


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda pki, tls: replace(tls, cert=pki.folder / "missing.pem"), "missing.pem cannot be read"),
        (lambda pki, tls: replace(tls, cert=tls.key), "n1.key holds no certificates"),
        (lambda pki, tls: replace(tls, key=tls.cert), "n1.pem is no private key"),
        (lambda pki, tls: replace(tls, key=pki.node("n2").key), r"n2.key does not belong to .*n1.pem"),
        (lambda pki, tls: replace(tls, key=encrypted(tls.key)), "encrypted.key has a password"),
        (lambda pki, tls: replace(tls, ca=tls.key), "n1.key holds no certificates"),
        (lambda pki, tls: replace(tls, client_ca=tls.key), "n1.key holds no certificates"),
        (lambda pki, tls: replace(tls, ca=Pki(pki.folder, "other").ca), r"not signed by an authority in .*other.pem"),
        (lambda pki, tls: pki.node("n1", days=-1), r"n1.pem is valid from .* only: renew it"),
        (lambda pki, tls: pki.node("n2"), "n2.pem is that of n2, not of n1"),
        (lambda pki, tls: pki.node("elsewhere"), "elsewhere.pem names no node"),
    ],
)
async def test_files_that_nobody_would_accept_are_refused_at_the_start(
    tmp_path: Path, pki: Pki, change: Callable[[Pki, TlsConfig], TlsConfig], named: str
) -> None:
    tls = change(pki, pki.node("n1"))
    with pytest.raises(UserError, match=named) as caught:
        await Node(Nodes(tmp_path).config("n1", tls=tls)).start()
    assert caught.value.subject.endswith((".pem", ".key"))


def test_a_node_cannot_sign_more_nodes(pki: Pki) -> None:
    cert, key = pki.issue("n1", "n1")
    signer = x509.load_pem_x509_certificate(cert.read_bytes())
    signing_key = load_pem_private_key(key.read_bytes(), None)
    assert isinstance(signing_key, ec.EllipticCurvePrivateKey)
    begins, ends = signer.not_valid_before_utc, signer.not_valid_after_utc
    forged = (
        x509.CertificateBuilder(
            signer.subject, x509.Name([]), ec.generate_private_key(ec.SECP256R1()).public_key(), 7, begins, ends
        )
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("n2")]), critical=True)
        .sign(signing_key, hashes.SHA256())
    )
    authorities = x509.load_pem_x509_certificates(pki.ca.read_bytes())
    assert is_signed_by(signer, [], authorities, _now_ms(cert))
    assert not is_signed_by(forged, [signer], authorities, _now_ms(cert))


def test_names_are_compared_without_regard_to_case(tmp_path: Path) -> None:
    """DNS does so, and tools write small letters."""
    pki = Pki(tmp_path, authority=trustme.CA())
    tls = pki.node("node-a")
    assert read_node_pem(tls, node_id="Node-A", members=["Node-A"], now_ms=_now_ms(tls.cert)).must_name


def _now_ms(cert: Path) -> int:
    return int(x509.load_pem_x509_certificate(cert.read_bytes()).not_valid_before_utc.timestamp() * 1000) + 60_000
