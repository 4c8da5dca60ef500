"""Judges settings that only make sense together: addresses with TLS, peers with zones, quorums with nodes. Adds to `Problems`."""

from __future__ import annotations

from kvproto.partitions import partition_shift
from kvstore.config.addresses import is_loopback, split_address
from kvstore.config.table import Problems, did_you_mean
from kvstore.config.values import (
    AUTO,
    DEFAULT_NAMESPACE,
    DEFAULT_NAMESPACE_ID,
    LINEARIZABLE,
    OFF,
    ClusterConfig,
    NamespaceConfig,
    NodeConfig,
    mode_of,
)
from kvstore.core.catalog.settings import storage_problem


def check_node(config: NodeConfig, problems: Problems) -> None:
    """Every rule that spans settings; single values have been checked while reading."""
    _check_addresses(config, problems)
    _check_peers(config, problems)
    _check_frames(config, problems)
    _check_zones(config, problems)
    _check_cluster(config.cluster, problems)
    _check_limits(config, problems)
    for namespace in config.cluster.namespaces.values():
        _check_quorums(namespace, config, problems)
        _check_policy(namespace, problems)


def _check_addresses(config: NodeConfig, problems: Problems) -> None:
    for key in ("listen", "http"):
        address: str = getattr(config, key)
        host = _host(key, address, problems)
        if host and not is_loopback(host) and config.tls is None and not config.insecure:
            problems.add(key, f"{address!r} can be reached from other machines and there is no [tls]; add it, or insecure = true")
        elif key == "http" and host and not is_loopback(host) and not config.insecure:
            problems.add(
                key,
                f"{address!r} can be reached from other machines, and [tls] does not cover http; use loopback, or insecure = true",
            )
    if config.advertise != config.listen:
        _host("advertise", config.advertise, problems)
    if config.http and config.http == config.listen:
        problems.add("http", f"{config.http!r} is the address of listen too; give it another port")


def _check_frames(config: NodeConfig, problems: Problems) -> None:
    """What peers bring without gRPC is plain text: it takes what `listen` takes without [tls]."""
    if config.frames not in (AUTO, OFF):
        host = _host("frames", config.frames, problems)
        if config.tls is not None:
            problems.add("frames", f"{config.frames!r} is plain text, and there is [tls]: leave it away, gRPC carries everything")
        elif host and not is_loopback(host) and not config.insecure:
            problems.add("frames", f"{config.frames!r} can be reached from other machines; use loopback, or insecure = true")
        if config.frames in (config.listen, config.http):
            problems.add("frames", f"{config.frames!r} is the address of listen or http too; give it another port")
    for node, address in config.peer_frames.items():
        key = f"peer_frames.{node}"
        _host(key, address, problems)
        if node not in config.peers:
            known = did_you_mean(node, list(config.peers)) if config.peers else "[peers] names nobody"
            problems.add(key, f"no such peer; {known}")


def _host(key: str, address: str, problems: Problems) -> str | None:
    if not address:
        return None  # already reported if it is required
    try:
        return split_address(address)[0]
    except ValueError as error:
        problems.add(key, str(error))
        return None


def _check_peers(config: NodeConfig, problems: Problems) -> None:
    seen: dict[str, str] = {}
    for node, address in config.peers.items():
        key = f"peers.{node}"
        _host(key, address, problems)
        if node == config.node_id:
            problems.add(key, "this node's own id; list only the others")
        elif address and address in (config.listen, config.advertise):
            problems.add(key, f"{address!r} is this node's own address")
        elif address in seen:
            problems.add(key, f"{address!r} is the address of {seen[address]!r} too")
        seen.setdefault(address, node)


def _check_zones(config: NodeConfig, problems: Problems) -> None:
    zones = config.cluster.zones
    for node in zones:
        if node not in config.nodes:
            problems.add(f"cluster.zones.{node}", f"no such node; {did_you_mean(node, config.nodes)}")
    if not zones:
        return
    # Each node plans the ring by itself, so a zone that only some nodes know of would give them different rings.
    missing = [node for node in config.nodes if node not in zones]
    if missing:
        problems.add("cluster.zones", f"names some nodes but not {', '.join(missing)}; name every node or none")
    if config.zone and config.zone != config.zone_of(config.node_id):
        problems.add("zone", f"{config.zone!r}, but cluster.zones says {config.zone_of(config.node_id)!r}")


def _check_cluster(cluster: ClusterConfig, problems: Problems) -> None:
    if cluster.tombstone_grace_s < 2 * cluster.retry_window_s:  # a retry must find the record that knows it
        problems.add(
            "cluster.tombstone_grace_s",
            f"{cluster.tombstone_grace_s:g}, but cluster.retry_window_s is {cluster.retry_window_s:g}: at least twice as much",
        )
    try:
        partition_shift(cluster.partitions)
    except ValueError as error:
        problems.add("cluster.partitions", str(error))
    holders: dict[int, str] = {}
    for name, namespace in sorted(cluster.namespaces.items()):
        key = f"cluster.namespaces.{name}"
        if (name == DEFAULT_NAMESPACE) != (namespace.id == DEFAULT_NAMESPACE_ID):
            problems.add(f"{key}.id", f"{DEFAULT_NAMESPACE_ID} is the id of {DEFAULT_NAMESPACE!r}, and of no other")
        elif namespace.id in holders:
            problems.add(f"{key}.id", f"{namespace.id} is the id of {holders[namespace.id]!r} too")
        else:
            holders[namespace.id] = name
        if namespace.n > cluster.replicas:
            problems.add(f"{key}.n", f"{namespace.n} replicas, but cluster.replicas is {cluster.replicas}; raise that first")
        problem = storage_problem(namespace.mode, namespace.storage, namespace.durability, namespace.max_bytes)
        if problem is not None:
            problems.add(f"{key}.{problem[0]}", problem[1])
        if namespace.value_bytes_max > cluster.value_bytes_max:
            most = cluster.value_bytes_max
            problems.add(
                f"{key}.value_bytes_max", f"{namespace.value_bytes_max}, but cluster.value_bytes_max is {most}: at most that"
            )


def _check_limits(config: NodeConfig, problems: Problems) -> None:
    least = 4 * config.cluster.value_bytes_max  # a connection may hold half of it: room for a value, and for its answer
    if config.limits.in_flight_bytes_max < least:
        problems.add(
            "limits.in_flight_bytes_max",
            f"{config.limits.in_flight_bytes_max:,}, but values may have {config.cluster.value_bytes_max:,} bytes "
            f"(cluster.value_bytes_max): at least {least:,}",
        )


def _check_quorums(namespace: NamespaceConfig, config: NodeConfig, problems: Problems) -> None:
    nodes = len(config.nodes)
    n = namespace.effective_n(nodes)
    for letter, count in (("r", namespace.r), ("w", namespace.w)):
        if count is not None and count > n:
            problems.add(
                f"cluster.namespaces.{namespace.name}.{letter}",
                f"{count}, but a key has {n} replicas (n = {namespace.n}, nodes = {nodes})",
            )


def _check_policy(namespace: NamespaceConfig, problems: Problems) -> None:
    key = f"cluster.namespaces.{namespace.name}"
    module, colon, name = namespace.merge.partition(":")
    if namespace.policy == "merge" and not (module and colon and name.isidentifier()):
        problems.add(f"{key}.merge", f'policy merge needs a function, as "package.module:name", not {namespace.merge!r}')
    for setting in ("merge", "samples"):
        if namespace.policy != "merge" and getattr(namespace, setting):
            problems.add(f"{key}.{setting}", f'only policy = "merge" has one; policy is {namespace.policy!r}')
    if namespace.mode != mode_of(namespace.preset):
        problems.add(f"{key}.preset", f"{namespace.preset!r} is a preset of mode {mode_of(namespace.preset)!r}")
    if namespace.mode == LINEARIZABLE:
        if namespace.policy != "siblings":
            problems.add(f"{key}.policy", "a linearizable namespace has one value a key: leave it away")
        for letter in ("r", "w"):
            if getattr(namespace, letter) is not None:
                problems.add(f"{key}.{letter}", "a linearizable namespace goes by majorities: leave it away")
    if namespace.policy == "counter" and namespace.ttl_s is not None:
        problems.add(f"{key}.ttl_s", "a counter does not expire: leave it away")
