"""Trace ids: what a request brings is kept, what it does not bring is made up, and what is no id is none."""

from __future__ import annotations

import pytest

from kvstore.telemetry.trace import TraceIds, parse_traceparent

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (f"00-{TRACE}-{SPAN}-01", TRACE),
        (f"01-{TRACE}-{SPAN}-01", TRACE),
        (f"cc-{TRACE}-{SPAN}-01-what-a-later-version-adds", TRACE),
        (f"00-{TRACE}-{SPAN}-01-more", ""),
        (f"ff-{TRACE}-{SPAN}-01", ""),
        (f"00-{'0' * 32}-{SPAN}-01", ""),
        (f"00-{TRACE}-{'0' * 16}-01", ""),
        (f"00-{TRACE.upper()}-{SPAN}-01", ""),
        (f"00-{TRACE}-{SPAN}", ""),
        (f"00-{TRACE}-{SPAN}-01\n", ""),
        ("", ""),
    ],
)
def test_a_traceparent_is_read_as_w3c_says(header: str, found: str) -> None:
    assert parse_traceparent(header).hex() == found


def test_what_a_request_brings_goes_before_what_its_call_brings_and_that_before_a_new_one() -> None:
    ids = TraceIds(7)
    header = [("user-agent", "x"), ("traceparent", f"00-{TRACE}-{SPAN}-01")]
    assert ids.id_of(b"q" * 16, header) == b"q" * 16
    assert ids.id_of(b"", header).hex() == TRACE
    assert ids.id_of(b"short", [("traceparent", "no"), ("traceparent", b"bytes")]) == (7).to_bytes(8, "big") + (1).to_bytes(
        8, "big"
    )
    assert ids.id_of(b"") != ids.id_of(b"") and len(ids.id_of(b"")) == 16
