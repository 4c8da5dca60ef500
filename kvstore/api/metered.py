"""Batches of namespaces that have a quota: which of their groups go on, and who is charged for what they ask and are answered."""

from __future__ import annotations

from collections.abc import Callable

from kvproto.columns import GroupReply, OperationGroup
from kvproto.errors import QuotaExceeded
from kvproto.v1 import key_value_pb2
from kvstore.api.large_replies import held_bytes
from kvstore.coordinator.quotas import Quota, Quotas

Reply = Callable[[list[GroupReply], bool], None]


def within_quotas(
    quotas: Quotas, request: key_value_pb2.BatchRequest, groups: list[OperationGroup], reply: Reply, now_s: float
) -> tuple[list[OperationGroup], Reply]:
    """The groups that may go on, and where to answer them: `reply` itself, or something that charges answers. The others are
    answered here. Groups without a quota, which is nearly all, are not touched."""
    charged: dict[int, Quota] = {}
    refused: dict[int, QuotaExceeded] = {}
    for index, group in enumerate(groups):
        quota = quotas.of.get(group.namespace)
        if quota is None:
            continue
        refusal = quota.refusal(len(group.keys), now_s)
        if refusal is not None:
            refused[index] = refusal
        else:
            quota.take(len(group.keys), request.groups[index].ByteSize())
            charged[index] = quota
    if not charged and not refused:
        return groups, reply
    kept = [index for index in range(len(groups)) if index not in refused]

    def answer(replies: list[GroupReply], last: bool) -> None:
        for told in replies:
            told.group = kept[told.group]
            if told.group in charged and told.values:
                charged[told.group].take(0, held_bytes([told]))
        reply(replies, last)

    if refused:
        reply([GroupReply(index, error=error) for index, error in refused.items()], not kept)
    return [groups[index] for index in kept], answer
