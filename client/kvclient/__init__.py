"""kvclient: the Python client of kvstore. `AsyncClient` and `Client` have the same methods; `Client` blocks.

Everything is imported on first use, so that `import kvclient` costs nothing and pulls in neither asyncio nor grpc.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvclient.async_client import AsyncClient as AsyncClient
    from kvclient.blocking import Client as Client
    from kvclient.credentials import Tls as Tls
    from kvclient.errors import (
        AvailabilityError as AvailabilityError,
    )
    from kvclient.errors import (
        BadRequest as BadRequest,
    )
    from kvclient.errors import (
        BatchError as BatchError,
    )
    from kvclient.errors import (
        BehindSession as BehindSession,
    )
    from kvclient.errors import (
        CertificateExpired as CertificateExpired,
    )
    from kvclient.errors import (
        CertificateRefused as CertificateRefused,
    )
    from kvclient.errors import (
        CertificateRequired as CertificateRequired,
    )
    from kvclient.errors import (
        ClientClosed as ClientClosed,
    )
    from kvclient.errors import (
        ClusterError as ClusterError,
    )
    from kvclient.errors import (
        ConditionFailed as ConditionFailed,
    )
    from kvclient.errors import (
        DeadlineExceeded as DeadlineExceeded,
    )
    from kvclient.errors import (
        DuplicateNode as DuplicateNode,
    )
    from kvclient.errors import (
        ForkedClient as ForkedClient,
    )
    from kvclient.errors import (
        KvError as KvError,
    )
    from kvclient.errors import (
        LockNotAcquired as LockNotAcquired,
    )
    from kvclient.errors import (
        NamespaceConfigured as NamespaceConfigured,
    )
    from kvclient.errors import (
        NamespaceExists as NamespaceExists,
    )
    from kvclient.errors import (
        NodeUnreachable as NodeUnreachable,
    )
    from kvclient.errors import (
        NotAllowed as NotAllowed,
    )
    from kvclient.errors import (
        NotOwner as NotOwner,
    )
    from kvclient.errors import (
        Overloaded as Overloaded,
    )
    from kvclient.errors import (
        QuorumUnreachable as QuorumUnreachable,
    )
    from kvclient.errors import (
        QuotaExceeded as QuotaExceeded,
    )
    from kvclient.errors import (
        RecordLost as RecordLost,
    )
    from kvclient.errors import (
        RetryWindowPassed as RetryWindowPassed,
    )
    from kvclient.errors import (
        SettingsMismatch as SettingsMismatch,
    )
    from kvclient.errors import (
        ShuttingDown as ShuttingDown,
    )
    from kvclient.errors import (
        SiblingsError as SiblingsError,
    )
    from kvclient.errors import (
        StorageError as StorageError,
    )
    from kvclient.errors import (
        StoreInUse as StoreInUse,
    )
    from kvclient.errors import (
        TlsError as TlsError,
    )
    from kvclient.errors import (
        TlsNotSpoken as TlsNotSpoken,
    )
    from kvclient.errors import (
        TlsRequired as TlsRequired,
    )
    from kvclient.errors import (
        TooLarge as TooLarge,
    )
    from kvclient.errors import (
        UnknownAuthority as UnknownAuthority,
    )
    from kvclient.errors import (
        UnknownNamespace as UnknownNamespace,
    )
    from kvclient.errors import (
        UnsupportedProtocol as UnsupportedProtocol,
    )
    from kvclient.errors import (
        UserError as UserError,
    )
    from kvclient.errors import (
        WrongCluster as WrongCluster,
    )
    from kvclient.errors import (
        WrongEpoch as WrongEpoch,
    )
    from kvclient.errors import (
        WrongHostName as WrongHostName,
    )
    from kvclient.errors import (
        WrongLoop as WrongLoop,
    )
    from kvclient.errors import (
        WrongMode as WrongMode,
    )
    from kvclient.levels import Bounded as Bounded
    from kvclient.levels import bounded as bounded
    from kvclient.stats import ClientStats as ClientStats
    from kvclient.values import Entry as Entry
    from kvclient.values import Incremented as Incremented
    from kvclient.values import PutResult as PutResult
    from kvproto.columns import Level as Level
    from kvproto.columns import Receipt as Receipt

__version__ = "0.1.0"

_HOMES = {
    "AsyncClient": "kvclient.async_client",
    "Bounded": "kvclient.levels",
    "Client": "kvclient.blocking",
    "ClientStats": "kvclient.stats",
    "Entry": "kvclient.values",
    "Incremented": "kvclient.values",
    "PutResult": "kvclient.values",
    "Level": "kvproto.columns",
    "Receipt": "kvproto.columns",
    "Tls": "kvclient.credentials",
    "bounded": "kvclient.levels",
}
_ERRORS = (
    ("AvailabilityError", "BadRequest", "BatchError", "BehindSession", "CertificateExpired", "CertificateRefused")
    + ("CertificateRequired", "ClientClosed", "ClusterError", "ConditionFailed", "DeadlineExceeded", "DuplicateNode")
    + ("ForkedClient", "KvError", "LockNotAcquired", "NamespaceConfigured", "NamespaceExists", "NodeUnreachable", "NotAllowed")
    + ("NotOwner", "Overloaded")
    + ("QuorumUnreachable", "QuotaExceeded", "RecordLost", "RetryWindowPassed", "SettingsMismatch", "ShuttingDown")
    + ("SiblingsError", "StorageError", "StoreInUse", "TlsError", "TlsNotSpoken", "TlsRequired", "TooLarge")
    + ("UnknownAuthority", "UnknownNamespace", "UnsupportedProtocol", "UserError", "WrongCluster", "WrongEpoch")
    + ("WrongHostName", "WrongLoop", "WrongMode")
)  # fmt: skip


def open(url: str = "", **options: Any) -> Client:  # noqa: A001 - kvclient.open reads as it should; nothing here opens a file
    """A blocking client of any URL; `options` are those of `Client`."""
    from kvclient.blocking import Client

    return Client(url, **options)


def open_async(url: str = "", **options: Any) -> AsyncClient:
    """An asyncio client of any URL; `options` are those of `AsyncClient`."""
    from kvclient.async_client import AsyncClient

    return AsyncClient(url, **options)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name) or ("kvclient.errors" if name in _ERRORS else "")
    if not home:
        raise AttributeError(f"module 'kvclient' has no attribute {name!r}")
    found = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*_HOMES, *_ERRORS, "__version__", "open", "open_async"])
