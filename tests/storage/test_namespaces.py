"""A data directory remembers which namespace has which id."""

from __future__ import annotations

import pytest

from kvproto.errors import ClusterError
from kvstore.storage.memory import MemoryEngine
from kvstore.storage.namespaces import NAMESPACES_KEY, remember_namespaces


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
