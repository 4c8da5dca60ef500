"""From errors to exit codes, in one table (scripts rely on these numbers; they never change meaning).

First matching row wins, except that an outcome that is unknown comes before everything: a write that may have been applied must
not be mistaken for one that certainly was not.
"""

from __future__ import annotations

from enum import IntEnum

from kvproto.errors import (
    AvailabilityError,
    ClusterError,
    ConditionFailed,
    KvError,
    NotAllowed,
    NotOwner,
    StorageError,
    UserError,
    WrongEpoch,
)


class ExitCode(IntEnum):
    """What a process that ran `kv` ends with."""

    DONE = 0
    INTERNAL = 1
    REFUSED = 2
    NOT_FOUND = 3
    CONDITION = 4
    UNAVAILABLE = 5
    UNKNOWN = 6
    NOT_ALLOWED = 7
    PROMISE_BROKEN = 8
    INCONCLUSIVE = 9
    INTERRUPTED = 130


TABLE: tuple[tuple[type[KvError], ExitCode], ...] = (
    (ConditionFailed, ExitCode.CONDITION),
    (UserError, ExitCode.REFUSED),
    (NotAllowed, ExitCode.NOT_ALLOWED),  # trying again does not help: a certificate, or TLS itself, is not as the node wants it
    (WrongEpoch, ExitCode.UNAVAILABLE),  # the ring is changing: passes by itself
    (NotOwner, ExitCode.UNAVAILABLE),
    (ClusterError, ExitCode.REFUSED),
    (AvailabilityError, ExitCode.UNAVAILABLE),
    (StorageError, ExitCode.UNAVAILABLE),  # a node's disk: expected in a store, hence never "internal"
)

# Of several errors in one batch the first of these decides: what may have happened weighs more than what certainly did not.
_GRAVITY = (
    (ExitCode.UNKNOWN, ExitCode.INTERNAL, ExitCode.UNAVAILABLE, ExitCode.NOT_ALLOWED, ExitCode.REFUSED, ExitCode.CONDITION)
    + (ExitCode.NOT_FOUND,)
)  # fmt: skip


def exit_code_of(error: KvError) -> ExitCode:
    """The exit code of one error, or the gravest of a batch's; an unknown class is internal, unless it may have applied."""
    from kvclient.errors import BatchError, SiblingsError

    if isinstance(error, BatchError) and error.errors:
        return gravest({exit_code_of(part) for part in error.errors.values()})
    if error.may_have_applied:
        return ExitCode.UNKNOWN
    rows: tuple[tuple[type[KvError], ExitCode], ...] = ((SiblingsError, ExitCode.CONDITION), *TABLE)
    return next((code for kind, code in rows if isinstance(error, kind)), ExitCode.INTERNAL)


def gravest(codes: set[ExitCode]) -> ExitCode:
    """The exit code of a command of which several parts ended differently; `DONE` for none."""
    return next((code for code in _GRAVITY if code in codes), ExitCode.DONE)
