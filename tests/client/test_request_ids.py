"""Request ids: the cluster's time, a tag, a sequence."""

from __future__ import annotations

from random import Random

from kvclient.request_ids import RequestIds


class Hands:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s


def test_an_id_has_the_cluster_s_time_whatever_the_own_clock_says() -> None:
    clock = Hands()
    ids = RequestIds(clock, Random(1))
    ids.synchronize(1_900_000_000_000, 99.8, 100.0)  # answered in the middle of the round trip: 99.9
    clock.now_s = 101.0
    assert int.from_bytes(ids.issue(1)[0][:6], "big") == 1_900_000_001_100


def test_age_is_by_the_cluster_s_clock() -> None:
    clock = Hands()
    ids = RequestIds(clock, Random(1))
    ids.synchronize(1_900_000_000_000, 100.0, 100.0)
    (one,) = ids.issue(1)
    clock.now_s += 2.5
    assert ids.age_ms(one) == 2500


def test_ids_of_a_client_differ_and_share_its_tag() -> None:
    ids = RequestIds(Hands(), Random(1))
    issued = [one for count in (1, 5, 300) for one in ids.issue(count)]
    assert len(set(issued)) == 306 and {len(one) for one in issued} == {16}
    assert len({one[6:12] for one in issued}) == 1
    assert ids.issue(0) == []


def test_the_sequence_wraps_around() -> None:
    class Last(Random):
        def getrandbits(self, bits: int, /) -> int:
            return (1 << bits) - 2

    sequences = [int.from_bytes(one[12:], "big") for one in RequestIds(Hands(), Last(1)).issue(4)]
    assert sequences == [2**32 - 2, 2**32 - 1, 0, 1]


def test_two_clients_have_different_tags() -> None:
    one, two = (RequestIds(Hands(), Random(seed)).issue(1)[0] for seed in (1, 2))
    assert one[6:12] != two[6:12]
