"""The checker of lost writes finds what is lost, and nothing that was overwritten on purpose."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvchaos.checkers.lost_writes import Fate, Write, check_lost_writes, robbed_in
from kvchaos.history import Recorder

OK, FAIL, INFO = Fate.ACKNOWLEDGED, Fate.REFUSED, Fate.UNKNOWN


def write(value: str, fate: Fate = OK, knew: str = "", key: str = "k") -> Write:
    return Write(key, value.encode(), fate, frozenset(known.encode() for known in knew))


def test_an_acknowledged_write_that_is_gone_is_lost() -> None:
    verdict = check_lost_writes([write("a"), write("b")], {"k": [b"b"]})
    assert verdict.lost == [("k", b"a")]
    assert not verdict.is_ok


def test_a_key_that_is_gone_altogether_is_lost() -> None:
    assert check_lost_writes([write("a")], {}).lost == [("k", b"a")]


def test_a_write_that_a_later_one_knew_is_overwritten() -> None:
    verdict = check_lost_writes([write("a"), write("b", knew="a")], {"k": [b"b"]})
    assert verdict.is_ok
    assert (verdict.read_back, verdict.overwritten) == (1, 1)


def test_overwriting_goes_on_through_a_chain() -> None:
    assert check_lost_writes([write("a"), write("b", knew="a"), write("c", knew="b")], {"k": [b"c"]}).is_ok


def test_a_chain_whose_last_link_is_gone_is_lost_as_a_whole() -> None:
    verdict = check_lost_writes([write("a"), write("b", knew="a")], {"k": []})
    assert verdict.lost == [("k", b"a"), ("k", b"b")]


def test_going_back_to_an_older_value_is_a_loss() -> None:
    assert check_lost_writes([write("a"), write("b", knew="a")], {"k": [b"a"]}).lost == [("k", b"b")]


def test_siblings_are_all_kept() -> None:
    assert check_lost_writes([write("a"), write("b")], {"k": [b"b", b"a"]}).is_ok
    assert check_lost_writes([write("a"), write("b"), write("c", knew="a")], {"k": [b"c"]}).lost == [("k", b"b")]


def test_an_unknown_write_may_have_overwritten_only_if_it_is_there() -> None:
    writes = [write("a"), write("u", INFO, knew="a")]
    assert check_lost_writes(writes, {"k": [b"u"]}).is_ok
    assert check_lost_writes(writes, {"k": [b"a"]}).is_ok
    assert check_lost_writes(writes, {"k": []}).lost == [("k", b"a")]


def test_an_unknown_write_may_be_missing_and_a_refused_one_must_be() -> None:
    assert check_lost_writes([write("a"), write("u", INFO), write("f", FAIL)], {"k": [b"a"]}).is_ok
    verdict = check_lost_writes([write("a"), write("f", FAIL)], {"k": [b"a", b"f"]})
    assert verdict.applied_though_refused == [("k", b"f")]
    assert not verdict.is_ok


def test_a_value_that_nobody_wrote_is_noticed() -> None:
    assert check_lost_writes([write("a")], {"k": [b"a", b"z"]}).invented == [("k", b"z")]
    assert check_lost_writes([write("a")], {"k": [b"a"], "other": [b"z"]}).invented == [("other", b"z")]


def test_keys_do_not_excuse_each_other() -> None:
    verdict = check_lost_writes([write("a"), write("b", knew="a", key="other")], {"other": [b"b"]})
    assert verdict.lost == [("k", b"a")]


@given(st.lists(st.sets(st.integers(0, 11), max_size=4), min_size=1, max_size=12))
def test_a_store_that_keeps_what_is_not_covered_is_never_accused_and_one_that_drops_it_always_is(
    pasts: list[set[int]],
) -> None:
    """Write i covers those of `pasts[i]` that came before it, and what they cover: a perfect store keeps exactly the uncovered."""
    covers: list[set[int]] = []
    for number, past in enumerate(pasts):
        direct = {other for other in past if other < number}
        covers.append(direct.union(*(covers[other] for other in direct)))
    writes = [
        Write("k", str(number).encode(), OK, frozenset(str(other).encode() for other in covers[number]))
        for number in range(len(pasts))
    ]
    kept = [number for number in range(len(pasts)) if not any(number in cover for cover in covers)]
    held = [str(number).encode() for number in kept]
    assert check_lost_writes(writes, {"k": held}).is_ok
    for dropped in held:
        verdict = check_lost_writes(writes, {"k": [value for value in held if value != dropped]})
        assert ("k", dropped) in verdict.lost


def test_only_what_wiped_nodes_alone_had_acknowledged_before_is_excused() -> None:
    recorder = Recorder(lambda: 0)

    def acknowledged(value: str, *nodes: str) -> None:
        recorder.note(0, "ok", "write", key="k", value=value, acknowledged=list(nodes))

    acknowledged("one", "n1")
    acknowledged("both", "n1", "n2")
    acknowledged("kept", "n2", "n3")
    recorder.note(0, "ok", "write", key="k", value="nobody says")
    recorder.fault("kill", ["n2", "n3"])
    recorder.fault("wipe", ["n1", "n2"])
    acknowledged("after", "n1", "n2")
    recorder.fault("wipe", ["n3"])
    robbed = robbed_in(recorder.history.events)
    assert robbed == {b"one", b"both"}
    verdict = check_lost_writes([write("one"), write("both"), write("kept")], {}, robbed)
    assert (verdict.robbed, verdict.lost) == (2, [("k", b"kept")])
    assert "2 wiped with every copy" in verdict.sentence()
    assert check_lost_writes([write("one")], {"k": [b"one"]}, robbed).robbed == 0
