"""--explain as a picture: who answered what, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvclient.cli.picture import Note, picture, read_note
from kvproto.columns import Level, Receipt

RECEIPT = Receipt(Level.PRESET, 2, 3, 3, ("n1", "n3"), ("", ""), coordinator="n1", ring_epoch=7)


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("n1 answered from its own replica", Note("n1", "answered from its own replica", None)),
        ("n2 differs at 0 of 1 after 1.2 ms", Note("n2", "differs at 0 of 1", 1.2)),
        ("node-3 failed: no answer after 3 tries after 12.0 ms", Note("node-3", "failed: no answer after 3 tries", 12.0)),
        ("n1: version 1", Note("n1", "version 1", None)),
        ("one-word", None),
        ("", None),
    ],
)
def test_a_line_says_who_and_what_and_when(line: str, note: Note | None) -> None:
    assert read_note(line) == note


def test_an_answer_without_an_explanation_has_no_picture() -> None:
    assert picture(RECEIPT) == []


def test_who_was_later_has_the_longer_bar() -> None:
    notes = ("n1 answered from its own replica", "n3 stored after 1.0 ms", "n2 failed: no route after 4.0 ms", "a hint was left")
    assert picture(replace(RECEIPT, explanation=notes, hinted=True)) == [
        "explain: level preset: 2 of 3 had to answer; n1, n3 had (hinted); n1 coordinated in ring epoch 7",
        "  n1  *                         answered from its own replica",
        "  n3  ------*                   stored                            1.0 ms",
        "  n2  -----------------------*  failed: no route                  4.0 ms",
        "  a hint was left",
    ]


def test_zones_are_told_where_there_are_any() -> None:
    (_, line) = picture(replace(RECEIPT, zones=("a", "b"), explanation=("n3 stored after 0.0 ms",)))
    assert line.endswith("0.0 ms  zone b") and "-" not in line
