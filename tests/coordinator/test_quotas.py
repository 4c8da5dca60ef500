"""A node's part of a quota follows how many share it, and what was used of it goes on to count."""

from __future__ import annotations

import pytest

from kvproto.errors import QuotaExceeded
from kvstore.config import NamespaceConfig
from kvstore.coordinator.quotas import Quotas

REPORTS = NamespaceConfig(id=2, name="reports", quota_operations_per_s=300)


def test_a_part_grows_and_shrinks_with_who_is_left_and_is_never_more_than_all() -> None:
    sharers = 3
    quotas = Quotas({"reports": REPORTS}, lambda: sharers)
    quota = quotas.of["reports"]
    bucket = quota.buckets["operations"]
    for sharers, rate in ((3, 100.0), (2, 150.0), (1, 300.0), (0, 300.0), (3, 100.0)):  # noqa: B007 - the lambda reads it
        quota.share()
        assert bucket.rate == pytest.approx(rate)


def test_what_was_used_is_not_given_back_when_the_part_changes() -> None:
    sharers = 3
    quotas = Quotas({"reports": REPORTS}, lambda: sharers)
    quota = quotas.of["reports"]
    assert quota.refusal(1, 0.0) is None
    quota.take(400, 0)
    sharers = 1
    refused = quota.refusal(1, 0.0)
    assert isinstance(refused, QuotaExceeded) and refused.retry_after_s == pytest.approx(1.0, abs=0.01), "300 owed, at 300 a second"
    assert quota.refusal(1, 1.1) is None
    sharers = 3
    quota.take(130, 0)
    refused = quota.refusal(1, 1.1)
    assert isinstance(refused, QuotaExceeded) and refused.retry_after_s == pytest.approx(1.0, abs=0.1), "100 owed, at 100 a second"
