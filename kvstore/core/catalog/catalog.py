"""Which namespaces were made at run time, and which ids are gone. Immutable: `create` and `drop` return the next version.

An id has one meaning for ever: ids count up from `RUN_TIME_ID_MIN`, and one that was given and is not live any more was dropped. So
dropped ids need no list, and an id that is not given yet is one that this node does not know *yet*: never to be taken for dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from kvproto.errors import BadRequest, NamespaceConfigured, NamespaceExists, Overloaded, UnknownNamespace
from kvstore.core.catalog.settings import Settings

CLUSTER_NAMESPACE = "_cluster"
"""Where nodes keep what they agree on; no name that anybody could give."""
CLUSTER_NAMESPACE_ID = 0x3FFF_FFFF
RUN_TIME_ID_MIN = 0x4000_0000
RUN_TIME_ID_MAX = 0xFFFF_FFFE
NAMESPACES_MAX = 256
"""Made at run time and live: each costs every node a few kilobytes and a place in every pass over partitions."""

JsonValue = str | int | float | bool | None | list["JsonValue"] | dict[str, "JsonValue"]


class Meaning(Enum):
    """What is known of a namespace's id."""

    LIVE = "live"
    DROPPED = "dropped"
    NOT_YET_KNOWN = "not yet known"
    CONFIGURED = "configured"


@dataclass(frozen=True, slots=True)
class Entry:
    """A live namespace. `more`: what a newer version has said of it."""

    id: int
    name: str
    settings: Settings
    more: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Catalog:
    """One committed version; `revision` counts them. `live` by name. `next_id`: the first that was never given."""

    revision: int = 0
    next_id: int = RUN_TIME_ID_MIN
    live: Mapping[str, Entry] = field(default_factory=dict)
    more: Mapping[str, JsonValue] = field(default_factory=dict)

    def meaning(self, namespace_id: int) -> Meaning:
        """What the id stands for, by this version."""
        if namespace_id < RUN_TIME_ID_MIN:
            return Meaning.CONFIGURED
        if namespace_id >= self.next_id:
            return Meaning.NOT_YET_KNOWN
        return Meaning.LIVE if namespace_id in self.live_ids else Meaning.DROPPED

    @property
    def live_ids(self) -> frozenset[int]:
        """Ids in use."""
        return frozenset(entry.id for entry in self.live.values())

    def entry(self, name: str) -> Entry:
        """The live namespace `name`. Raises `UnknownNamespace`."""
        found = self.live.get(name)
        if found is None:
            raise UnknownNamespace(f"there is no namespace {name!r} that was made at run time", subject=name)
        return found

    def check(self) -> None:
        """Asserts the invariants."""
        ids = [entry.id for entry in self.live.values()]
        assert len(set(ids)) == len(ids), "an id has one meaning"
        assert all(RUN_TIME_ID_MIN <= one < self.next_id for one in ids), "an id that is in use was given"
        assert all(name == entry.name for name, entry in self.live.items())
        assert self.next_id - RUN_TIME_ID_MIN <= self.revision, "every id took a version"


def create(catalog: Catalog, name: str, settings: Settings, *, configured: frozenset[str]) -> Catalog:
    """The version in which `name` is live; `catalog` itself if it is already, with the same settings. `configured`: names that
    node.toml gives a meaning. Raises `NamespaceExists` naming what differs, `NamespaceConfigured`, `Overloaded` when there are too
    many."""
    if name in configured:
        raise NamespaceConfigured(f"namespace {name!r} is configured in node.toml: it is there already", subject=name)
    found = catalog.live.get(name)
    if found is not None:
        differences = found.settings.differences(settings)
        if differences:
            raise NamespaceExists(f"namespace {name!r} exists with other settings: {'; '.join(differences)}", subject=name)
        return catalog
    if len(catalog.live) >= NAMESPACES_MAX:
        raise BadRequest(
            f"there are {len(catalog.live)} namespaces that were made at run time, at most {NAMESPACES_MAX} are possible: drop one",
            limit=NAMESPACES_MAX,
            actual=len(catalog.live) + 1,
            subject="namespaces",
        )
    if catalog.next_id > RUN_TIME_ID_MAX:
        raise Overloaded("every id that a namespace could have was given once", retryable=False, subject="namespaces")
    entry = Entry(catalog.next_id, name, settings)
    live = {**catalog.live, name: entry}
    return replace(catalog, revision=catalog.revision + 1, next_id=catalog.next_id + 1, live=live)


def drop(catalog: Catalog, name: str, *, configured: frozenset[str]) -> Catalog:
    """The version without `name`, whose id is gone for ever. Raises `UnknownNamespace`, `NamespaceConfigured`."""
    if name in configured:
        raise NamespaceConfigured(
            f"namespace {name!r} is configured, and so not dropped at run time: take it out of every node.toml", subject=name
        )
    catalog.entry(name)
    left = {other: entry for other, entry in catalog.live.items() if other != name}
    return replace(catalog, revision=catalog.revision + 1, live=left)
