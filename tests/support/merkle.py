"""What two nodes' trees tell each other, without nodes."""

from __future__ import annotations

from collections.abc import Sequence

from kvstore.core.merkle.exchange import Exchange
from kvstore.core.merkle.forest import Forest
from kvstore.core.merkle.standing import begin_look, differs, is_known, pair_roots


def exchanges_of(forest: Forest, prefixes: Sequence[bytes], theirs: bytes) -> dict[bytes, Exchange]:
    """An exchange for each tree that differs from what the summary `theirs` says, and is known on both sides."""
    exchanges: dict[bytes, Exchange] = {}
    for prefix, row in pair_roots(forest, prefixes, theirs).items():
        if is_known(row) and differs(row):
            exchange = begin_look(forest, prefix, row[1][0])
            assert exchange is not None
            exchanges[prefix] = exchange
    return exchanges
