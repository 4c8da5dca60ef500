"""A data directory remembers which namespace has which id."""

from __future__ import annotations

import pytest

from kvproto.errors import ClusterError
from kvstore.storage.layout import store_key_prefix
from kvstore.storage.memory import MemoryEngine
from kvstore.storage.namespaces import (
    NAMESPACES_KEY,
    POLICIES_KEY,
    remember_namespaces,
    remember_policies,
    remembered_namespaces,
)


def test_new_names_are_added_and_old_ones_stay_when_they_are_dropped_from_the_configuration() -> None:
    engine = MemoryEngine()
    remember_namespaces(engine, {"default": 1, "orders": 2})
    remember_namespaces(engine, {"default": 1})
    remember_namespaces(engine, {"default": 1, "users": 3})
    with pytest.raises(ClusterError, match="id 2 belongs to namespace 'orders'"):
        remember_namespaces(engine, {"default": 1, "carts": 2})


def test_a_name_that_would_change_its_id_is_refused_and_nothing_changes() -> None:
    engine = MemoryEngine()
    remember_namespaces(engine, {"default": 1, "orders": 2})
    before = engine.get(NAMESPACES_KEY)
    with pytest.raises(ClusterError, match="say id = 2") as refused:
        remember_namespaces(engine, {"carts": 2, "default": 1, "orders": 3})
    assert refused.value.subject == "orders"
    assert engine.get(NAMESPACES_KEY) == before


def _write_a_key(engine: MemoryEngine, namespace: int, partition: int = 3) -> None:
    engine.write([(store_key_prefix(partition, namespace) + b"k", b"r")], sync=True)


def test_a_namespace_with_keys_keeps_the_policy_that_they_were_written_under() -> None:
    engine = MemoryEngine()
    remember_policies(engine, {"hits": (2, "counter")}, partitions=8)
    _write_a_key(engine, 2)
    before = engine.get(POLICIES_KEY)
    with pytest.raises(ClusterError, match=r"written under policy 'counter'.*and policy 'set'") as refused:
        remember_policies(engine, {"hits": (2, "set")}, partitions=8)
    assert refused.value.subject == "hits" and engine.get(POLICIES_KEY) == before
    remember_policies(engine, {"hits": (2, "counter")}, partitions=8)


def test_a_namespace_without_keys_may_have_another_policy() -> None:
    engine = MemoryEngine()
    remember_policies(engine, {"hits": (2, "counter"), "tags": (3, "set")}, partitions=8)
    _write_a_key(engine, 3)
    remember_policies(engine, {"hits": (2, "map"), "tags": (3, "set")}, partitions=8)
    remember_namespaces(engine, {"hits": 2, "tags": 3})
    assert remembered_namespaces(engine) == {"hits": (2, "map"), "tags": (3, "set")}


def test_keys_from_before_policies_were_remembered_are_siblings() -> None:
    engine = MemoryEngine()
    remember_namespaces(engine, {"default": 1})
    _write_a_key(engine, 1)
    with pytest.raises(ClusterError, match="written under policy 'siblings'"):
        remember_policies(engine, {"default": (1, "lww")}, partitions=8)
    remember_policies(engine, {"default": (1, "siblings")}, partitions=8)
