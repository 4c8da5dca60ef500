"""The policies by the name that the configuration gives them, and the store's view of one: bytes in, bytes out."""

from __future__ import annotations

from kvstore.core.policies.operations import Policy
from kvstore.core.policies.plain import LWW, SIBLINGS
from kvstore.core.policies.typed import COUNTER, MAP, SET
from kvstore.core.record import decode, encode
from kvstore.core.record_writes import merge_records, replaces

POLICIES: dict[str, Policy] = {policy.name: policy for policy in (SIBLINGS, LWW, COUNTER, SET, MAP)}


def join_records(policy: Policy, held: bytes, new: bytes) -> bytes:
    """The join of two verified records, as `record.merge_records`: `held` itself, the same object, when `new` adds nothing.

    Its quick ways hold for every policy: a record of one vector row is the one its actor minted as that event, and the actor's
    later record of the key reflects it. Only lww joins otherwise than versions.merge.
    """
    if policy.name != LWW.name or held == new:
        return merge_records(held, new)
    if replaces(new, held):
        return new
    if replaces(held, new):
        return held
    joined = encode(policy.join(decode(held), decode(new)))
    return held if joined == held else joined
