"""Each checker is shown a history it must accuse, and the nearest one that it must not."""

from __future__ import annotations

import pytest

from kvchaos.checkers.accumulated import COUNTERS, SETS
from kvchaos.checkers.answers import ANSWERS
from kvchaos.checkers.convergence import CONVERGED, REST
from kvchaos.checkers.executions import DOTS, RETRIES
from kvchaos.checkers.invented import INVENTED, REFUSED
from kvchaos.checkers.judge import PROMISES, judge
from kvchaos.checkers.receipts import EPOCHS, HEALTHY, RECEIPTS
from kvchaos.checkers.resources import BOUNDS, DEADLINES, INVARIANTS, RESOURCES
from kvchaos.checkers.served import SERVED
from kvchaos.checkers.strict import REGULAR
from tests.chaos.scribe import Scribe, dot, token


def broken(scribe: Scribe) -> list[str]:
    return [found.promise for found in judge(scribe.history)]


# --- invented


def test_a_value_that_nobody_wrote_is_invented() -> None:
    scribe = Scribe(promises=["invented"])
    scribe.read(["ghost"], 1, 2)
    assert broken(scribe) == [INVENTED]


def test_a_value_of_another_key_is_invented() -> None:
    scribe = Scribe(promises=["invented"])
    scribe.write("a", 1, 2, dot(1), key="other")
    scribe.read(["a"], 3, 4)
    assert broken(scribe) == [INVENTED]


def test_a_value_read_before_it_was_written_is_invented_and_one_read_meanwhile_is_not() -> None:
    scribe = Scribe(promises=["invented"])
    scribe.read(["a"], 1, 2)
    scribe.write("a", 3, 4, dot(1))
    assert broken(scribe) == [INVENTED]
    meanwhile = Scribe(promises=["invented"])
    meanwhile.read(["a"], 1, 5)
    meanwhile.write("a", 3, 8, dot(1))
    assert broken(meanwhile) == []


def test_a_refused_write_must_not_show_and_one_of_unknown_outcome_may() -> None:
    scribe = Scribe(promises=["invented"])
    scribe.write("a", 1, 2, type_="fail")
    scribe.write("b", 1, 2, type_="info")
    scribe.rest(["a", "b"])
    assert broken(scribe) == [REFUSED]


# --- answers


@pytest.mark.parametrize(("at_rest", "found"), [({1: 4}, [ANSWERS]), ({1: 5, 2: 9}, []), ({2: 9}, [ANSWERS])])
def test_what_an_answer_had_seen_stays_seen(at_rest: dict[int, int], found: list[str]) -> None:
    scribe = Scribe(promises=["answers"])
    scribe.read([], 1, 2, token({1: 5}))
    scribe.rest([], token(at_rest))
    assert broken(scribe) == found


# --- strict reads


def test_a_strict_read_that_missed_an_acknowledged_write_is_stale() -> None:
    scribe = Scribe(promises=["strict"])
    scribe.write("a", 1, 2, dot(1))
    scribe.read([], 3, 4, token({}))
    assert broken(scribe) == [REGULAR]


def test_reads_that_are_not_strict_or_overlap_the_write_may_miss_it() -> None:
    scribe = Scribe(promises=["strict"])
    scribe.write("a", 1, 3, dot(1), needed=2)
    scribe.read([], 4, 5, token({}), needed=1)
    scribe.read([], 2, 5, token({}), needed=2)
    assert broken(scribe) == []


def test_a_strict_read_must_find_the_value_and_not_only_claim_to_have_seen_it() -> None:
    scribe = Scribe(promises=["strict"])
    scribe.write("a", 1, 2, dot(1))
    scribe.read([], 3, 4, token({1: 1}))
    assert broken(scribe) == [REGULAR]
    superseded = Scribe(promises=["strict"])
    superseded.write("a", 1, 2, dot(1))
    superseded.delete("d", 3, 9, dot(2), knew=["a"])
    superseded.read([], 3, 4, token({1: 2}))
    assert broken(superseded) == []


def test_a_strict_read_must_not_find_what_was_superseded_before() -> None:
    scribe = Scribe(promises=["strict"])
    scribe.write("a", 1, 2, dot(1), attempts=1)
    scribe.write("b", 3, 4, dot(2), knew=["a"])
    scribe.read(["a", "b"], 5, 6, token({1: 2}))
    assert broken(scribe) == [REGULAR]


def test_what_superseded_a_write_when_it_was_read_may_be_lost_at_rest_if_it_was_never_acknowledged() -> None:
    scribe = Scribe(promises=["strict"])
    scribe.write("a", 1, 2, dot(1))
    scribe.write("b", 3, 4, type_="info", knew=["a"])
    scribe.watch(("a", dot(1), []), ("b", dot(2), [dot(1)]))
    scribe.read(["b"], 5, 6, token({1: 2}))
    scribe.rest(["a"], token({1: 1}))
    assert broken(scribe) == []
    never = Scribe(promises=["strict"])
    never.write("a", 1, 2, dot(1))
    never.write("b", 3, 4, type_="info", knew=["a"])
    never.watch(("a", dot(1), []))
    never.read([], 5, 6, token({1: 2}))
    assert broken(never) == [REGULAR], "nobody executed it"


# --- sets and counters


def test_an_acknowledged_addition_must_be_in_the_set_in_the_end() -> None:
    scribe = Scribe(promises=["accumulated"])
    scribe.write("a", 1, 2, dot(1), f="add", value=["a"])
    scribe.write("b", 1, 2, dot(2), f="add", value=["b"])
    scribe.write("c", 1, 2, f="add", value=["c"], type_="fail")
    scribe.rest(["b"], token({1: 2}), value=["b"])
    assert broken(scribe) == [SETS]
    refused = Scribe(promises=["accumulated"])
    refused.write("c", 1, 2, f="add", value=["c"], type_="fail")
    refused.rest(["c"], token({1: 2}), value=["c", "ghost"])
    assert broken(refused) == [SETS, SETS]


@pytest.mark.parametrize(("total", "found"), [(1, [COUNTERS]), (2, []), (3, []), (4, [COUNTERS])])
def test_a_counter_lies_between_what_was_acknowledged_and_what_was_tried(total: int, found: list[str]) -> None:
    scribe = Scribe(promises=["accumulated"])
    scribe.write("a", 1, 2, dot(1), f="increment", value=["p1", 1])
    scribe.write("b", 3, 4, dot(2), f="increment", value=["p1", 2])
    scribe.write("c", 5, 6, f="increment", value=["p1", 3], type_="info")
    scribe.write("d", 7, 8, f="increment", value=["p1", 4], type_="fail")
    scribe.rest(["b"], token({1: 2}), value={"p1": total})
    assert broken(scribe) == found


# --- receipts


def test_a_receipt_with_fewer_replicas_than_its_level_takes_is_a_lie() -> None:
    scribe = Scribe(promises=["receipts"])
    scribe.write("a", 1, 2, dot(1), acknowledged=["n1"], epoch=1)
    scribe.write("b", 1, 2, dot(2), acknowledged=["n1", "n1"], epoch=1)
    scribe.write("c", 1, 2, dot(3), acknowledged=["n1", "n2"], epoch=1)
    assert broken(scribe) == [RECEIPTS, RECEIPTS]


def test_replicas_of_another_ring_do_not_count() -> None:
    scribe = Scribe(promises=["receipts"])
    scribe.fact(10, "install_epoch", {"node": "n1", "epoch": 2})
    scribe.write("a", 1, 2, dot(1), acknowledged=["n1", "n2"], epoch=1)
    scribe.write("b", 9, 12, dot(2), acknowledged=["n1", "n2"], epoch=1)
    assert broken(scribe) == []
    scribe.write("c", 11, 12, dot(3), acknowledged=["n1", "n2"], epoch=2)
    scribe.write("d", 13, 14, dot(4), acknowledged=["n1", "n2"], epoch=1)
    assert broken(scribe) == [EPOCHS, EPOCHS]


def test_an_answer_is_degraded_only_once_something_is_wrong_or_nobody_knows_who_has_a_write() -> None:
    calm = Scribe(promises=["receipts"])
    calm.write("a", 1, 2, dot(1), type_="fail")
    calm.read([], 5, 6, acknowledged=["n1", "n2"], epoch=1, degraded=True)
    assert broken(calm) == [HEALTHY]
    for wrong in ("fault", "unknown write"):
        scribe = Scribe(promises=["receipts"])
        if wrong == "fault":
            scribe.fact(3, "partition", {})
        else:
            scribe.write("a", 3, 4, type_="info")
        scribe.read([], 5, 6, acknowledged=["n1", "n2"], epoch=1, degraded=True)
        assert broken(scribe) == []
        scribe.read([], 1, 2, acknowledged=["n1", "n2"], epoch=1, degraded=True)
        assert broken(scribe) == [HEALTHY]


# --- executions


def test_a_dot_minted_twice_and_a_remembered_write_executed_again_are_found() -> None:
    scribe = Scribe(promises=["executions"])
    scribe.watch(("a", dot(1), []))
    assert broken(scribe) == []
    scribe.watch(("b", dot(1), []), dot_taken=True)
    scribe.watch(("a", dot(2), []), remembered=dot(1))
    assert broken(scribe) == [DOTS, RETRIES]


# --- convergence and resources


def test_replicas_that_differ_at_rest_have_not_converged() -> None:
    scribe = Scribe(promises=["convergence"])
    scribe.fact(1, "rest", {"after_ms": 10, "bound_ms": 1000, "unread": []})
    scribe.fact(1, "holds", {"k1": "aa", "k2": "bb"}, node="n1")
    scribe.fact(1, "holds", {"k1": "aa", "k2": "bb"}, node="n2")
    assert broken(scribe) == []
    scribe.fact(1, "holds", {"k1": "aa", "k2": ""}, node="n3")
    assert broken(scribe) == [CONVERGED]


def test_a_key_that_cannot_be_read_after_the_heal_is_found() -> None:
    scribe = Scribe(promises=["convergence"])
    scribe.fact(1, "rest", {"after_ms": 1000, "bound_ms": 1000, "unread": [["k1", "no quorum"]]})
    assert broken(scribe) == [REST]


def test_what_is_left_over_is_found() -> None:
    scribe = Scribe(promises=["resources"])
    scribe.fact(1, "resources", {"in_flight": 0, "queues": {"link": [3, 3]}, "left": []}, node="n1")
    assert broken(scribe) == []
    scribe.fact(1, "resources", {"in_flight": 2, "queues": {"link": [4, 3]}, "left": ["task x"]}, node="n1")
    scribe.fact(1, "invariant", "work waits on an idle link", node="n1")
    assert sorted(broken(scribe)) == sorted([RESOURCES, RESOURCES, BOUNDS, INVARIANTS])


def test_a_call_that_outlives_its_time_is_found() -> None:
    scribe = Scribe(promises=["resources"])
    scribe.call_within("write", 0, 900_000_000, timeout_ms=1000)
    assert broken(scribe) == []
    scribe.call_within("write", 0, 1_600_000_000, timeout_ms=1000)
    scribe.call_within("read", 0, None, timeout_ms=1000)
    assert broken(scribe) == [DEADLINES, DEADLINES]


def test_a_call_that_is_refused_while_it_could_be_served_is_found() -> None:
    scribe = Scribe(promises=["served"])
    scribe.write("a", 1, 2, dot(1))
    scribe.read(["a"], 3, 4)
    assert broken(scribe) == []
    scribe.write("b", 5, 6, type_="fail")
    assert broken(scribe) == [SERVED]


def test_only_what_is_promised_is_judged_and_a_promise_nobody_knows_is_refused() -> None:
    scribe = Scribe(promises=[])
    scribe.read(["ghost"], 1, 2)
    assert broken(scribe) == []
    with pytest.raises(ValueError, match="no such promise: luck"):
        judge(Scribe(promises=["luck", *PROMISES]).history)
