"""`kv dial`: read by people, by programs, and about a running namespace."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvproto.columns import NamespaceInfo, PeerOpinion
from tests.cli.conftest import Kv
from tests.cli.fake_store import FakeClient, make_status


def test_a_preset_in_plain_words_without_a_cluster(kv: Kv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvclient.cli.connection.connect", lambda *arguments: pytest.fail("nobody was to be asked"))
    told = kv("dial", "--preset", "pa-ec")
    assert told.code == 0
    assert "pa-ec (eventual): writes to 2 of 3 replicas, reads of 2" in told.text
    assert "promise    regular while nothing says degraded" in told.text
    assert "2 replicas   writes degraded  reads degraded" in told.text


def test_numbers_of_a_call_are_exact(kv: Kv) -> None:
    told = kv("dial", "--preset", "pa-el", "--r", "2", "--w", "2").text
    assert "exactly so, or refused" in told
    assert "2 replicas   writes refused   reads refused" in told


def test_how_old_reads_get_follows_from_the_round_trip(kv: Kv) -> None:
    windows = [
        kv("dial", "--preset", "pa-el", "--round-trip-ms", ms, "-o", "json").rows[0]["staleness"]["window_ms"]
        for ms in ("10", "20")
    ]
    assert windows[1] == pytest.approx(2 * windows[0], rel=0.01)


def test_a_namespace_of_the_cluster_with_what_its_nodes_measure(kv: Kv, store: FakeClient) -> None:
    opinions = (PeerOpinion("n2", "alive", latency_ms=4.0), PeerOpinion("n3", "alive", latency_ms=8.0))
    store.admin.statuses = [[make_status("n1", opinions=opinions)]]
    space = NamespaceInfo(id=1, name="quick", mode="eventual", preset="pa-el", n=3, n_asked=3, r=1, w=1)
    store.admin.cluster = replace(store.admin.cluster, namespaces=(space,))
    (row,) = kv("dial", "-n", "quick", "--measured", "-o", "json").rows
    assert (row["preset"], row["n"], row["r"], row["w"]) == ("pa-el", 3, 1, 1)
    assert row["staleness"]["window_ms"] > 0


@pytest.mark.parametrize(("r_is_exact", "w_is_exact"), [(False, False), (True, False), (False, True), (True, True)])
def test_r_and_w_of_a_namespaces_own_are_exact_and_those_of_its_preset_are_not(
    kv: Kv, store: FakeClient, r_is_exact: bool, w_is_exact: bool
) -> None:
    space = NamespaceInfo(
        id=1, name="own", mode="eventual", preset="pa-ec", n=3, n_asked=3, r=2, w=2, r_is_exact=r_is_exact, w_is_exact=w_is_exact
    )
    store.admin.cluster = replace(store.admin.cluster, namespaces=(space,))
    (row,) = kv("dial", "-n", "own", "-o", "json").rows
    assert (row["read"], row["write"]) == ("count" if r_is_exact else "preset", "count" if w_is_exact else "preset")
    assert (row["r"], row["w"]) == (2, 2)
    with_one = row["away"][2]
    assert with_one == {"reads": "refused" if r_is_exact else "degraded", "writes": "refused" if w_is_exact else "degraded"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--preset", "pc-ec", "--r", "2"], "pa-el and pa-ec do"),
        (["--preset", "pa-ec", "--read", "linearizable"], "pc-ec or pc-el"),
        (["--preset", "pa-ec", "--r", "7"], "between 1 and n=3"),
        (["--preset", "pa-ec", "--r", "0"], "between 1 and n=3"),
        (["--preset", "pa-ec", "--n", "0"], "at least one replica"),
        (["--preset", "pa-ec", "--measured", "--round-trip-ms", "3"], "give one of them"),
        (["--namespace", "nowhere"], "no namespace 'nowhere'"),
    ],
)
def test_what_makes_no_sense_is_told(kv: Kv, arguments: list[str], says: str) -> None:
    told = kv("dial", *arguments)
    assert told.code == 2
    assert says in told.stderr


def test_without_measurements_it_says_what_to_give(kv: Kv) -> None:
    told = kv("dial", "--preset", "pa-el", "--measured")
    assert told.code != 0
    assert "--round-trip-ms" in told.stderr
