"""What a namespace may be made as, and why not: each refusal by its type, with what would be right."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kvproto.columns import NamespaceWish
from kvproto.errors import BadRequest, KvError, NamespaceConfigured, NamespaceExists, UnknownNamespace, WrongMode
from kvstore.core.catalog.catalog import NAMESPACES_MAX, RUN_TIME_ID_MIN, Catalog, create, drop
from kvstore.core.catalog.encoding import UnreadableCatalog, decode_catalog, encode_catalog
from kvstore.core.catalog.settings import Settings, decide_settings

CONFIGURED = frozenset({"default"})


def settings(**wish: Any) -> Settings:
    return decide_settings(NamespaceWish(**{"name": "orders", **wish}), replicas=3, nodes=3)


@pytest.mark.parametrize(
    ("wish", "error", "said"),
    [
        ({"n": 4}, BadRequest, "n=4 is not between 1 and 3"),
        ({"preset": "pa-el", "r": 4}, BadRequest, "r=4, but a key has 3 replicas"),
        ({"n": 1, "w": 2}, BadRequest, "w=2, but a key has 1 replicas"),
        ({"preset": "pc-ec", "mode": "eventual"}, WrongMode, "say pa-el or pa-ec"),
        ({"preset": "pa-el", "mode": "linearizable"}, WrongMode, "say pc-ec or pc-el"),
        ({"preset": "pc-ec", "r": 2}, WrongMode, "a majority decides"),
        ({"mode": "linearizable", "policy": "lww"}, WrongMode, "has none"),
        ({"policy": "merge"}, BadRequest, "every node.toml"),
        ({"policy": "crdt"}, BadRequest, "there are siblings, lww"),
        ({"preset": "pc-xx"}, BadRequest, "there are pa-el"),
        ({"policy": "counter", "ttl_ms": 1}, BadRequest, "does not expire"),
        ({"name": "_cluster"}, BadRequest, "beginning with a letter or digit"),
        ({"name": ""}, BadRequest, "not a name"),
        ({"quota_bytes_per_s": 1 << 60}, BadRequest, "quota_bytes_per_s"),
        ({"storage": "memory"}, BadRequest, "needs max_bytes"),
        (
            {"storage": "memory", "max_bytes": 1 << 30, "durability": "os"},
            BadRequest,
            "nothing of a namespace in memory is on a disk",
        ),
        ({"storage": "memory", "max_bytes": 1000}, BadRequest, "between 1048576 and"),
        ({"storage": "tape"}, BadRequest, "there are disk, memory"),
        ({"durability": "none"}, BadRequest, "on a disk it is fsync or os"),
        ({"durability": "maybe"}, BadRequest, "there are fsync, os"),
        ({"max_bytes": 1 << 30}, BadRequest, "say storage memory as well"),
    ],
)
def test_a_wish_that_cannot_be_met_is_refused_with_what_would_be_right(
    wish: dict[str, Any], error: type[KvError], said: str
) -> None:
    with pytest.raises(error) as refused:
        settings(**wish)
    assert said in refused.value.message


@pytest.mark.parametrize(("what", "value"), [("durability", "os"), ("storage", "memory")])
def test_a_linearizable_namespace_that_could_forget_is_refused(what: str, value: str) -> None:
    with pytest.raises(BadRequest, match="must not be lost"):
        settings(preset="pc-ec", **{what: value})


def test_memory_has_nothing_to_sync_and_a_disk_is_synced_unless_it_is_said_otherwise() -> None:
    assert (settings().storage, settings().durability) == ("disk", "fsync")
    assert settings(durability="os").durability == "os"
    kept = settings(storage="memory", max_bytes=1 << 30)
    assert (kept.durability, kept.max_bytes, kept.is_understood) == ("none", 1 << 30, True)


def test_what_a_newer_version_may_have_made_is_not_understood() -> None:
    assert not replace(settings(), storage="tape").is_understood
    assert not replace(settings(), durability="quorum-of-discs").is_understood
    assert not replace(settings(), storage="memory").is_understood, "in memory without a bound"


def test_a_namespaces_longest_value_is_at_most_the_clusters() -> None:
    wish = NamespaceWish(name="orders", value_bytes_max=101)
    with pytest.raises(BadRequest, match="the cluster's is 100"):
        decide_settings(wish, replicas=3, nodes=3, value_bytes_max=100)
    assert decide_settings(wish, replicas=3, nodes=3, value_bytes_max=101).value_bytes_max == 101


def test_a_mode_gives_its_usual_preset_and_a_preset_its_mode() -> None:
    assert settings().preset == "pa-ec"
    assert settings(mode="linearizable").preset == "pc-ec"
    assert settings(preset="pc-el").mode == "linearizable"


def test_what_is_configured_is_neither_made_nor_dropped() -> None:
    with pytest.raises(NamespaceConfigured):
        create(Catalog(), "default", settings(), configured=CONFIGURED)
    with pytest.raises(NamespaceConfigured):
        drop(Catalog(), "default", configured=CONFIGURED)


def test_a_name_that_is_made_again_has_another_id() -> None:
    first = create(Catalog(), "orders", settings(), configured=CONFIGURED)
    again = create(drop(first, "orders", configured=CONFIGURED), "orders", settings(), configured=CONFIGURED)
    assert first.entry("orders").id == RUN_TIME_ID_MIN
    assert again.entry("orders").id == RUN_TIME_ID_MIN + 1


def test_dropping_what_is_not_there_says_so() -> None:
    with pytest.raises(UnknownNamespace):
        drop(Catalog(), "orders", configured=CONFIGURED)


def test_there_is_a_bound_on_how_many_there_are_and_a_drop_makes_room() -> None:
    catalog = Catalog()
    for number in range(NAMESPACES_MAX):
        catalog = create(catalog, f"n{number}", settings(), configured=CONFIGURED)
    with pytest.raises(BadRequest) as refused:
        create(catalog, "more", settings(), configured=CONFIGURED)
    assert refused.value.limit == NAMESPACES_MAX
    create(drop(catalog, "n7", configured=CONFIGURED), "more", settings(), configured=CONFIGURED)


def test_other_settings_are_named_one_by_one() -> None:
    catalog = create(Catalog(), "orders", settings(preset="pa-el"), configured=CONFIGURED)
    with pytest.raises(NamespaceExists, match="preset is 'pa-el' and not 'pc-ec'"):
        create(catalog, "orders", settings(preset="pc-ec"), configured=CONFIGURED)


def test_a_format_of_a_newer_version_is_refused_whole() -> None:
    newer = encode_catalog(Catalog()).replace(b'"format":1', b'"format":2')
    with pytest.raises(UnreadableCatalog, match="update this node"):
        decode_catalog(newer)


def test_a_namespace_of_a_newer_kind_is_kept_but_not_understood() -> None:
    catalog = create(Catalog(), "orders", settings(), configured=CONFIGURED)
    newer = decode_catalog(encode_catalog(catalog).replace(b'"policy":"siblings"', b'"policy":"crdt"'))
    assert not newer.entry("orders").settings.is_understood
    assert b"crdt" in encode_catalog(create(newer, "users", settings(), configured=CONFIGURED))
