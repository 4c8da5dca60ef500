"""Which namespace had which id and policy in this data directory: an id is never given to another name (safety rule 6), and what
was written under one policy is never read under another.

Ids follow from the configuration, by position unless they are stated; a namespace that is added or removed could shift those of the
others and show one namespace's keys under another's name. The directory remembers, and the node refuses to start.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from kvproto.errors import ClusterError
from kvstore.storage.engine import Engine
from kvstore.storage.layout import namespace_range, system_key

NAMESPACES_KEY = system_key(b"namespaces")
POLICIES_KEY = system_key(b"policies")
POLICY_AT_FIRST = "siblings"
"""Of what was written before policies were remembered: there was no other."""


def remember_namespaces(engine: Engine, ids: Mapping[str, int]) -> None:
    """Checks `ids` (name to id) against those remembered and remembers the new ones, durably. To be called before anything else
    writes. Raises `ClusterError` naming both, and changes nothing then."""
    raw = engine.get(NAMESPACES_KEY)
    remembered: dict[str, int] = {} if raw is None else json.loads(raw)
    names = {number: name for name, number in remembered.items()}
    for name, number in sorted(ids.items()):
        if remembered.get(name, number) != number:
            raise ClusterError(
                f"namespace {name!r} has id {remembered[name]} in this data directory and {number} in the configuration: "
                f"say id = {remembered[name]} in [cluster.namespaces.{name}] on every node",
                subject=name,
            )
    for name, number in sorted(ids.items()):
        if names.get(number, name) != name:
            raise ClusterError(
                f"id {number} belongs to namespace {names[number]!r} in this data directory, "
                f"the configuration gives it to {name!r}: say another id in [cluster.namespaces.{name}] on every node",
                subject=name,
            )
    if not set(ids) <= set(remembered):
        engine.write([(NAMESPACES_KEY, json.dumps({**remembered, **ids}, sort_keys=True).encode())], sync=True)


def remember_policies(engine: Engine, policies: Mapping[str, tuple[int, str]], partitions: int) -> None:
    """Checks the policy of each namespace (name to id and policy) against the one that its keys were written under, and remembers
    it, durably. To be called after `remember_namespaces` and before anything else writes; a namespace without any key may have
    another one. Raises `ClusterError` naming both, and changes nothing then."""
    raw = engine.get(POLICIES_KEY)
    remembered: dict[str, str] = {} if raw is None else json.loads(raw)
    for name, (number, policy) in sorted(policies.items()):
        before = remembered.get(name, POLICY_AT_FIRST)
        if before != policy and _has_keys(engine, number, partitions):
            raise ClusterError(
                f"namespace {name!r} has keys in this data directory that were written under policy {before!r}, "
                f"and policy {policy!r} in the configuration: "
                f'say policy = "{before}" in [cluster.namespaces.{name}] on every node, '
                "or give another namespace the new policy and move the keys there",
                subject=name,
            )
    chosen = {**remembered, **{name: policy for name, (_, policy) in policies.items()}}
    if chosen != remembered:
        engine.write([(POLICIES_KEY, json.dumps(chosen, sort_keys=True).encode())], sync=True)


def remembered_namespaces(engine: Engine) -> dict[str, tuple[int, str]]:
    """Name to id and policy of every namespace that this data directory has had."""
    names, policies = engine.get(NAMESPACES_KEY), engine.get(POLICIES_KEY)
    chosen: dict[str, str] = {} if policies is None else json.loads(policies)
    found: dict[str, int] = {} if names is None else json.loads(names)
    return {name: (number, chosen.get(name, POLICY_AT_FIRST)) for name, number in found.items()}


def _has_keys(engine: Engine, namespace: int, partitions: int) -> bool:
    return any(next(engine.keys(*namespace_range(partition, namespace)), None) is not None for partition in range(partitions))
