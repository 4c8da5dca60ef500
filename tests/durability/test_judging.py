"""The pure parts of the proof on small made-up histories: what a sync covers, when a value counts, what a cut leaves."""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import pytest

from kvchaos.disks.cutting import CannotCut, CutReport, apply_cut, plan_cut
from kvchaos.disks.synced import Event, Timeline, replay
from tests.durability.evidence import Copy
from tests.durability.verdict import Ack, check_acks

LOG = "/db/000003.log"
EIO = -5
MAKE = os.O_CREAT | os.O_WRONLY


class Story:
    """Events one after another, each 10 ns long, 10 ns apart, or overlapping where told."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, call: str, *, path: str = LOG, result: int = 0, offset: int = 0, length: int = 0, other: str = "") -> Story:
        begin = 20 * (len(self.events) + 1)
        self.events.append(Event(begin, begin + 10, 1, call, result, offset, length, path, other))
        return self

    def made(self, path: str = LOG) -> Story:
        return self.add("open", path=path, result=3, length=MAKE)

    def wrote(self, offset: int, size: int, path: str = LOG) -> Story:
        return self.add("write", path=path, result=size, offset=offset, length=size)

    @property
    def timeline(self) -> Timeline:
        return replay(sorted(self.events, key=lambda event: event.end_ns))


def test_a_sync_covers_what_was_written_before_it_began_and_counts_from_its_return() -> None:
    life = Story().made().wrote(0, 100).add("fdatasync").wrote(100, 50).timeline.files[LOG]
    assert (life.durable_ns(100), life.durable_ns(101), life.synced_length, life.length) == (70, None, 100, 150)


def test_a_write_that_ends_after_the_sync_began_is_not_covered() -> None:
    story = Story().made().wrote(0, 100)
    story.events.append(Event(45, 90, 1, "fdatasync", 0, 0, 0, LOG, ""))  # the write lasts until 50
    assert story.timeline.files[LOG].durable_ns(100) is None


def test_no_sync_counts_after_a_failed_one_of_the_same_file() -> None:
    timeline = Story().made().wrote(0, 100).add("fdatasync", result=EIO).add("fdatasync").timeline
    assert timeline.files[LOG].durable_ns(1) is None
    assert (timeline.failed_ns, timeline.syncs) == (70, 2)


def test_a_range_sync_makes_nothing_durable() -> None:
    assert Story().made().wrote(0, 100).add("sync_file_range", length=100).timeline.files[LOG].synced_length is None


def test_a_file_keeps_its_syncs_when_it_is_renamed_over_another() -> None:
    story = Story().made("/db/CURRENT").wrote(0, 9, "/db/CURRENT").made("/db/1.dbtmp").wrote(0, 16, "/db/1.dbtmp")
    timeline = story.add("fsync", path="/db/1.dbtmp").add("rename", path="/db/1.dbtmp", other="/db/CURRENT").timeline
    assert {path: life.synced_length for path, life in timeline.files.items()} == {"/db/CURRENT": 16}


def test_a_cut_leaves_what_was_synced_empties_what_was_only_named_and_removes_the_rest() -> None:
    story = Story().made().wrote(0, 100).add("fdatasync").wrote(100, 50).made("/db/named").wrote(0, 5, "/db/named")
    timeline = story.add("fsync", path="/db").made("/db/unnamed").wrote(0, 5, "/db/unnamed").timeline
    assert plan_cut(timeline) == {LOG: 100, "/db/named": 0}


def test_a_torn_cut_leaves_some_of_what_was_not_synced_and_all_that_was() -> None:
    timeline = Story().made().wrote(0, 100).add("fdatasync").wrote(100, 50).timeline
    lengths = {plan_cut(timeline, Random(seed))[LOG] for seed in range(50)}
    assert min(lengths) >= 100 and max(lengths) <= 150 and len(lengths) > 10


def test_a_truncated_file_is_not_counted_on_beyond_its_new_length() -> None:
    story = Story().made().wrote(0, 100).add("fsync").add("ftruncate", length=10)
    assert plan_cut(story.timeline) == {LOG: 10}


def test_a_cut_refuses_to_judge_a_rename_that_nothing_made_durable() -> None:
    story = Story().made().wrote(0, 100).add("fdatasync").add("rename", other="/db/CURRENT")
    with pytest.raises(CannotCut, match="CURRENT"):
        plan_cut(story.timeline)
    assert plan_cut(story.made("/db/b").add("fsync", path="/db/b").timeline) == {"/db/CURRENT": 100, "/db/b": 0}


def test_a_cut_is_applied_to_the_files(tmp_path: Path) -> None:
    for name, size in (("cut", 100), ("whole", 30), ("unknown", 7)):
        (tmp_path / name).write_bytes(b"x" * size)
    left = {str(tmp_path / "cut"): 60, str(tmp_path / "whole"): 30}
    assert apply_cut(tmp_path, left) == CutReport(files_cut=1, files_removed=1, bytes_lost=47)
    assert {path.name: path.stat().st_size for path in tmp_path.iterdir()} == {"cut": 60, "whole": 30}


@pytest.mark.parametrize(("name", "length"), [("short", 10), ("absent", 0)])
def test_a_record_that_does_not_fit_the_files_is_refused(tmp_path: Path, name: str, length: int) -> None:
    (tmp_path / "short").write_bytes(b"12345")
    with pytest.raises(CannotCut, match=name):
        apply_cut(tmp_path, {str(tmp_path / "short"): 5, str(tmp_path / name): length})


def judge(
    copies: dict[str, Copy], *, at_ns: int = 100, nodes: tuple[str, ...] = ("n1", "n2")
) -> tuple[int, list[str], int | None, int]:
    ack = Ack("k", b"v", at_ns, nodes)
    verdict = check_acks([ack], {node: {b"v": copy} for node, copy in copies.items()} | {"idle": {}}, w=2)
    return verdict.violations, [node for _, node in verdict.claimed_unsynced], verdict.margin_ns_min, verdict.resting_on_names


def test_two_copies_durable_before_the_acknowledgement_are_enough() -> None:
    assert judge({"n1": Copy(60, 60), "n2": Copy(90, 90), "n3": Copy(None, None)}) == (0, [], 10, 0)


def test_an_acknowledgement_before_its_second_copy_is_durable_comes_too_early() -> None:
    assert judge({"n1": Copy(60, 60), "n2": Copy(130, 130)}) == (1, ["n2"], -30, 1)


def test_an_acknowledgement_without_a_second_copy_comes_too_early() -> None:
    assert judge({"n1": Copy(60, 60), "n2": Copy(None, None)}) == (1, ["n2"], None, 1)
    assert judge({"n1": Copy(60, 60)}) == (1, ["n2"], None, 1)


def test_a_receipt_that_names_a_node_without_a_durable_copy_is_wrong_even_if_two_others_have_one() -> None:
    copies = {"n1": Copy(60, 60), "n2": Copy(110, 110), "n3": Copy(70, 70)}
    assert judge(copies, nodes=("n1", "n2", "n3")) == (0, ["n2"], 30, 0)


def test_a_copy_whose_log_has_no_synced_name_yet_is_counted_apart() -> None:
    assert judge({"n1": Copy(60, 60), "n2": Copy(90, None)}) == (0, [], 10, 1)
    assert judge({"n1": Copy(60, 60), "n2": Copy(90, 140)}) == (0, [], 10, 1)
