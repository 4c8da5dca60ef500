"""The errors a caller can meet: the tree of `kvproto.errors`, and what only a client can know.

Nothing here is decided by text: catch the class, or read `.code`, `.retryable` and `.may_have_applied`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kvproto import errors as wire
from kvproto.errors import (
    AvailabilityError,
    BadRequest,
    BehindSession,
    CertificateExpired,
    CertificateRefused,
    CertificateRequired,
    ClusterError,
    Code,
    DeadlineExceeded,
    DuplicateNode,
    KvError,
    NamespaceConfigured,
    NamespaceExists,
    NotAllowed,
    NotOwner,
    Overloaded,
    QuorumUnreachable,
    QuotaExceeded,
    RecordLost,
    RetryWindowPassed,
    SettingsMismatch,
    ShuttingDown,
    StorageError,
    StoreInUse,
    TlsError,
    TlsNotSpoken,
    TlsRequired,
    TooLarge,
    UnknownAuthority,
    UnknownNamespace,
    UnsupportedProtocol,
    UserError,
    WrongCluster,
    WrongEpoch,
    WrongHostName,
    WrongMode,
)

__all__ = [
    "AvailabilityError",
    "BadRequest",
    "BatchError",
    "BehindSession",
    "CertificateExpired",
    "CertificateRefused",
    "CertificateRequired",
    "ClientClosed",
    "ClusterError",
    "Code",
    "ConditionFailed",
    "DeadlineExceeded",
    "DuplicateNode",
    "ForkedClient",
    "KvError",
    "LockNotAcquired",
    "NamespaceConfigured",
    "NamespaceExists",
    "NodeUnreachable",
    "NotAllowed",
    "NotOwner",
    "Overloaded",
    "QuorumUnreachable",
    "QuotaExceeded",
    "RecordLost",
    "RetryWindowPassed",
    "SettingsMismatch",
    "ShuttingDown",
    "SiblingsError",
    "StorageError",
    "StoreInUse",
    "TlsError",
    "TlsNotSpoken",
    "TlsRequired",
    "TooLarge",
    "UnknownAuthority",
    "UnknownNamespace",
    "UnsupportedProtocol",
    "UserError",
    "WrongCluster",
    "WrongEpoch",
    "WrongHostName",
    "WrongLoop",
    "WrongMode",
    "copy_error",
]


if TYPE_CHECKING:
    from kvclient.values import Entry


class ConditionFailed(wire.ConditionFailed):
    """The condition of a write did not hold: nothing was applied, and it is certain. `entry` is what is there instead."""

    entry: Entry

    def with_entry(self, entry: Entry) -> ConditionFailed:
        """This error, of the key that `entry` is about."""
        self.entry = entry
        return self


class LockNotAcquired(AvailabilityError):
    """Somebody else held the lock (`subject`) until the timeout."""


class NodeUnreachable(AvailabilityError):
    """No connection to `subject`, or it broke while an answer was awaited (then a write may have been applied)."""


class ClientClosed(UserError):
    """The client was closed, before or during the call."""


class ForkedClient(UserError):
    """The process was forked after the client was opened: connections and threads do not survive that. Open one after the fork."""


class WrongLoop(UserError):
    """An `AsyncClient` was used from another event loop than the one it began with. Make one for each loop, or use `Client`."""


class SiblingsError(UserError):
    """`.value` of a key that holds more than one: read `.values`, merge them, and put the result with `context=entry.context`."""


class BatchError(KvError):
    """Some keys of a *_many call failed. Keys are as the caller gave them; look at each error for its code.

    `results` has what succeeded, `errors` one error for each key that did not; `may_have_applied` if it is true of any of them,
    `retryable` if it is true of all.
    """

    def __init__(self, results: Mapping[Any, Any], errors: Mapping[Any, KvError]) -> None:
        first = next(iter(errors.values()))
        super().__init__(
            f"{len(errors)} of {len(errors) + len(results)} keys failed, the first with: {first.message}",
            retryable=all(error.retryable for error in errors.values()),
            may_have_applied=any(error.may_have_applied for error in errors.values()),
        )
        self.results: dict[Any, Any] = dict(results)
        self.errors: dict[Any, KvError] = dict(errors)


def copy_error(error: KvError, *, may_have_applied: bool) -> KvError:
    """`error` once more, for one operation alone: an exception raised in several tasks would collect all their tracebacks.

    That a condition failed is certain whatever became of earlier attempts: a node that executes a write again knows it by its id.
    """
    copy = type(error)(
        error.message,
        retryable=error.retryable,
        may_have_applied=may_have_applied and not isinstance(error, ConditionFailed),
        needed=error.needed,
        received=error.received,
        contacted=error.contacted,
        retry_after_s=error.retry_after_s,
        limit=error.limit,
        actual=error.actual,
        subject=error.subject,
        trace_id=error.trace_id,
    )
    if isinstance(error, ConditionFailed) and isinstance(copy, ConditionFailed):
        copy.entry = error.entry
    return copy
