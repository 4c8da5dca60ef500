"""Laws of sessions on replicas that lag as far as they may: one sees what one wrote and never less than before; and each rule is
needed, since without it some seed breaks that."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kvclient import sessions
from kvclient.session_tokens import Memory
from tests.laws.session_world import KEYS, broken_promise

SEEDS = 60
Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("keys_max", [len(KEYS), 2])
async def test_a_session_sees_what_it_wrote_and_never_less_than_before(keys_max: int) -> None:
    """With room for fewer keys than there are: of eventual namespaces what it wrote, all of it at quorum."""
    told = {seed: broken for seed in range(SEEDS) if (broken := await broken_promise(seed, keys_max=keys_max))}
    assert told == {}


def says_nothing(patch: Patch) -> None:
    patch.setattr(Memory, "note_version", lambda *_, **__: None)
    patch.setattr(Memory, "note_context", lambda *_, **__: None)


def forgets_writes(patch: Patch) -> None:
    """Only what reads show is remembered."""
    patch.setattr(sessions._Dispatcher, "write", lambda self, shape, *rest: self.real.write(self._write_shape(shape), *rest))


def takes_the_last_context(patch: Patch) -> None:
    patch.setattr(Memory, "note_context", lambda self, key, context, is_read: self.keep(key, context or self.seen.get(key, b"")))


def forgets_deletions(patch: Patch) -> None:
    """An absent key, which has no version, says nothing."""
    real = Memory.note_version
    patch.setattr(Memory, "note_version", lambda self, key, version: real(self, key, version) if version else None)


def trusts_what_it_let_go_of(patch: Patch) -> None:
    patch.setattr(Memory, "must_be_strict", lambda self, key: key in self.unsure)


def takes_a_write_for_all_there_is(patch: Patch) -> None:
    """A key that was let go of and is written again counts as known."""
    real = Memory.note_context
    patch.setattr(Memory, "note_context", lambda self, key, context, is_read: real(self, key, context, is_read=True))


def forgets_that_it_let_go(patch: Patch) -> None:
    """The token says which keys are known, and not that there were others."""
    real = Memory.encode

    def encode(self: Memory) -> str:
        self.dropped = False
        return real(self)

    patch.setattr(Memory, "encode", encode)


@pytest.mark.parametrize(
    "bug",
    [
        says_nothing,
        forgets_writes,
        takes_the_last_context,
        forgets_deletions,
        trusts_what_it_let_go_of,
        takes_a_write_for_all_there_is,
        forgets_that_it_let_go,
    ],
    ids=lambda bug: bug.__name__,
)
async def test_without_any_of_its_rules_a_session_breaks_its_promise(bug: Callable[[Patch], None], monkeypatch: Patch) -> None:
    bug(monkeypatch)
    for seed in range(SEEDS):
        for keys_max in (len(KEYS), 2):
            if await broken_promise(seed, keys_max=keys_max):
                return
    raise AssertionError(f"{SEEDS} seeds do not notice: {bug.__name__}")
