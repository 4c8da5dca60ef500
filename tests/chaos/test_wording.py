"""What the simulation says of a call, in words."""

from __future__ import annotations

from typing import Any

import pytest

from kvchaos.history import Recorder, calls_of
from kvchaos.simulation.names import Names
from kvchaos.simulation.wording import told


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"value": "w2", "order": 5}, "found w2 on n1+n2, after 2.0 ms"),
        ({"value": None}, "found nothing on n1+n2, after 2.0 ms"),
        ({"value": None, "siblings": []}, "found nothing on n1+n2, after 2.0 ms; has seen nothing"),
        ({"value": None, "siblings": ["w1", "w2"]}, "found w1, w2 on n1+n2, after 2.0 ms; has seen nothing"),
    ],
)
def test_bug_a_read_of_a_register_was_always_said_to_have_found_nothing(facts: dict[str, Any], said: str) -> None:
    times_ns = iter([1_000_000, 3_000_000])
    recorder = Recorder(lambda: next(times_ns))
    recorder.note(0, "invoke", "read", key="k")
    recorder.note(0, "ok", "read", key="k", acknowledged=["n1", "n2"], **facts)
    (call,) = calls_of(recorder.history.events)
    assert told(call, Names([], [])) == said
