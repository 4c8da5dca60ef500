"""A node's file: everything that is wrong is said at once, and what is right means the same on every node."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvproto.errors import Code, UserError
from kvstore.config import ClusterConfig, ConfigError, NamespaceConfig, NodeConfig, load_config, parse_config

CONTRACT = """
node_id = "n1"
listen = "127.0.0.1:7400"
advertise = "127.0.0.1:7400"
http = "127.0.0.1:7401"
data = "data/n1"
zone = "a"
[peers]
n2 = "127.0.0.1:7410"
n3 = "127.0.0.1:7420"
[cluster]
partitions = 256
[cluster.namespaces.default]
preset = "pa-ec"
"""
MINIMAL = 'node_id = "n1"\nlisten = "127.0.0.1:7400"\ndata = "d"\n'


def parse(text: str, base: Path = Path("/srv/kv")) -> NodeConfig:
    return parse_config(text, base=base)


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text)
    return caught.value.problems


def test_the_file_of_the_contract_is_read_as_written() -> None:
    config = parse(CONTRACT)
    assert (config.node_id, config.listen, config.http, config.zone) == ("n1", "127.0.0.1:7400", "127.0.0.1:7401", "a")
    assert config.data == Path("/srv/kv/data/n1")
    assert config.nodes == ("n1", "n2", "n3")
    assert config.cluster.namespaces["default"] == NamespaceConfig()


def test_what_is_not_set_has_its_default() -> None:
    config = parse(MINIMAL)
    assert config.advertise == config.listen
    assert config.http == ""
    assert config.tls is None
    assert config.cluster == ClusterConfig()
    assert config.limits.record_cache_bytes == 64 * 1024 * 1024


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(MINIMAL)
    assert load_config(tmp_path / "node.toml").data == tmp_path / "d"


def test_every_problem_is_listed_at_once_with_its_key_and_the_nearest_valid_name() -> None:
    found = problems("""
node_id = "n 1"
listn = "127.0.0.1:7400"
data = 3
partitions = 128
[cluster]
partitons = 128
replicas = true
[cluster.namespaces.default]
preset = "pa-ecc"
polcy = "siblings"
[limits]
in_flight_max = 0
""")
    expected = [
        "node_id: 'n 1' is not a name: 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit",
        "listen: required, and not set",
        "data: must be text in quotes, not 3",
        "listn: unknown setting; did you mean 'listen'?",
        "partitions: unknown setting; did you mean 'cluster.partitions'?",
        "cluster.partitons: unknown setting; did you mean 'cluster.partitions'?",
        "cluster.replicas: must be a whole number, not true",
        "cluster.namespaces.default.preset: 'pa-ecc' is not known; did you mean 'pa-ec'?",
        "cluster.namespaces.default.polcy: unknown setting; did you mean 'cluster.namespaces.default.policy'?",
        "limits.in_flight_max: must be between 1 and 16,777,216, not 0",
    ]
    assert sorted(found) == sorted(expected)


def test_the_message_lists_all_problems_and_the_error_is_the_users() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(MINIMAL + "lisen = 1\nzzz = 2\n")
    error = caught.value
    assert isinstance(error, UserError)
    assert error.code is Code.BAD_REQUEST
    assert len(error.problems) == 2
    assert all(problem in error.message for problem in error.problems)


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ('mode = "linearizable"\npreset = "pa-ec"', "preset: 'pa-ec' is a preset of mode 'eventual'"),
        ('mode = "eventual"\npreset = "pc-el"', "preset: 'pc-el' is a preset of mode 'linearizable'"),
        ('preset = "pc-ec"\npolicy = "lww"', "policy: a linearizable namespace has one value a key"),
        ('preset = "pc-ec"\nr = 1', "r: a linearizable namespace goes by majorities"),
        ('policy = "lvv"', "policy: 'lvv' is not known; "),
        ('policy = "merge"', "merge: policy merge needs a function, as \"package.module:name\", not ''"),
        ('policy = "merge"\nmerge = "carts.merge"', "merge: policy merge needs a function"),
        ('merge = "carts:merge"', "merge: only policy = \"merge\" has one; policy is 'siblings'"),
        ('samples = ["a"]', 'samples: only policy = "merge" has one'),
        ('policy = "merge"\nmerge = "a:b"\nsamples = [1]', "samples: must be a list of texts in quotes"),
        ('policy = "merge"\nmerge = "a:b"\nsamples = "a"', "samples: must be a list, not"),
        ('policy = "counter"\nttl_s = 5', "ttl_s: a counter does not expire"),
        ('storage = "memory"', "max_bytes: a namespace in memory needs max_bytes"),
        ("max_bytes = 2000000", "max_bytes: max_bytes bounds a namespace in memory"),
        ('storage = "memory"\nmax_bytes = 2000', "max_bytes: max_bytes is 2000; between 1048576 and"),
        (
            'storage = "memory"\nmax_bytes = 2000000\ndurability = "os"',
            "durability: durability 'os': nothing of a namespace in memory",
        ),
        ('preset = "pc-ec"\ndurability = "os"', "durability: durability 'os': what a linearizable namespace has promised"),
        ('preset = "pc-ec"\nstorage = "memory"\nmax_bytes = 2000000', "storage: storage 'memory': what a linearizable namespace"),
        ('storage = "memry"', "storage: 'memry' is not known; did you mean 'memory'?"),
        ("value_bytes_max = 2000000", "value_bytes_max: 2000000, but cluster.value_bytes_max is 1048576"),
        ('durability = "fsnc"', "durability: 'fsnc' is not known; did you mean 'fsync'?"),
        ("ttl_s = -1", "ttl_s: must be between"),
        ("ttl_s = nan", "ttl_s: must be between"),
        ("n = 4", "n: 4 replicas, but cluster.replicas is 3"),
        ("id = 2", "id: 1 is the id of 'default'"),
    ],
)
def test_a_namespace_setting_that_cannot_be_had_is_refused_by_name(setting: str, word: str) -> None:
    (problem,) = problems(f"{MINIMAL}[cluster.namespaces.default]\n{setting}\n")
    assert problem.startswith(f"cluster.namespaces.default.{word}")


@pytest.mark.parametrize("key", ["listen", "http"])
@pytest.mark.parametrize("address", ["0.0.0.0:7409", "[::]:7409", "10.1.2.3:7409", "kv.example.org:7409"])
def test_an_address_others_can_reach_needs_tls_or_insecure(key: str, address: str) -> None:
    text = CONTRACT.replace({"listen": 'listen = "127.0.0.1:7400"', "http": 'http = "127.0.0.1:7401"'}[key], f'{key} = "{address}"')
    (problem,) = problems(text)
    assert problem.startswith(f"{key}: '{address}' can be reached from other machines and there is no [tls]")
    assert getattr(parse("insecure = true\n" + text), key) == address


@pytest.mark.parametrize("address", ["localhost:7400", "127.0.0.2:7400", "[::1]:7400"])
def test_loopback_needs_no_tls(address: str) -> None:
    assert parse(MINIMAL.replace("127.0.0.1:7400", address)).listen == address


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.1:", ":7400", "127.0.0.1:0", "127.0.0.1:70000", "::1:7400", "h:x"])
def test_an_address_without_host_and_port_is_refused(address: str) -> None:
    (problem,) = problems(MINIMAL.replace("127.0.0.1:7400", address))
    assert problem.startswith("listen: ")


@pytest.mark.parametrize(
    ("peers", "problem"),
    [
        ('n1 = "127.0.0.1:7499"', "peers.n1: this node's own id; list only the others"),
        ('n1 = "127.0.0.1:7400"', "peers.n1: this node's own id; list only the others"),
        ('n2 = "127.0.0.1:7400"', "peers.n2: '127.0.0.1:7400' is this node's own address"),
        ('n2 = "h:1"\nn3 = "h:1"', "peers.n3: 'h:1' is the address of 'n2' too"),
        ('n2 = ""', "peers.n2: required, and not set"),
        ("n2 = 7410", "peers.n2: must be text in quotes, not 7410"),
        ('n2 = "h"', "peers.n2: 'h' is not host:port, for example 127.0.0.1:7400"),
    ],
)
def test_peers_that_cannot_be_meant_are_refused(peers: str, problem: str) -> None:
    assert problems(f"{MINIMAL}[peers]\n{peers}\n") == [problem]


def test_http_is_not_covered_by_tls(tmp_path: Path) -> None:
    for name in ("cert", "key", "ca"):
        (tmp_path / name).write_text("")
    text = 'node_id = "n1"\nlisten = "127.0.0.1:7400"\nhttp = "0.0.0.0:7401"\ndata = "d"\n'
    tls = '[tls]\ncert = "cert"\nkey = "key"\nca = "ca"\n'
    with pytest.raises(ConfigError) as caught:
        parse_config(text + tls, base=tmp_path)
    (problem,) = caught.value.problems
    assert problem.startswith("http: '0.0.0.0:7401' can be reached from other machines, and [tls] does not cover http")
    assert parse_config("insecure = true\n" + text + tls, base=tmp_path).http == "0.0.0.0:7401"


def test_http_on_the_port_of_grpc_is_refused() -> None:
    assert problems(MINIMAL + 'http = "127.0.0.1:7400"\n') == [
        "http: '127.0.0.1:7400' is the address of listen too; give it another port"
    ]


def test_zones_are_known_for_every_node_or_for_none() -> None:
    text = CONTRACT + '[cluster.zones]\nn1 = "a"\nn22 = "b"\n'
    assert problems(text) == [
        "cluster.zones.n22: no such node; did you mean 'n2'?",
        "cluster.zones: names some nodes but not n2, n3; name every node or none",
    ]
    config = parse(CONTRACT + '[cluster.zones]\nn1 = "a"\nn2 = "b"\nn3 = "b"\n')
    assert [config.zone_of(node) for node in config.nodes] == ["a", "b", "b"]


def test_a_zone_that_contradicts_the_clusters_is_refused() -> None:
    assert problems(CONTRACT + '[cluster.zones]\nn1 = "b"\nn2 = "b"\nn3 = "b"\n') == ["zone: 'a', but cluster.zones says 'b'"]


def test_partitions_must_be_a_power_of_two() -> None:
    (problem,) = problems(MINIMAL + "[cluster]\npartitions = 100\n")
    assert problem.startswith("cluster.partitions: partitions must be a power of two")


def test_tls_wants_its_files_and_they_must_be_readable(tmp_path: Path) -> None:
    text = 'node_id = "n1"\nlisten = "0.0.0.0:7400"\ndata = "d"\n[tls]\ncert = "c.pem"\nkey = "k.pem"\nca = "ca.pem"\n'
    with pytest.raises(ConfigError) as caught:
        parse(text, tmp_path)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["tls.cert", "tls.key", "tls.ca"]
    for name in ("c.pem", "k.pem", "ca.pem"):
        (tmp_path / name).write_text("pem")
    config = parse(text, tmp_path)
    assert config.tls is not None
    assert config.tls.cert == tmp_path / "c.pem"
    assert config.tls.client_ca is None


def test_an_empty_tls_table_is_not_taken_for_no_tls() -> None:
    assert problems(MINIMAL + "[tls]\n") == [f"tls.{name}: required, and not set" for name in ("cert", "key", "ca")]


@pytest.mark.parametrize(
    ("content", "word"), [(None, "no such file"), ("node_id = ", "not valid TOML"), (b"\xff", "cannot be read")]
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, content: str | bytes | None, word: str) -> None:
    path = tmp_path / "node.toml"
    if content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ConfigError, match=word):
        load_config(path)


def test_a_directory_in_place_of_the_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("settings", "nodes", "expected"),
    [
        ({"preset": "pa-ec"}, 3, (3, 2, 2)),
        ({"preset": "pa-ec"}, 2, (2, 2, 2)),
        ({"preset": "pa-ec"}, 1, (1, 1, 1)),
        ({"preset": "pa-ec", "n": 5}, 9, (5, 3, 3)),
        ({"preset": "pa-el"}, 3, (3, 1, 1)),
        ({"preset": "pa-el", "w": 3}, 3, (3, 1, 3)),
        ({"preset": "pa-ec", "r": 1}, 3, (3, 1, 2)),
    ],
)
def test_quorums_follow_from_the_preset_and_the_nodes_there_are(
    settings: dict[str, object], nodes: int, expected: tuple[int, int, int]
) -> None:
    namespace = NamespaceConfig(**settings)  # type: ignore[arg-type]  # the table above mixes types on purpose
    assert (namespace.effective_n(nodes), namespace.read_quorum(nodes), namespace.write_quorum(nodes)) == expected


def test_an_explicit_quorum_above_the_effective_n_is_refused() -> None:
    text = '[peers]\nn2 = "127.0.0.1:7410"\n[cluster.namespaces.default]\nr = 2\nw = 3\n'
    assert problems(MINIMAL + text) == ["cluster.namespaces.default.w: 3, but a key has 2 replicas (n = 3, nodes = 2)"]


def test_namespace_ids_count_in_name_order_around_stated_ones() -> None:
    tables = "".join(f"[cluster.namespaces.{name}]\n{line}\n" for name, line in (("zebra", ""), ("ant", ""), ("fixed", "id = 2")))
    namespaces = parse(MINIMAL + tables).cluster.namespaces
    assert {name: namespace.id for name, namespace in namespaces.items()} == {"default": 1, "ant": 3, "fixed": 2, "zebra": 4}


@pytest.mark.parametrize("id_", [1, 2])
def test_two_namespaces_never_share_an_id(id_: int) -> None:
    tables = f"[cluster.namespaces.a]\nid = 2\n[cluster.namespaces.b]\nid = {id_}\n"
    (problem,) = problems(MINIMAL + tables)
    assert problem.startswith(f"cluster.namespaces.b.id: {id_} is the id of ")


def test_fewer_replicas_need_no_change_of_the_namespaces() -> None:
    assert parse(MINIMAL + "[cluster]\nreplicas = 1\n").cluster.namespaces["default"].n == 1


def test_the_order_of_a_file_does_not_change_the_fingerprint() -> None:
    one = parse(MINIMAL + "[cluster]\npartitions = 64\nreplicas = 2\n[cluster.namespaces.b]\n[cluster.namespaces.a]\n").cluster
    two = parse(MINIMAL + "[cluster]\nreplicas = 2\npartitions = 64\n[cluster.namespaces.a]\n[cluster.namespaces.b]\n").cluster
    assert one.canonical_json() == two.canonical_json()
    assert one.fingerprint() == two.fingerprint()
    assert one.differences(two.canonical_json()) == []


def test_each_differing_setting_is_named_with_both_values() -> None:
    ours = ClusterConfig()
    theirs = ClusterConfig(
        partitions=64,
        zones={"n1": "a"},
        namespaces={"default": NamespaceConfig(preset="pa-el"), "b": NamespaceConfig(name="b", id=2)},
    )
    assert ours.fingerprint() != theirs.fingerprint()
    found = ours.differences(theirs.canonical_json())
    assert "cluster.partitions is 256 here and 64 there" in found
    assert 'cluster.namespaces.default.preset is "pa-ec" here and "pa-el" there' in found
    assert "cluster.namespaces.b.id is not set here and 2 there" in found
    assert 'cluster.zones.n1 is not set here and "a" there' in found
    assert not [line for line in found if "replicas" in line]


def test_a_setting_of_a_newer_version_is_named() -> None:
    newer = json.loads(ClusterConfig().canonical_json()) | {"compression": "zstd"}
    assert ClusterConfig().differences(json.dumps(newer)) == ['cluster.compression is not set here and "zstd" there']


@pytest.mark.parametrize("text", ["", "[]", "3", "{"])
def test_settings_that_cannot_be_read_are_a_difference(text: str) -> None:
    assert ClusterConfig().differences(text) == ["the other node's settings cannot be read"]


def test_limits_that_leave_no_room_for_a_value_are_refused() -> None:
    text = "[limits]\nin_flight_bytes_max = 8388608\nconnections_max = 100\nbatch_operations_max = 2048\n"
    assert parse(MINIMAL + text).limits.connections_max == 100
    with pytest.raises(ConfigError) as caught:
        parse(MINIMAL + text + "[cluster]\nvalue_bytes_max = 4194304\n")
    (problem,) = caught.value.problems
    assert problem.startswith("limits.in_flight_bytes_max: 8,388,608, but values may have 4,194,304 bytes")


@pytest.mark.parametrize("setting", ['mode = "linearizable"', 'preset = "pc-ec"', 'mode = "linearizable"\npreset = "pc-ec"'])
def test_mode_and_preset_each_decide_the_other(setting: str) -> None:
    config = parse_config(f"{MINIMAL}[cluster.namespaces.default]\n{setting}\n", base=Path("/"))
    space = config.cluster.namespaces["default"]
    assert (space.mode, space.preset, space.written_under) == ("linearizable", "pc-ec", "linearizable")


def test_where_frames_are_taken_and_dialled() -> None:
    config = parse(MINIMAL + 'frames = "127.0.0.1:7402"\n[peers]\nn2 = "127.0.0.1:7410"\n[peer_frames]\nn2 = "127.0.0.1:7412"\n')
    assert config.frames == "127.0.0.1:7402" and config.peer_frames == {"n2": "127.0.0.1:7412"}
    assert parse(MINIMAL).frames == "auto" and parse(MINIMAL + 'frames = "off"').frames == "off"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('frames = "on"', "frames: 'on' is not host:port, for example 127.0.0.1:7400"),
        ('frames = "127.0.0.1:7400"', "frames: '127.0.0.1:7400' is the address of listen or http too; give it another port"),
        (
            'frames = "10.0.0.1:7402"',
            "frames: '10.0.0.1:7402' can be reached from other machines; use loopback, or insecure = true",
        ),
        ('[peer_frames]\nn2 = "127.0.0.1:1"', "peer_frames.n2: no such peer; [peers] names nobody"),
        ('[peers]\nn2 = "127.0.0.1:2"\n[peer_frames]\nn3 = "127.0.0.1:1"', "peer_frames.n3: no such peer; valid here: n2"),
        (
            '[peers]\nn2 = "127.0.0.1:2"\n[peer_frames]\nn2 = "there"',
            "peer_frames.n2: 'there' is not host:port, for example 127.0.0.1:7400",
        ),
    ],
)
def test_frames_that_cannot_be_are_named(text: str, said: str) -> None:
    assert problems(MINIMAL + text) == [said]


def test_frames_are_plain_text_and_there_is_tls(tmp_path: Path) -> None:
    for name in ("c", "k", "a"):
        (tmp_path / name).touch()
    text = MINIMAL + 'frames = "127.0.0.1:7402"\n[tls]\ncert = "c"\nkey = "k"\nca = "a"\n'
    with pytest.raises(ConfigError, match=r"frames: '127\.0\.0\.1:7402' is plain text, and there is \[tls\]"):
        parse(text, tmp_path)
