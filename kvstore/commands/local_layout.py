"""What a local cluster looks like on disk: DATA/cluster.json, and for each node a folder with node.toml, its data and its log.

cluster.json outlives the processes, so that a later `kv dev --data DATA` brings the same cluster up again; the pids and the
control socket in it are those of the last run.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kvproto.errors import ClusterError, UserError
from kvstore.commands.dev_certificates import FOLDER, DevCertificates
from kvstore.commands.ports import HTTP_OFFSET, find_free_port_pairs
from kvstore.config.addresses import PORT_MAX
from kvstore.config.values import DEFAULT_NAMESPACE_ID, EVENTUAL, LINEARIZABLE, NamespaceConfig, mode_of

CLUSTER_FILE = "cluster.json"
FORMAT = 1
HOST = "127.0.0.1"
PORT_STEP = 10
NODES_MAX = 16
CONSISTENT = "pc-ec"
"""The preset of a namespace that is asked for as `linearizable`."""


@dataclass(frozen=True, slots=True)
class NodePlace:
    """One node's addresses and folder."""

    id: str
    address: str
    http: str
    folder: Path

    @property
    def config(self) -> Path:
        """Its node.toml."""
        return self.folder / "node.toml"

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What its process writes to stderr, over all its lives."""
        return self.folder / "node.log"


@dataclass(frozen=True, slots=True)
class ClusterLayout:
    """A local cluster before it runs: the settings that are the same everywhere and a place for each node. `policies`: its
    namespaces beside `default`, in the order of their ids, with their conflict policies."""

    root: Path
    cluster_id: str
    preset: str
    nodes: tuple[NodePlace, ...]
    tls: bool = False
    policies: Mapping[str, str] = field(default_factory=dict)

    @property
    def certificates(self) -> DevCertificates | None:
        """Its certificates, if it has any."""
        return DevCertificates(self.root / FOLDER) if self.tls else None

    def write_configs(self) -> None:
        """Writes every node.toml, and certificates if they are missing; data directories are left to the nodes."""
        if self.certificates is not None:
            self.certificates.make([place.id for place in self.nodes])
        for place in self.nodes:
            place.folder.mkdir(parents=True, exist_ok=True)
            replace_file(place.config, render_config(self, place))


def plan_layout(
    root: Path,
    *,
    nodes: int | None,
    base_port: int,
    preset: str | None,
    rng: random.Random,
    tls: bool = False,
    policies: Mapping[str, str] | None = None,
    kept: Mapping[str, object] | None = None,
) -> ClusterLayout:
    """Places for n1, n2, …: gRPC on `base_port` + 10 each and http one above, or free ports when it is 0.

    `kept` is an earlier run's cluster.json: its cluster id, number of nodes, preset and TLS hold unless given. Raises `UserError`
    for numbers out of range and `ClusterError` when `nodes` differs from the kept number, which would plan another ring over old
    data.
    """
    kept = kept or {}
    kept_nodes = kept.get("nodes")
    kept_count = len(kept_nodes) if isinstance(kept_nodes, list) else None
    count = nodes or kept_count or 3
    if kept_count is not None and count != kept_count:
        raise ClusterError(
            f"{root} holds a cluster of {kept_count} nodes, not {count}: leave --nodes away, or choose another --data directory",
            subject=str(root),
        )
    if not 1 <= count <= NODES_MAX:
        raise UserError(f"--nodes must be between 1 and {NODES_MAX}, not {count}")
    places = tuple(
        NodePlace(f"n{number}", f"{HOST}:{port}", f"{HOST}:{port + HTTP_OFFSET}", root / f"n{number}")
        for number, port in enumerate(_ports(count, base_port, rng), start=1)
    )
    cluster_id = str(kept.get("cluster_id") or f"dev-{rng.getrandbits(64):016x}")
    kept_policies = kept.get("policies")
    chosen = {**(kept_policies if isinstance(kept_policies, dict) else {}), **(policies or {})}
    preset = preset or str(kept.get("preset") or "pa-ec")
    return ClusterLayout(root, cluster_id, preset, places, tls or bool(kept.get("tls")), chosen)


def _ports(count: int, base_port: int, rng: random.Random) -> Sequence[int]:
    if base_port == 0:
        return find_free_port_pairs(count, rng=rng, host=HOST)
    last = base_port + PORT_STEP * (count - 1) + HTTP_OFFSET
    if base_port < 1 or last > PORT_MAX:
        raise UserError(f"--base-port {base_port} would need ports up to {last}; they end at {PORT_MAX}")
    return range(base_port, last, PORT_STEP)


def render_config(layout: ClusterLayout, place: NodePlace) -> str:
    """The node's TOML; paths are relative, so that the whole directory can be moved."""
    peers = [f"{other.id} = {_quoted(other.address)}" for other in layout.nodes if other.id != place.id]
    lines = [
        f"node_id = {_quoted(place.id)}",
        f"listen = {_quoted(place.address)}",
        f"http = {_quoted(place.http)}",
        f"data = {_quoted(place.data.name)}",
        "",
        "[peers]",
        *peers,
        "",
        "[membership]",
        'timing = "local"',
        "",
        *_tls_lines(layout, place),
        "[cluster]",
        f"id = {_quoted(layout.cluster_id)}",
        "",
        "[cluster.namespaces.default]",
        f"preset = {_quoted(layout.preset)}",
    ]
    # What has a policy is eventual.
    eventual = layout.preset if mode_of(layout.preset) == EVENTUAL else NamespaceConfig().preset
    for number, (name, policy) in enumerate(layout.policies.items(), start=DEFAULT_NAMESPACE_ID + 1):
        # Stated ids: a namespace that is added later must not shift those of the others.
        head = f"[cluster.namespaces.{_quoted(name)}]"
        lines += ["", head, f"id = {number}"]
        if policy == LINEARIZABLE:
            lines += [f"preset = {_quoted(CONSISTENT)}"]
        else:
            lines += [f"preset = {_quoted(eventual)}", f"policy = {_quoted(policy)}"]
    return "\n".join(lines) + "\n"


def _tls_lines(layout: ClusterLayout, place: NodePlace) -> list[str]:
    certificates = layout.certificates
    if certificates is None:
        return []
    cert, key = certificates.pair(place.id)
    files = {"cert": cert, "key": key, "ca": certificates.ca, "client_ca": certificates.client_ca}
    return ["[tls]", *(f"{name} = {_quoted(os.path.relpath(path, place.folder))}" for name, path in files.items()), ""]


def _quoted(text: str) -> str:
    # A JSON string of printable text is a TOML basic string.
    return json.dumps(text, ensure_ascii=False)


def read_cluster_file(root: Path) -> dict[str, object] | None:
    """What an earlier run left in DATA/cluster.json, or None; raises `ClusterError` when it is there but not ours to read."""
    path = root / CLUSTER_FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ClusterError(f"{path} cannot be read ({error})", subject=str(path)) from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ClusterError(f"{path} is not a local cluster of this version (format {FORMAT})", subject=str(path))
    return found


def replace_file(path: Path, text: str) -> None:
    """Readers see the old text or the new one, never half of it."""
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)
