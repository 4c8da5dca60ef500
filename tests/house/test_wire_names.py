"""The plain enums of kvproto equal those of the .proto files, number for number."""

from __future__ import annotations

from kvproto import columns, errors
from kvproto.codec import decode_error, encode_error
from kvproto.v1 import key_value_pb2


def test_error_codes_equal_the_wires() -> None:
    ours = {code.name: code.value for code in errors.Code}
    theirs = dict(key_value_pb2.ErrorCode.items())
    theirs["UNSPECIFIED"] = theirs.pop("ERROR_CODE_UNSPECIFIED")
    assert ours == theirs


def test_kinds_equal_the_wires() -> None:
    theirs = {name.removeprefix("KIND_"): number for name, number in key_value_pb2.Kind.items() if number}
    assert {kind.name: kind.value for kind in columns.Kind} == theirs


def test_levels_equal_the_wires() -> None:
    theirs = {name.removeprefix("LEVEL_"): number for name, number in key_value_pb2.Level.items()}
    theirs["PRESET"] = theirs.pop("UNSPECIFIED")
    assert {level.name: level.value for level in columns.Level} == theirs


def test_every_error_code_has_a_class_that_says_so() -> None:
    for code in errors.Code:
        if code is not errors.Code.UNSPECIFIED:
            assert errors.error_class(code).code is code


def test_no_two_classes_state_one_code() -> None:
    stating = [kind for kind in errors._tree(errors.KvError) if "code" in kind.__dict__]
    assert len({kind.code for kind in stating}) == len(stating) == len(errors.Code) - 1


def test_bug_a_cluster_error_arrived_as_unavailable() -> None:
    """They shared a code, so a node that was refused for good tried again for ever."""
    told = decode_error(encode_error(errors.ClusterError("not ours", subject="n2")))
    assert type(told) is errors.ClusterError and not told.retryable and told.subject == "n2"
    assert type(decode_error(encode_error(errors.AvailabilityError("later")))) is errors.AvailabilityError


def test_an_error_code_of_a_newer_peer_is_a_plain_error() -> None:
    assert errors.error_class(9999) is errors.KvError
