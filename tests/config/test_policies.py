"""Policies from the configuration: a merge function is imported, checked on samples, refused with what shows that it is none."""

from __future__ import annotations

import pytest

from kvproto.errors import UserError
from kvstore.config import NamespaceConfig
from kvstore.config.policies import BadMerge, load_policies
from kvstore.core.policies.typed import COUNTER


def union(one: bytes, two: bytes) -> bytes:
    return b",".join(sorted({*one.split(b","), *two.split(b",")} - {b""}))


def longest(one: bytes, two: bytes) -> bytes:
    """Of two that are as long the first: not commutative."""
    return one if len(one) >= len(two) else two


def broken(one: bytes, two: bytes) -> bytes:
    raise KeyError("no cart")


def greatest(one: bytes, two: bytes) -> bytes:
    return max(one, two)


greatest.samples = [b"\xff", b"a", b""]  # type: ignore[attr-defined]
NO_FUNCTION = 5


def space(merge: str, *samples: str) -> dict[str, NamespaceConfig]:
    return {
        "carts": NamespaceConfig(name="carts", id=2, policy="merge", merge=f"tests.config.test_policies:{merge}", samples=samples)
    }


def test_a_merge_that_keeps_the_laws_is_taken() -> None:
    assert load_policies(space("union", "a", "a,b", "c", ""))["carts"].name == "merge"


def test_samples_may_come_with_the_function() -> None:
    assert load_policies(space("greatest"))["carts"].name == "merge"


@pytest.mark.parametrize(
    ("merge", "samples", "said"),
    [
        ("longest", ("ab", "cd"), "a merge is commutative, but with b'ab', b'cd'"),
        ("broken", ("a", "b"), "fails with .*no cart"),
        ("union", ("a",), "needs 2 to 24 different samples"),
        ("nobody", ("a", "b"), "cannot be imported"),
        ("NO_FUNCTION", ("a", "b"), "is no function but a int"),
    ],
)
def test_what_is_no_merge_is_refused_with_the_reason(merge: str, samples: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadMerge, match=said) as refused:
        load_policies(space(merge, *samples))
    assert UserError in BadMerge.__mro__
    assert refused.value.subject == "carts" and "'carts'" in refused.value.message


def test_the_others_go_by_their_names() -> None:
    assert load_policies({"hits": NamespaceConfig(name="hits", policy="counter")}) == {"hits": COUNTER}
