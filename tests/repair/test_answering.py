"""What a node answers to peers that compare: whole answers in parts, and no answer to what makes no sense."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from kvproto.errors import BadRequest, Overloaded
from kvstore.core.merkle.exchange import Answer, Ask
from kvstore.core.merkle.questions import HASHES_MAX, LEAVES_MAX, ROOTS_MAX, Held, Leaves, Nodes, Question, Records, Roots, Summary
from kvstore.core.merkle.tree import key_hash
from kvstore.repair import answering
from kvstore.repair.answering import Answering
from kvstore.storage.layout import SYSTEM_PREFIX, store_key_prefix
from tests.support.cluster import ALL, LONG, Cluster, puts

PREFIX = store_key_prefix(0, 1)


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with Cluster(3) as running:
        yield running


@pytest.mark.parametrize(
    "question",
    [
        Roots([b"short"]),
        Roots([SYSTEM_PREFIX]),
        Roots([PREFIX] * (ROOTS_MAX + 1)),
        Nodes(b"", Ask(0, (0,))),
        Nodes(PREFIX, Ask(1 << 31, (0,))),
        Nodes(PREFIX, Ask(2, (4,))),
        Nodes(PREFIX, Ask(0, (0,), 9)),
        Nodes(PREFIX, Ask(16, tuple(range(300)))),
        Leaves(PREFIX, 1 << 31, [0]),
        Leaves(PREFIX, 2, [4]),
        Leaves(PREFIX, 16, range(LEAVES_MAX + 1)),
        Records(PREFIX, [0] * (HASHES_MAX + 1)),
        Records(PREFIX, [0], store_key_prefix(1, 1) + b"elsewhere"),
        Records(SYSTEM_PREFIX, [0]),
    ],
)
async def test_a_question_that_makes_no_sense_is_refused(cluster: Cluster, question: Question) -> None:
    with pytest.raises(BadRequest):
        await cluster.members["n1"].local.answering.answer(question)


async def test_records_come_in_parts_that_follow_each_other(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answering, "RECORDS_BYTES_MAX", 3000)
    local = cluster.members["n1"].local
    keys = [key for key in (b"key-%d" % at for at in range(400)) if local.view.ring.partition_of(key) == 0][:20]
    await cluster.run("n1", puts(dict.fromkeys(keys, b"v" * 400), **ALL, **LONG))
    prefix = local.view.space("default").prefixes[0]
    hashes = [key_hash(prefix + key) for key in keys[:15]]
    found: dict[bytes, bytes] = {}
    start, parts = b"", 0
    while True:
        held = await local.answering.answer(Records(prefix, hashes, start))
        assert isinstance(held, Held)
        found.update(zip(held.store_keys, held.records, strict=True))
        parts += 1
        if not held.more_from:
            break
        start = held.more_from
    assert sorted(found) == sorted(prefix + key for key in keys[:15])
    assert parts > 2


async def test_of_an_unknown_tree_there_is_no_answer(cluster: Cluster) -> None:
    local = cluster.members["n1"].local
    assert local.storage.forest is not None
    prefix = local.view.space("default").prefixes[0]
    assert isinstance(await local.answering.answer(Nodes(prefix, Ask(0, (0,)))), Answer)
    local.storage.forest.mark_unknown([prefix])
    assert await local.answering.answer(Nodes(prefix, Ask(0, (0,)))) is None
    roots = await local.answering.answer(Roots([prefix]))
    assert isinstance(roots, Summary)
    assert roots.roots[0] == 0xFF


async def test_a_node_alone_answers_that_it_holds_nothing() -> None:
    async with Cluster(3) as cluster:
        alone = Answering(None, cluster.members["n1"].local.replica)
        roots = await alone.answer(Roots([PREFIX]))
        assert isinstance(roots, Summary)
        assert roots.roots[1:] == bytes(8)


async def test_who_is_in_an_exchange_sends_others_away_whoever_began_it(cluster: Cluster) -> None:
    """They would find the same differences, and send the same records. Roots are told all the same: from them one knows whether
    there is something to come back for."""
    answering = cluster.members["n1"].local.answering
    ask = Nodes(PREFIX, Ask(0, (0,)))
    answering.asking = "n2"
    with pytest.raises(Overloaded, match="n2"):
        await answering.answer(ask, "n3")
    assert isinstance(await answering.answer(Roots([PREFIX]), "n3"), Summary)
    assert isinstance(await answering.answer(ask, "n3", urgent=True), Answer)
    assert isinstance(await answering.answer(ask, "n2"), Answer), "the two of an exchange talk in both directions"
    answering.asking = ""
    with pytest.raises(Overloaded, match="n2"):
        await answering.answer(ask, "n3")
