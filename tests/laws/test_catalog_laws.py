"""Laws of core/catalog: an id has one meaning for ever, a version is its bytes, and what a newer version said is never lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproto.columns import NamespaceWish
from kvproto.errors import NamespaceExists, UnknownNamespace, UserError
from kvstore.core.catalog.catalog import RUN_TIME_ID_MIN, Catalog, Entry, Meaning, create, drop
from kvstore.core.catalog.encoding import UnreadableCatalog, decode_catalog, encode_catalog
from kvstore.core.catalog.settings import MODE_OF_PRESET, Settings, decide_settings

NAMES = ["orders", "users", "a-b.c_1"]
NONE = frozenset[str]()

_wishes = st.builds(
    NamespaceWish,
    name=st.sampled_from(NAMES),
    preset=st.sampled_from(["", *MODE_OF_PRESET]),
    n=st.integers(0, 3),
    ttl_ms=st.sampled_from([0, 1, 60_000]),
    quota_bytes_per_s=st.sampled_from([0, 1000]),
)
_settings = _wishes.map(lambda wish: decide_settings(wish, replicas=3, nodes=3))
_changes = st.lists(st.tuples(st.sampled_from(["create", "drop"]), st.sampled_from(NAMES), _settings), max_size=12)


def apply(catalog: Catalog, change: tuple[str, str, Settings]) -> Catalog:
    """The next version, or the same where the change is refused."""
    what, name, settings = change
    try:
        return create(catalog, name, settings, configured=NONE) if what == "create" else drop(catalog, name, configured=NONE)
    except (NamespaceExists, UnknownNamespace):
        return catalog


def versions(changes: list[tuple[str, str, Settings]]) -> list[Catalog]:
    """Every version that the changes lead through, the first one first."""
    found = [Catalog()]
    for change in changes:
        found.append(apply(found[-1], change))
        found[-1].check()
    return found


@given(_changes)
def test_an_id_has_one_meaning_for_ever(changes: list[tuple[str, str, Settings]]) -> None:
    meant: dict[int, Entry] = {}
    gone: set[int] = set()
    for catalog in versions(changes):
        for entry in catalog.live.values():
            assert meant.setdefault(entry.id, entry) == entry and entry.id not in gone
            assert catalog.meaning(entry.id) is Meaning.LIVE
        gone |= {one for one in meant if one not in catalog.live_ids}
        assert all(catalog.meaning(one) is Meaning.DROPPED for one in gone)


@given(_changes)
def test_an_id_that_no_version_has_given_yet_is_unknown_and_never_dropped(changes: list[tuple[str, str, Settings]]) -> None:
    all_of_them = versions(changes)
    given_ids = {entry.id for catalog in all_of_them for entry in catalog.live.values()}
    seen: set[int] = set()
    for catalog in all_of_them:
        seen |= catalog.live_ids
        for one in given_ids - seen:
            assert catalog.meaning(one) is Meaning.NOT_YET_KNOWN
    assert all_of_them[-1].meaning(RUN_TIME_ID_MIN - 1) is Meaning.CONFIGURED


@given(_changes)
def test_each_change_is_one_version_and_a_refused_one_is_none(changes: list[tuple[str, str, Settings]]) -> None:
    for before, after in zip(versions(changes), versions(changes)[1:], strict=False):
        assert after == before or after.revision == before.revision + 1


@given(_changes)
def test_equal_catalogs_have_equal_bytes_and_bytes_give_the_catalog_back(changes: list[tuple[str, str, Settings]]) -> None:
    catalog = versions(changes)[-1]
    data = encode_catalog(catalog)
    assert decode_catalog(data) == catalog and encode_catalog(decode_catalog(data)) == data


@given(_changes, st.dictionaries(st.sampled_from(["zone_rules", "owner"]), st.integers() | st.lists(st.text()), max_size=2))
def test_what_a_newer_version_has_said_is_kept_through_every_change(
    changes: list[tuple[str, str, Settings]], more: dict[str, Any]
) -> None:
    first = create(Catalog(), "kept", decide_settings(NamespaceWish(name="kept"), replicas=3, nodes=3), configured=NONE)
    plain = json.loads(encode_catalog(first))
    plain.update(more)
    plain["namespaces"][0].update(more)
    catalog = decode_catalog(json.dumps(plain).encode())
    for change in changes:
        catalog = apply(catalog, change)
    after = json.loads(encode_catalog(catalog))
    (kept,) = [row for row in after["namespaces"] if row["name"] == "kept"]
    for name, value in more.items():
        assert after[name] == value and kept[name] == value


@given(_settings)
def test_making_the_same_again_changes_nothing(settings: Settings) -> None:
    catalog = create(Catalog(), "orders", settings, configured=NONE)
    assert create(catalog, "orders", settings, configured=NONE) is catalog


@given(_settings, _settings)
def test_other_settings_are_refused_and_each_is_named(one: Settings, other: Settings) -> None:
    catalog = create(Catalog(), "orders", one, configured=NONE)
    if one == other:
        return
    with pytest.raises(NamespaceExists) as refused:
        create(catalog, "orders", other, configured=NONE)
    for name in ("preset", "n", "ttl_ms", "quota_bytes_per_s"):
        assert (f"{name} is" in refused.value.message) is (getattr(one, name) != getattr(other, name))


@given(_wishes, st.integers(1, 9), st.integers(1, 9))
def test_what_is_taken_can_be_served_and_its_quorums_are_within_the_replicas_there_are(
    wish: NamespaceWish, replicas: int, nodes: int
) -> None:
    try:
        settings = decide_settings(wish, replicas=replicas, nodes=nodes)
    except UserError:
        assert wish.n > replicas
        return
    r, w = settings.quorums(nodes)
    assert settings.is_understood and 1 <= r <= min(settings.n, nodes) and 1 <= w <= min(settings.n, nodes)


_json = st.sampled_from([None, 1, "x", [], [1], {}, {"format": 1}, {"format": 1, "revision": 1, "next_id": 5, "namespaces": [1]}])


@given(st.binary(min_size=1, max_size=20) | _json.map(lambda value: json.dumps(value).encode()))
def test_bytes_that_are_no_catalog_are_refused_by_type(data: bytes) -> None:
    with pytest.raises(UnreadableCatalog):
        decode_catalog(data)
