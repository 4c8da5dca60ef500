"""What users see of single operations and of many at once, through real gRPC."""

from __future__ import annotations

import pytest

from kvclient import AsyncClient, BadRequest, BatchError, SiblingsError, TooLarge, WrongMode
from kvproto.columns import Kind, Level
from kvproto.errors import Overloaded, QuorumUnreachable, UnknownNamespace
from tests.client.fake_server import FakeCluster


async def test_what_was_put_is_got_with_version_context_and_receipt(client: AsyncClient) -> None:
    done = await client.put("alice", b"1")
    entry = await client.get(b"alice")
    assert (entry.found, entry.value, entry.values, entry.key) == (True, b"1", [b"1"], b"alice")
    assert entry.version == done.version and len(done.version) == 40 and entry.versions == [done.version]
    assert entry.context == done.context != b""
    assert done.receipt.needed == entry.receipt.needed == 1
    assert entry.expires_at is None


async def test_a_missing_key_is_not_found_and_no_error(client: AsyncClient) -> None:
    entry = await client.get("nobody")
    assert (entry.found, entry.value, entry.values, entry.version, entry.versions) == (False, None, [], "", [])


async def test_a_deleted_key_is_missing_and_deleting_it_again_is_no_error(client: AsyncClient) -> None:
    await client.put("k", b"v")
    await client.delete("k")
    assert not (await client.get("k")).found
    await client.delete("k")


async def test_namespaces_are_apart_and_the_client_is_the_default_one(client: AsyncClient) -> None:
    users = client.namespace("users")
    await users.put("k", b"of users")
    await client.put("k", b"of default")
    assert (await users.get("k")).value == b"of users"
    assert (await client.namespace("default").get("k")).value == b"of default"
    assert client.namespace("users") is users


async def test_siblings_are_all_given_and_value_refuses_to_choose(client: AsyncClient) -> None:
    await client.put("k", b"a", context=b"")
    await client.put("k", b"b", context=b"")
    entry = await client.get("k")
    assert sorted(entry.values) == [b"a", b"b"] and len(entry.versions) == 2
    with pytest.raises(SiblingsError) as raised:
        _ = entry.value
    assert raised.value.actual == 2
    await client.put("k", b"ab", context=entry.context)
    assert (await client.get("k")).value == b"ab"


async def test_many_keys_come_back_under_the_names_they_were_asked_by(client: AsyncClient) -> None:
    done = await client.put_many({"a": b"1", "b": b"2"})
    assert set(done) == {"a", "b"} and done["a"].version != done["b"].version
    entries = await client.get_many(["a", "b", "a", "c"])
    assert {key: entry.value for key, entry in entries.items()} == {"a": b"1", "b": b"2", "c": None}
    assert set(await client.get_many([b"a"])) == {b"a"}
    await client.delete_many(["a", "b"])
    assert not any(entry.found for entry in (await client.get_many(["a", "b"])).values())
    assert await client.get_many([]) == {}


@pytest.mark.usefixtures("by_convention")
async def test_a_batch_that_fails_in_part_says_what_succeeded_and_what_did_not(cluster: FakeCluster, client: AsyncClient) -> None:
    keys = [f"k{number}" for number in range(60)]
    await client.put_many(dict.fromkeys(keys, b"v"))
    broken = cluster.nodes[1]
    broken.errors = [UnknownNamespace("gone")] * 10
    with pytest.raises(BatchError) as raised:
        await client.get_many(keys)
    lost = {key for key in keys if cluster.first_owner(key.encode()) is broken}
    assert set(raised.value.errors) == lost and set(raised.value.results) == set(keys) - lost and lost
    assert all(isinstance(error, UnknownNamespace) for error in raised.value.errors.values())
    assert not raised.value.retryable and not raised.value.may_have_applied
    assert all(entry.value == b"v" for entry in raised.value.results.values())


async def test_a_batch_of_writes_is_unknown_as_soon_as_one_of_its_keys_is(cluster: FakeCluster, client: AsyncClient) -> None:
    for node in cluster.nodes:
        node.errors = [QuorumUnreachable("too few", may_have_applied=True, needed=2, received=1)] * 10
    with pytest.raises(BatchError) as raised:
        await client.put_many({"a": b"1"})
    assert raised.value.may_have_applied and raised.value.errors["a"].needed == 2


@pytest.mark.usefixtures("by_convention")
async def test_options_travel_with_the_group_they_were_given_for(cluster: FakeCluster, client: AsyncClient) -> None:
    await client.put("k", b"v", ttl_s=1.5, w=3)
    await client.get("k", level="one", explain=True)
    await client.get("k", r=2)
    await client.put("k", b"v", level=Level.ALL)
    await client.put("k", b"v", ttl_s=0)
    first, second, third, fourth, fifth = cluster.first_owner(b"k").groups
    assert (first.kind, first.level, first.w, first.r, first.ttls_ms) == (Kind.PUT, Level.EXPLICIT, 3, 0, [1500])
    assert (second.kind, second.level, second.explain) == (Kind.GET, Level.ONE, True)
    assert (third.level, third.r, third.w) == (Level.EXPLICIT, 2, 0)
    assert (fourth.level, fourth.ttls_ms, fourth.explain) == (Level.ALL, [], False)
    assert fifth.ttls_ms == [0], "0 never expires, which is not the same as leaving it to the namespace"


async def test_what_can_never_succeed_is_refused_before_it_is_sent(cluster: FakeCluster, client: AsyncClient) -> None:
    with pytest.raises(TooLarge) as raised:
        await client.put("k", bytes(1024 * 1024 + 1))
    assert (raised.value.limit, raised.value.actual) == (1024 * 1024, 1024 * 1024 + 1)
    with pytest.raises(TooLarge):
        await client.get("k" * 4097)
    with pytest.raises(BadRequest):
        await client.get("")
    with pytest.raises(TooLarge):
        await client.put_many({"a": b"", "b": bytes(1024 * 1024 + 1)})
    with pytest.raises(BadRequest, match="did you mean 'quorum'"):
        await client.get("k", level="qurum")
    with pytest.raises(BadRequest):
        await client.get("k", level="one", r=2)
    with pytest.raises(BadRequest):
        await client.put("k", b"v", ttl_s=-1)
    assert cluster.batches == 0


async def test_conditions_are_refused_where_there_is_no_consensus(cluster: FakeCluster, client: AsyncClient) -> None:
    with pytest.raises(WrongMode, match="pc-ec"):
        await client.put("k", b"v", if_absent=True)
    with pytest.raises(WrongMode):
        await client.put("k", b"v", if_version="00" * 20)
    with pytest.raises(BadRequest, match="40 hex digits"):
        await client.put("k", b"v", if_version="00")
    assert cluster.batches == 0


async def test_a_scan_is_in_key_order_within_its_bounds(client: AsyncClient) -> None:
    await client.put_many({f"k{number:02}": b"%d" % number for number in range(35)})

    async def keys(**bounds: str | int) -> list[str]:
        return [entry.key.decode() async for entry in client.scan(**bounds)]  # type: ignore[arg-type]

    everything = [f"k{number:02}" for number in range(35)]
    assert await keys() == everything
    assert await keys(prefix="k1") == everything[10:20]
    assert await keys(start="k05", end="k09") == everything[5:9]
    assert await keys(after="k05", limit=12) == everything[6:18]
    assert await keys(prefix="z") == []
    assert [entry.value async for entry in client.scan("k3", limit=2)] == [b"30", b"31"]


async def test_a_scan_goes_on_at_another_node_behind_the_last_key(cluster: FakeCluster, client: AsyncClient) -> None:
    await client.put_many({f"k{number:02}": b"v" for number in range(35)})
    cluster.nodes[0].page_errors = [Overloaded("busy", retry_after_s=0.001)]
    cluster.nodes[1].page_errors = [Overloaded("busy", retry_after_s=0.001)]
    found = [entry.key async for entry in client.scan(limit=33)]
    assert found == [b"k%02d" % number for number in range(33)]
    assert cluster.nodes[0].page_errors == []


async def test_a_scan_ends_with_the_error_that_no_other_node_can_help(cluster: FakeCluster, client: AsyncClient) -> None:
    await client.put_many({f"k{number:02}": b"v" for number in range(35)})
    cluster.nodes[0].page_errors = [UnknownNamespace("dropped")]
    scanned = client.scan()
    before = [await anext(scanned) for _ in range(20)]
    assert [entry.key for entry in before] == [b"k%02d" % number for number in range(20)], "what came before the error stands"
    with pytest.raises(UnknownNamespace):
        await anext(scanned)


async def test_status_has_a_row_for_every_member_and_names_the_dead(cluster: FakeCluster, client: AsyncClient) -> None:
    await cluster.nodes[2].stop()
    rows = await client.admin.status()
    assert [(row.node_id, row.state) for row in rows] == [("n1", "alive"), ("n2", "alive"), ("n3", "dead")]
    assert (await client.admin.describe()).cluster_id == "fake"


async def test_the_url_names_namespace_and_level(cluster: FakeCluster) -> None:
    async with AsyncClient(f"kv://{cluster.seeds}/users?level=one") as client:
        await client.put("k", b"v")
        assert (await client.namespace("users").get("k")).value == b"v"
        assert client.name == "users"
    groups = cluster.first_owner(b"k").groups
    assert {group.namespace for group in groups} == {"users"} and {group.level for group in groups} == {Level.ONE}
