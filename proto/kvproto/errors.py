"""The error tree of both sides, and the numbers that travel with each (docs/architecture.md, "Errors").

The first split is whose fault it is: the caller's (`UserError`), the moment's (`AvailabilityError`), the cluster's set-up
(`ClusterError`), the disk's (`StorageError`), or nobody's: who asks may not (`NotAllowed`). Codes and numbers are the contract;
texts are for people. An error that may have been applied is *unknown*, never "failed".
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar


class Code(IntEnum):
    """`kvproto.v1.ErrorCode`, free of protobuf; a test keeps the two equal."""

    UNSPECIFIED = 0
    BAD_REQUEST = 1
    TOO_LARGE = 2
    UNKNOWN_NAMESPACE = 3
    WRONG_MODE = 4
    QUORUM_UNREACHABLE = 5
    DEADLINE_EXCEEDED = 6
    OVERLOADED = 7
    WRONG_EPOCH = 8
    WRONG_CLUSTER = 9
    SETTINGS_MISMATCH = 10
    DUPLICATE_NODE = 11
    STORAGE_FAILED = 12
    RECORD_LOST = 13
    RETRY_WINDOW_PASSED = 14
    NOT_OWNER = 15
    UNAVAILABLE = 16
    INTERNAL = 17
    UNSUPPORTED_PROTOCOL = 18
    SHUTTING_DOWN = 19
    CLUSTER_REFUSED = 20
    NOT_ALLOWED = 21
    QUOTA_EXCEEDED = 100
    CONDITION_FAILED = 101
    BEHIND_SESSION = 102
    NAMESPACE_EXISTS = 140
    NAMESPACE_CONFIGURED = 141


class KvError(Exception):
    """Root of every error the store raises.

    `retryable`: the same call may succeed later. `may_have_applied`: a write that ended so is unknown; a retry must carry the same
    request id. Numbers that do not apply are 0, `subject` names the namespace, node, setting or file it is about. `trace_id`: what
    the nodes' log lines about the request carry, in hex; "" if it reached none.
    """

    code: ClassVar[Code] = Code.INTERNAL
    retryable_default: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        retryable: bool | None = None,
        may_have_applied: bool = False,
        needed: int = 0,
        received: int = 0,
        contacted: int = 0,
        retry_after_s: float = 0.0,
        limit: int = 0,
        actual: int = 0,
        subject: str = "",
        trace_id: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = self.retryable_default if retryable is None else retryable
        self.may_have_applied = may_have_applied
        self.needed = needed
        self.received = received
        self.contacted = contacted
        self.retry_after_s = retry_after_s
        self.limit = limit
        self.actual = actual
        self.subject = subject
        self.trace_id = trace_id

    def numbers(self) -> dict[str, int | float | str]:
        """The numbers that apply, for JSON output and logs."""
        names = ("needed", "received", "contacted", "retry_after_s", "limit", "actual", "subject", "trace_id")
        return {name: value for name in names if (value := getattr(self, name))}


class UserError(KvError):
    """The request can never succeed as it stands."""

    code = Code.BAD_REQUEST


class BadRequest(UserError):
    """Malformed, or against the rules; the message says which."""


class TooLarge(UserError):
    """A key, value or batch over its limit: `limit` and `actual` are bytes."""

    code = Code.TOO_LARGE


class UnknownNamespace(UserError):
    """No namespace of that name (`subject`)."""

    code = Code.UNKNOWN_NAMESPACE


class NamespaceExists(UserError):
    """There is a namespace of that name (`subject`) with other settings, which the message names; settings never change."""

    code = Code.NAMESPACE_EXISTS


class NamespaceConfigured(UserError):
    """The namespace (`subject`) is part of the nodes' configuration: it is neither made nor dropped at run time."""

    code = Code.NAMESPACE_CONFIGURED


class WrongMode(UserError):
    """The namespace's mode cannot give what was asked."""

    code = Code.WRONG_MODE


class UnsupportedProtocol(UserError):
    """Neither side speaks the other's protocol version."""

    code = Code.UNSUPPORTED_PROTOCOL


class ConditionFailed(UserError):
    """The condition of a write did not hold: nothing was applied, and it is certain. The reply that brings it has the columns of
    what is there instead."""

    code = Code.CONDITION_FAILED


class AvailabilityError(KvError):
    """Not now: too few nodes, too little time, too much load."""

    code = Code.UNAVAILABLE
    retryable_default = True


class QuorumUnreachable(AvailabilityError):
    """`needed` answers, `received` had come, `contacted` nodes were asked."""

    code = Code.QUORUM_UNREACHABLE


class DeadlineExceeded(AvailabilityError):
    """The deadline passed first. A write is unknown unless it was never sent."""

    code = Code.DEADLINE_EXCEEDED


class Overloaded(AvailabilityError):
    """A bound was reached; certainly not applied. Try again after `retry_after_s`."""

    code = Code.OVERLOADED


class QuotaExceeded(Overloaded):
    """A namespace (`subject`) has used up its quota, of which the message says which: `limit` a second, cluster-wide. Certainly not
    applied; every node says the same, so it is no use to ask another. Try again after `retry_after_s`."""

    code = Code.QUOTA_EXCEEDED


class ShuttingDown(AvailabilityError):
    """The node is going away; another one can serve."""

    code = Code.SHUTTING_DOWN


class RetryWindowPassed(AvailabilityError):
    """A request id older than the retry window: whether it was applied is no longer known, so it is not executed again."""

    code = Code.RETRY_WINDOW_PASSED
    retryable_default = False


class BehindSession(AvailabilityError):
    """No replica that can be reached has what the session has seen of the key; one that is away, or slow, has."""

    code = Code.BEHIND_SESSION


class ClusterError(KvError):
    """Nodes or clients that must not work together, or not yet."""

    code = Code.CLUSTER_REFUSED


class WrongEpoch(ClusterError):
    """The two sides have different rings; fetch the newer and try again."""

    code = Code.WRONG_EPOCH
    retryable_default = True


class NotOwner(ClusterError):
    """A forwarded request reached a node that is no home replica of the key."""

    code = Code.NOT_OWNER
    retryable_default = True


class WrongCluster(ClusterError):
    """The other side, or the data directory, belongs to another cluster."""

    code = Code.WRONG_CLUSTER


class SettingsMismatch(ClusterError):
    """Cluster settings differ; the message names each."""

    code = Code.SETTINGS_MISMATCH


class DuplicateNode(ClusterError):
    """Another living process already is that node."""

    code = Code.DUPLICATE_NODE


class StorageError(KvError):
    """The disk or the data directory."""

    code = Code.STORAGE_FAILED


class StoreInUse(StorageError):
    """Another process has the data directory open; the message names its pid."""

    retryable_default = True


class RecordLost(StorageError):
    """What was held cannot be verified: neither a value nor "not found" (safety rule 5)."""

    code = Code.RECORD_LOST
    retryable_default = True


class NotAllowed(KvError):
    """Who asks may not, as far as certificates say; nothing was done."""

    code = Code.NOT_ALLOWED


class TlsError(NotAllowed):
    """No connection to `subject`, because of TLS; nothing was sent. The message names the way out."""


class TlsRequired(TlsError):
    """Plain text, to a node that speaks TLS."""


class TlsNotSpoken(TlsError):
    """TLS, to a node that speaks plain text."""


class CertificateExpired(TlsError):
    """A certificate has expired or is not valid yet; the message says whose."""


class UnknownAuthority(TlsError):
    """The node's certificate is signed by nobody whom we trust."""


class WrongHostName(TlsError):
    """The node's certificate is for other names than the one we dialled."""


class CertificateRequired(TlsError):
    """The node asks for a certificate and we have none."""


class CertificateRefused(TlsError):
    """The node does not accept our certificate."""


def _tree(cls: type[KvError]) -> list[type[KvError]]:
    return [cls, *(leaf for child in cls.__subclasses__() for leaf in _tree(child))]


# The most specific class of a code wins: a parent comes before its children, so children overwrite it.
BY_CODE: dict[Code, type[KvError]] = {}
for _cls in _tree(KvError):
    if "code" in _cls.__dict__ or _cls is BadRequest:
        BY_CODE[_cls.code] = _cls


def error_class(code: int) -> type[KvError]:
    """The class for a code off the wire; one this version does not know is a plain `KvError`."""
    try:
        return BY_CODE.get(Code(code), KvError)
    except ValueError:
        return KvError
