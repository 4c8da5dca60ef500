"""The table of hints: what is kept, what may be dropped, and what comes back after a restart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvproto.errors import Overloaded
from kvstore.storage.hints import HintTable
from kvstore.storage.layout import store_key_prefix
from kvstore.storage.memory import MemoryEngine
from tests.support.clocks import ManualClock

KEYS = [store_key_prefix(at % 4, 1) + b"k%d" % at for at in range(8)]


def test_what_is_owed_is_due_the_oldest_first_and_gone_once_it_is_paid() -> None:
    hints = HintTable(ManualClock())
    assert len(hints.owe("n2", KEYS[:2])) == 2 and hints.owe("n2", KEYS[1:2]) == []
    hints.owe("n2", KEYS[2:3])
    due = hints.due("n2", 2)
    assert [key for key, _ in due] == KEYS[:2] and hints.pending("n2") == 3
    assert len(hints.paid("n2", due)) == 2
    assert hints.targets == ["n2"] and [key for key, _ in hints.due("n2", 9)] == KEYS[2:3]


def test_what_is_missed_again_meanwhile_stays() -> None:
    hints = HintTable(ManualClock())
    hints.owe("n2", KEYS[:1])
    due = hints.due("n2", 1)
    hints.owe("n2", KEYS[:1])
    assert hints.paid("n2", due) == [] and hints.pending("n2") == 1


def test_over_the_cap_what_is_owed_is_dropped_counted_and_its_partitions_named() -> None:
    hints = HintTable(ManualClock(), count_max=2)
    assert len(hints.owe("n2", KEYS[:4])) == 4, "two hints, and where two more were dropped"
    assert hints.dropped == 2 and hints.gaps.all == [("n2", 2), ("n2", 3)]
    assert hints.owe("n2", KEYS[2:4]) == [], "that is known"


def test_where_hints_were_dropped_something_is_owed_until_it_was_compared() -> None:
    engine, hints = MemoryEngine(), HintTable(ManualClock(), count_max=1)
    engine.write([*hints.owe("n2", KEYS[:2]), *hints.owe("a name that is long", KEYS[2:3])], sync=True)
    assert hints.partitions == {0, 1, 2}
    hints = HintTable(ManualClock(), count_max=1)
    hints.load(engine)
    assert hints.partitions == {0, 1, 2} and hints.gaps.all == [("a name that is long", 2), ("n2", 1)]
    since = hints.gaps.moment()
    assert hints.owe("n2", KEYS[3:4]), "missed while it is compared"
    engine.write([], hints.compared("n2", since), sync=True)
    assert hints.partitions == {0, 2, 3} and hints.gaps.has("n2")
    hints.compared("n2", hints.gaps.moment())
    assert hints.partitions == {0, 2} and not hints.gaps.has("n2")
    hints = HintTable(ManualClock())
    hints.load(engine)
    assert hints.gaps.all == [("a name that is long", 2)]


def test_over_the_cap_what_would_count_is_declined_and_what_counted_is_never_dropped() -> None:
    """safety rule 11."""
    clock = ManualClock()
    hints = HintTable(clock, count_max=9, held_bytes_max=100, age_s_max=10)
    hints.admit(1, 60)
    hints.hold("n2", KEYS[:1], [bytes(60)])
    with pytest.raises(Overloaded) as refused:
        hints.admit(1, 60)
    assert refused.value.retry_after_s > 0
    hints.owe("n2", KEYS[1:2])
    clock.time_ms += 11_000
    deletes, written = hints.expire()
    assert len(deletes) == len(written) == hints.dropped == 1 and hints.partitions == {0, 1}
    assert [key for key, _ in hints.due("n2", 9)] == KEYS[:1] and hints.oldest_s() == 11


def test_what_counts_for_a_target_counts_though_it_was_owed_before() -> None:
    hints = HintTable(ManualClock(), age_s_max=10)
    hints.owe("n2", KEYS[:1])
    assert len(hints.hold("n2", KEYS[:1], [b"record"])) == 1, "what is on disk says so"
    assert hints.held_bytes == len(KEYS[0]) + 6
    hints.check()


steps = st.lists(
    st.tuples(
        st.sampled_from(["owe", "hold", "pay"]), st.sampled_from(["n1", "n2", "a name that is long"]), st.sets(st.integers(0, 7))
    ),
    max_size=20,
)


@given(steps=steps)
def test_a_restart_finds_what_was_written(steps: list[tuple[str, str, set[int]]]) -> None:
    engine, hints = MemoryEngine(), HintTable(ManualClock())
    for name, target, positions in steps:
        keys = [KEYS[at] for at in sorted(positions)]
        if name == "owe":
            engine.write(hints.owe(target, keys), sync=True)
        elif name == "hold":
            engine.write(hints.hold(target, keys, [b"r" * 9] * len(keys)), sync=True)
        else:
            engine.write([], hints.paid(target, hints.due(target, len(keys))), sync=True)
        hints.check()
    again = HintTable(ManualClock())
    again.load(engine)
    again.check()
    assert (again.targets, again.count, again.held_bytes) == (hints.targets, hints.count, hints.held_bytes)
    for target in hints.targets:
        assert {key for key, _ in again.due(target, 99)} == {key for key, _ in hints.due(target, 99)}
