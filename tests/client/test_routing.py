"""Which link a key takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from kvclient.routing import Router, addresses_of, choose_fallback
from kvproto.columns import ClusterInfo, Level, MemberInfo, NamespaceInfo
from kvproto.partitions import partition_of, partition_shift


@dataclass(eq=False)
class Link:
    """A link as routing sees it."""

    name: str
    up: bool = True
    late: bool = False
    silent: bool = False
    slow: bool = False
    near: bool = True


def ring(members: int, partitions: int = 8, replicas: int = 3) -> ClusterInfo:
    owners = [(partition + rank) % members for partition in range(partitions) for rank in range(replicas)]
    return ClusterInfo(
        cluster_id="c",
        node_id="n0",
        version="0",
        ring_epoch=1,
        ring_hash=1,
        partitions=partitions,
        members=tuple(MemberInfo(f"n{number}", f"host{number}:1") for number in range(members)),
        owners_per_partition=replicas,
        owners=b"".join(owner.to_bytes(2, "big") for owner in owners),
        namespaces=(),
        key_bytes_max=1,
        value_bytes_max=1,
        server_time_ms=0,
        retry_window_ms=1,
    )


def test_owners_follow_the_ring_s_preference_list() -> None:
    links = [Link(f"n{number}") for number in range(5)]
    router = Router(ring(5), links)
    for number in range(100):
        key = b"k%d" % number
        partition = partition_of(key, partition_shift(8))
        assert router.owners(key) == tuple(links[(partition + rank) % 5] for rank in range(3))
        assert router.choose(key) is links[partition % 5]


def test_one_partition_is_a_ring_too() -> None:
    link = Link("n0")
    assert Router(ring(1, partitions=1, replicas=1), [link]).choose(b"any") is link


def test_links_and_members_must_match() -> None:
    with pytest.raises(ValueError, match="2 links for 3 members"):
        Router(ring(3), [Link("a"), Link("b")])


@pytest.mark.parametrize(
    ("down", "avoid", "expected"),
    [
        ("", "", "a"),  # the coordinator by convention
        ("a", "", "b"),  # then the next owner in order
        ("", "a", "b"),  # the one that just failed is not asked again at once
        ("ab", "", "c"),
        ("abc", "", "d"),  # a stranger forwards
        ("bc", "a", "d"),
        ("bcde", "a", "a"),  # nothing else is up: again the one that failed
        ("abcde", "", "a"),  # nothing is up: the opinion may be wrong
        ("abcde", "a", "b"),  # and the owners take turns
        ("abcde", "c", "a"),
        ("abcde", "d", "a"),
    ],
)
def test_who_is_asked_when_the_first_owner_will_not_do(down: str, avoid: str, expected: str) -> None:
    links = {name: Link(name, up=name not in down) for name in "abcde"}
    owners = [links[name] for name in "abc"]
    assert choose_fallback(owners, list(links.values()), links.get(avoid)).name == expected


def test_addresses_are_the_advertised_ones_unless_mapped() -> None:
    assert addresses_of(ring(2), {"n1": "elsewhere:9"}) == [("n0", "host0:1"), ("n1", "elsewhere:9")]


def test_reads_pass_over_an_owner_that_is_silent_as_long_as_there_is_another() -> None:
    links = [Link(f"n{number}") for number in range(4)]
    router = Router(ring(4), links)
    first, second, third = router.owners(b"k")
    first.late = True
    assert router.choose_read(b"k") is first, "late is not silent"
    first.silent = True
    assert router.choose_read(b"k") is second and router.choose(b"k") is first, "writes stay"
    second.up = False
    assert router.choose_read(b"k") is third
    third.silent = True
    assert router.choose_read(b"k") is first
    assert router.choose_read(b"k", avoid=first) not in (first, second)


def test_a_slow_owner_is_used_only_when_no_other_one_is_up() -> None:
    links = [Link(f"n{number}") for number in range(4)]
    router = Router(ring(4), links)
    first, second, third = router.owners(b"k")
    first.slow = True
    assert router.choose_read(b"k") is router.choose(b"k") is second
    second.up = False
    assert router.choose_read(b"k") is router.choose(b"k") is third
    third.slow = True
    assert router.choose_read(b"k") is router.choose(b"k") is first, "a slow owner before a stranger, and in their order"
    assert router.other_owner(b"k", first) is third
    second.up = True
    assert router.other_owner(b"k", first) is second


def test_a_second_question_goes_to_an_owner_that_is_up_and_owes_nothing() -> None:
    links = [Link(f"n{number}") for number in range(4)]
    router = Router(ring(4), links)
    first, second, third = router.owners(b"k")
    assert router.other_owner(b"k", first) is second
    second.late = True
    assert router.other_owner(b"k", first) is third
    third.up = False
    assert router.other_owner(b"k", first) is None, "a node that does not own the key is no help"


def gathering_ring() -> ClusterInfo:
    spaces = [
        NamespaceInfo(1, "default", "eventual", "pa-ec", 3, 3, 2, 2),
        NamespaceInfo(2, "fast", "eventual", "pa-el", 3, 3, 1, 1),
    ]
    return replace(ring(3, partitions=64), namespaces=(*spaces, NamespaceInfo(3, "cp", "linearizable", "pc-ec", 3, 3, 2, 2)))


def test_a_client_gives_one_owner_all_that_it_may_and_another_client_perhaps_another_one() -> None:
    keys, homes = [b"k%d" % number for number in range(200)], set()
    for turn in range(20):
        links = [Link(f"n{number}") for number in range(3)]
        router = Router(gathering_ring(), links, turn=turn)
        read, write = Asked("default"), Asked("default", Level.QUORUM, writes=True)
        for asked in (read, write):
            assert all(router.chooser(asked)(key) is router.owners(key)[0] for key in keys), "by convention, until it is known"
        router.read_width = router.write_width = 1
        (home,) = {router.chooser(read)(key).name for key in keys}
        assert {router.chooser(write)(key).name for key in keys} == {home}
        homes.add(home)
        router.read_width = router.write_width = 2
        shares = [router.chooser(write)(key).name for key in keys]
        assert len(set(shares)) == 2 and home in shares and 60 < shares.count(home) < 140
        router.read_width = router.write_width = 3
        assert all(router.chooser(asked)(key) is router.owners(key)[0] for key in keys for asked in (read, write))
    assert homes == {"n0", "n1", "n2"}


def test_only_what_asks_quorums_of_an_eventual_namespace_is_gathered() -> None:
    links = [Link(f"n{number}") for number in range(3)]
    router = Router(gathering_ring(), links)
    router.read_width = router.write_width = 1
    keys = [b"k%d" % number for number in range(100)]
    for writes in (False, True):
        for asked in (
            Asked("fast", writes=writes),
            Asked("cp", writes=writes),
            Asked("no such", writes=writes),
            Asked("default", Level.ONE, writes=writes, may_gather=False),
        ):
            assert all(router.chooser(asked)(key) is router.owners(key)[0] for key in keys)


def test_a_home_that_will_not_do_is_passed_over_and_the_next_in_rank_is_everybodys() -> None:
    links = [Link(f"n{number}") for number in range(3)]
    router = Router(gathering_ring(), links)
    router.read_width = router.write_width = 1
    read, write = Asked("default"), Asked("default", writes=True)
    keys = [b"k%d" % number for number in range(50)]
    home = router.chooser(read)(b"k")
    home.silent = True
    assert router.chooser(write)(b"k") is home, "writes stay, as everywhere"
    (second,) = {router.chooser(read)(key).name for key in keys}
    home.slow = True
    assert {router.chooser(write)(key).name for key in keys} == {second} != {home.name}
    home.silent = home.slow = False
    assert router.chooser(write)(b"k", home).name == router.chooser(read)(b"k", home).name == second
    for link in links:
        link.up = link is home
    assert router.chooser(write)(b"k", home) is home, "nobody else is there"


def test_a_newer_ring_goes_on_as_the_one_before() -> None:
    before = Router(gathering_ring(), [Link(f"n{number}") for number in range(3)])
    before.read_width, before.write_width = 1, 2
    held = Link("held")
    before.held = held
    after = Router(gathering_ring(), [Link(f"n{number}") for number in range(3)], before=before)
    assert (after.read_width, after.write_width) == (1, 2)
    assert after.chooser(Asked("default", writes=True))(b"k") is held
    assert after.chooser(Asked("cp", writes=True))(b"k") is not held
    assert Router(ring(1, partitions=1, replicas=1), [Link("a")], before=before).write_width == 1
    two = Router(ring(2, replicas=2), [Link("a"), Link("b")])
    assert Router(gathering_ring(), [Link(f"n{number}") for number in range(3)], before=two).write_width == 3, (
        "by convention as well"
    )


@dataclass
class Asked:
    """What routing sees of a read or write."""

    namespace: str
    level: Level = Level.PRESET
    writes: bool = False
    may_gather: bool = True


def test_reads_that_any_owner_may_answer_alone_are_shared_by_the_near_ones() -> None:
    spaces = tuple(
        NamespaceInfo(2, name, "linearizable", preset, 3, 3, 2, 2) for name, preset in (("el", "pc-el"), ("ec", "pc-ec"))
    )
    links = [Link(f"n{number}") for number in range(3)]
    one, other = (Router(replace(ring(3), namespaces=spaces), links, turn=turn) for turn in (0, 1))
    keys = [b"k%d" % number for number in range(300)]
    for asked in (Asked("el"), Asked("ec", Level.TIMELINE), Asked("ec", Level.BOUNDED)):
        chosen = [one.chooser(asked)(key).name for key in keys]
        assert all(60 < chosen.count(link.name) < 140 for link in links)
        assert chosen == [one.chooser(asked)(key).name for key in keys], "where it was read before"
        assert all(name != other.chooser(asked)(key).name for name, key in zip(chosen, keys, strict=True))
    for asked in (Asked("el", writes=True), Asked("el", Level.LINEARIZABLE), Asked("ec"), Asked("no such")):
        assert all(one.chooser(asked)(key) is one.owners(key)[0] for key in keys)
    links[0].near = links[1].up = False
    assert {one.chooser(Asked("el"))(key).name for key in keys} == {"n2"}
    links[2].silent = True
    assert {one.chooser(Asked("el"))(key).name for key in keys} == {"n0"}, "one that is far before one that is silent"
