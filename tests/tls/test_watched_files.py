"""A value made of files, read again when they change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kvproto.errors import KvError, UserError
from kvproto.watched_files import WatchedFiles


class Text:
    """The text of two files, which must be equal."""

    def __init__(self, folder: Path) -> None:
        self.paths = [folder / "a", folder / "b"]
        self.made = 0
        self.broken: list[KvError] = []
        self.during: list[str] = []  # written into the second file while they are being read
        self.write("1", "1")

    def write(self, *texts: str) -> None:
        for path, text in zip(self.paths, texts, strict=True):
            scratch = path.with_suffix(".new")  # another file each time, so that a look sees the change
            scratch.write_text(text)
            os.replace(scratch, path)

    def make(self) -> str:
        self.made += 1
        first = self.paths[0].read_text()
        if self.during:
            self.write(first, self.during.pop(0))
        second = self.paths[1].read_text()
        if first != second:
            raise UserError(f"{first} is not {second}")
        return first

    def watched(self) -> WatchedFiles[str]:
        return WatchedFiles(self.paths, self.make, on_broken=self.broken.append)


@pytest.fixture
def text(tmp_path: Path) -> Text:
    return Text(tmp_path)


def test_a_look_reads_nothing_as_long_as_nothing_changes(text: Text) -> None:
    files = text.watched()
    assert [files.look() for _ in range(5)] == ["1"] * 5
    assert text.made == 1 and files.version == 1


def test_a_change_is_a_new_version(text: Text) -> None:
    files = text.watched()
    text.write("2", "2")
    assert files.look() == "2" and files.version == 2
    assert files.look() == "2" and files.version == 2


def test_what_does_not_add_up_keeps_the_value_and_is_told_once(text: Text) -> None:
    files = text.watched()
    text.write("2", "3")
    assert [files.look() for _ in range(3)] == ["1"] * 3
    assert [error.message for error in text.broken] == ["2 is not 3"] and files.version == 1
    text.write("2", "2")
    assert files.look() == "2" and files.version == 2 and len(text.broken) == 1


def test_a_file_that_is_gone_keeps_the_value(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")

    def make() -> str:
        try:
            return path.read_text()
        except OSError as error:
            raise UserError("gone") from error

    files = WatchedFiles([path], make)
    path.unlink()
    assert files.look() == "1"


def test_files_that_are_replaced_while_they_are_read_are_read_again_and_told_to_nobody(text: Text) -> None:
    files = text.watched()
    text.write("2", "2")
    text.during = ["half"]
    assert files.look() == "1" and not text.broken
    text.write("2", "2")
    assert files.look() == "2"


def test_at_the_beginning_files_that_do_not_add_up_are_refused(text: Text) -> None:
    text.write("1", "2")
    with pytest.raises(UserError, match="1 is not 2"):
        text.watched()
    assert text.made == 1


def test_at_the_beginning_files_that_are_being_replaced_get_another_chance(text: Text) -> None:
    text.during = ["half", "1"]
    assert text.watched().value == "1"
    assert not text.broken
