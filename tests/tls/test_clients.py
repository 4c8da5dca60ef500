"""Clients on a port with TLS: those with a certificate are served, the others hear within moments what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from kvclient import AsyncClient, Client, Tls
from kvclient.cli.exit_codes import ExitCode, exit_code_of
from kvclient.errors import (
    BadRequest,
    CertificateExpired,
    CertificateRefused,
    CertificateRequired,
    KvError,
    NotAllowed,
    TlsError,
    TlsNotSpoken,
    TlsRequired,
    UnknownAuthority,
    WrongHostName,
)
from tests.support.certificates import Pki
from tests.support.nodes import Nodes
from tests.tls.conftest import SecureNodes

PATIENCE_S = 30.0
"""Of clients that must be refused: whoever waits for it to pass instead is killed by the test's own time limit of 25 s."""


@pytest.fixture
async def served(nodes: SecureNodes) -> AsyncIterator[SecureNodes]:
    """Both nodes run; before and after the test a client with a certificate is served."""
    await nodes.start()
    async with AsyncClient(nodes.at, tls=nodes.client) as client:
        await client.put("k", b"v")
        yield nodes
        assert (await client.get("k")).value == b"v", "whoever has a certificate is served as before"


async def refusal(at: str, tls: Tls | None) -> TlsError:
    client = AsyncClient(at, tls=tls, timeout_s=PATIENCE_S)
    with pytest.raises(TlsError) as caught:
        async with asyncio.timeout(25):
            await client.get("k")
    await client.close()
    error = caught.value
    assert not error.retryable and not error.may_have_applied, "nothing was sent, and trying again does not help"
    assert exit_code_of(error) is ExitCode.NOT_ALLOWED
    return error


async def test_a_client_without_a_certificate(served: SecureNodes) -> None:
    error = await refusal(served.at, Tls(ca=served.pki.ca))
    assert type(error) is CertificateRequired and error.subject in served.addresses.values() and "cert and key" in error.message


async def test_a_client_whose_certificate_somebody_else_has_signed(served: SecureNodes) -> None:
    stranger = Pki(served.root / "tls", "stranger").client("stranger", ca=served.pki.ca)
    error = await refusal(served.at, stranger)
    assert type(error) is CertificateRefused and "stranger.pem" in error.message and "client_ca" in error.message


async def test_a_client_whose_certificate_has_expired(served: SecureNodes) -> None:
    error = await refusal(served.at, served.clients.client("old", ca=served.pki.ca, days=-1))
    assert type(error) is CertificateExpired and "old.pem" in error.message and "renew" in error.message


async def test_a_client_that_does_not_trust_the_nodes(served: SecureNodes) -> None:
    error = await refusal(served.at, replace(served.client, ca=served.clients.ca))
    assert type(error) is UnknownAuthority and "clients.pem" in error.message and "ca of the cluster" in error.message


async def test_a_client_that_looks_for_another_name(served: SecureNodes) -> None:
    error = await refusal(served.at, replace(served.client, server_name="kv.example.com"))
    assert type(error) is WrongHostName and "kv.example.com" in error.message


async def test_a_client_in_plain_text(served: SecureNodes) -> None:
    error = await refusal(served.at, None)
    assert type(error) is TlsRequired and "kvs://" in error.message


async def test_a_client_with_tls_on_a_plain_port(tmp_path: Path, pki: Pki) -> None:
    async with Nodes(tmp_path, ("n1",)) as nodes:
        await nodes.start()
        error = await refusal(nodes.addresses["n1"], pki.client())
        assert type(error) is TlsNotSpoken and "[tls]" in error.message
        async with AsyncClient(nodes.addresses["n1"]) as client:
            await client.put("k", b"v")


async def test_a_node_whose_certificate_expires_while_it_runs(nodes: SecureNodes) -> None:
    nodes.tls["n1"] = nodes.pki.node("n1", client_ca=nodes.clients.ca, days=4 / 86_400)
    await nodes.start("n1")
    async with asyncio.timeout(60):
        while not isinstance(error := await whatever_happens(nodes), CertificateExpired):
            assert error is None, "as long as it is valid the node serves"
    assert nodes.addresses["n1"] in error.message and "renew" in error.message


async def whatever_happens(nodes: SecureNodes) -> KvError | None:
    client = AsyncClient(nodes.addresses["n1"], tls=nodes.client)
    try:
        await client.connect()
    except KvError as error:
        return error
    finally:
        await client.close()
    return None


async def test_a_node_that_is_down_is_not_taken_for_one_that_refuses(nodes: SecureNodes) -> None:
    """n1 would refuse for good, n2 may come: the client waits for it, and tells in the end what it knows."""
    await nodes.start("n1")
    client = AsyncClient(nodes.at, tls=Tls(ca=nodes.pki.ca), timeout_s=0.5)
    with pytest.raises(CertificateRequired):
        await client.get("k")
    await client.close()


async def test_a_name_that_stands_in_no_certificate_is_reached_by_the_address_map_and_server_name(nodes: SecureNodes) -> None:
    """As through a tunnel: what is dialled is not what the certificates are for."""
    for node in nodes.ids:
        nodes.tls[node] = nodes.pki.node(node, client_ca=nodes.clients.ca, names=("127.0.0.1", "kv.example.com"))
    await nodes.start()
    places = {node: address.replace("127.0.0.1", "localhost") for node, address in nodes.addresses.items()}
    at = ",".join(places.values())
    assert type(await refusal(at, nodes.client)) is WrongHostName
    async with AsyncClient(at, tls=replace(nodes.client, server_name="kv.example.com"), address_map=places) as client:
        await client.put("k", b"v", level="all")


async def test_the_url_carries_everything(served: SecureNodes) -> None:
    tls = served.client
    for url in (
        f"kvs://{served.at}/default?ca={tls.ca}&cert={tls.cert}&key={tls.key}",
        f"kv://{served.at}?tls=1&ca={tls.ca}&cert={tls.cert}&key={tls.key}&server_name=localhost",
    ):
        async with AsyncClient(url) as client:
            assert (await client.get("k")).value == b"v"


async def test_the_blocking_client_takes_the_same(served: SecureNodes) -> None:
    def use() -> bytes | None:
        with Client(served.at, tls=served.client) as client:
            return client.get("k").value

    assert await asyncio.to_thread(use) == b"v"


def test_files_that_do_not_belong_together_are_refused_before_anything_is_dialled(pki: Pki) -> None:
    one, other = pki.client("one"), pki.client("other")
    broken = pki.folder / "broken.pem"
    broken.write_text("no certificate")
    for tls, named in (
        (replace(one, key=other.key), "one.pem"),
        (replace(one, ca=broken), "broken.pem"),
        (replace(one, cert=pki.folder / "missing.pem"), "missing.pem"),
    ):
        with pytest.raises(BadRequest, match=named):
            AsyncClient("127.0.0.1:1", tls=tls)
    with pytest.raises(BadRequest, match="cert and key belong together"):
        Tls(cert=one.cert)
    with pytest.raises(BadRequest, match="embedded"):
        AsyncClient("embedded::memory:x", tls=one)


def test_every_refusal_is_one_of_not_allowed() -> None:
    assert all(issubclass(kind, NotAllowed) for kind in TlsError.__subclasses__())
