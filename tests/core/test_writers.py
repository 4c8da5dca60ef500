"""Who may say that nobody else writes here."""

from __future__ import annotations

from kvstore.core.writers import ALONE_AFTER_S, SOMEBODY, Writers

ONE, OTHER = b"one-----", b"other---"


def test_one_is_alone_when_it_has_been_the_only_one_for_long_enough() -> None:
    writers = Writers()
    assert not writers.is_alone(ONE, 100.0), "who wrote before is not known"
    writers.wrote(ONE, 100.0)
    assert not writers.is_alone(ONE, 100.0 + ALONE_AFTER_S / 2)
    assert writers.is_alone(ONE, 100.0 + ALONE_AFTER_S)
    assert not writers.is_alone(OTHER, 200.0)


def test_whoever_else_writes_ends_it_for_both() -> None:
    writers = Writers()
    writers.wrote(ONE, 0.0)
    writers.wrote(OTHER, 50.0)
    for now_s in (50.0, 50.0 + ALONE_AFTER_S / 2):
        assert not writers.is_alone(ONE, now_s) and not writers.is_alone(OTHER, now_s)
    writers.wrote(ONE, 51.0)
    writers.wrote(OTHER, 51.5)
    writers.wrote(ONE, 52.0)
    assert not writers.is_alone(ONE, 52.0 + ALONE_AFTER_S / 2)
    assert writers.is_alone(ONE, 52.0 + ALONE_AFTER_S) and not writers.is_alone(OTHER, 52.0 + ALONE_AFTER_S)


def test_a_writer_who_cannot_be_told_from_others_is_never_alone() -> None:
    writers = Writers()
    for now_s in range(10):
        writers.wrote(SOMEBODY, float(now_s))
        assert not writers.is_alone(SOMEBODY, float(now_s))
    writers.wrote(ONE, 10.0)
    assert writers.is_alone(ONE, 10.0 + ALONE_AFTER_S)
    writers.wrote(SOMEBODY, 20.0)
    assert not writers.is_alone(ONE, 20.0)
