"""The errors a caller can meet: the tree of `kvproto.errors`, and what only a client can know.

Nothing here is decided by text: catch the class, or read `.code`, `.retryable` and `.may_have_applied`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvproto.errors import (
    AvailabilityError,
    BadRequest,
    CertificateExpired,
    CertificateRefused,
    CertificateRequired,
    ClusterError,
    Code,
    DeadlineExceeded,
    DuplicateNode,
    KvError,
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
    "CertificateExpired",
    "CertificateRefused",
    "CertificateRequired",
    "ClientClosed",
    "ClusterError",
    "Code",
    "DeadlineExceeded",
    "DuplicateNode",
    "ForkedClient",
    "KvError",
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
    """`error` once more, for one operation alone: an exception raised in several tasks would collect all their tracebacks."""
    return type(error)(
        error.message,
        retryable=error.retryable,
        may_have_applied=may_have_applied,
        needed=error.needed,
        received=error.received,
        contacted=error.contacted,
        retry_after_s=error.retry_after_s,
        limit=error.limit,
        actual=error.actual,
        subject=error.subject,
        trace_id=error.trace_id,
    )
