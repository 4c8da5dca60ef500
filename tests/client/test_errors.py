"""Errors as the documentation tells them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kvclient
from kvclient import errors
from kvclient.errors import BatchError, KvError, NodeUnreachable, Overloaded, QuorumUnreachable

PAGE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()
CLASSES = [found for name in errors.__all__ if isinstance(found := getattr(errors, name), type) and issubclass(found, KvError)]


def rows() -> dict[str, list[str]]:
    """The table of errors: the cells of each row by the names in its first."""
    table = PAGE.split("## Errors", 1)[1].split("```", 1)[0]
    lines = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ") and "`" in line.split("|")[1]]
    return {name: [cell.strip() for cell in cells] for cells in lines for name in re.findall(r"`(\w+)`", cells[0])}


@pytest.mark.parametrize("cls", [cls for cls in CLASSES if cls is not KvError], ids=lambda cls: cls.__name__)
def test_each_error_is_in_the_documentation_with_what_it_says_of_retries(cls: type[KvError]) -> None:
    cells = rows()[cls.__name__]
    if cells[2] in ("yes", "no"):
        assert (cells[2] == "yes") is cls.retryable_default
    assert cls.code.name and isinstance(cls.code, errors.Code)


def test_each_error_of_the_documentation_can_be_had_from_kvclient() -> None:
    for name in rows():
        assert getattr(errors, name, None) is not None and issubclass(getattr(kvclient, name), KvError), name


def test_a_batch_error_is_retryable_if_all_are_and_unknown_if_any_is() -> None:
    busy, broken = Overloaded("busy"), NodeUnreachable("broke", may_have_applied=True)
    both = BatchError({"a": 1}, {"b": busy, "c": broken})
    assert both.retryable and both.may_have_applied and both.errors["c"] is broken
    assert "2 of 3 keys failed" in str(both)
    refused = BatchError({}, {"b": busy, "c": KvError("no")})
    assert not refused.retryable and not refused.may_have_applied


def test_numbers_are_those_that_apply() -> None:
    assert QuorumUnreachable("few", needed=2, received=1).numbers() == {"needed": 2, "received": 1}
