"""The version of the catalog that this node goes by: committed, durable here, and then installed; never an older one again.

`install` is called on the event loop in the order of the versions, each time with all that was durable before it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kvproto.errors import StorageError
from kvstore.core.catalog.catalog import Catalog
from kvstore.core.catalog.encoding import encode_catalog
from kvstore.crash_points import crash_point
from kvstore.storage.catalogs import CATALOG_KEY
from kvstore.storage.commit import Commit, Committer
from kvstore.telemetry import log

WRITING = crash_point("catalog.writing", "a committed version of the namespaces is being written here")
ADOPTED = crash_point("catalog.adopted", "a committed version is durable here, and this node goes by it")


class CatalogKeeper:
    """One node's. `current` is what it goes by, `data` the bytes of it; `conflicts` counts versions of one number that differ:
    there are none."""

    def __init__(self, me: str, committer: Committer, catalog: Catalog, install: Callable[[Catalog], None]) -> None:
        self._me = me
        self._committer = committer
        self._install = install
        self._writing = catalog
        self._written: asyncio.Future[StorageError | None] | None = None
        self.current = catalog
        self.data = encode_catalog(catalog)
        self.conflicts = 0

    async def adopt(self, catalog: Catalog) -> None:
        """Returns once this node goes by `catalog`, which is committed, or by a newer one. Raises `StorageError`."""
        if catalog.revision == self._writing.revision and catalog != self._writing:
            self.conflicts += 1
            log.error("catalogs_differ", node=self._me, revision=catalog.revision)
        if catalog.revision > self._writing.revision:
            self._write(catalog)
            await WRITING.passed()
        if catalog.revision > self.current.revision and self._written is not None:
            error = await asyncio.shield(self._written)
            if error is not None:
                raise error
            await ADOPTED.passed()

    def check(self) -> None:
        """Asserts the invariants; for tests and simulation."""
        assert not self.conflicts, "two catalogs of one version"
        assert self.current.revision <= self._writing.revision
        self.current.check()

    def _write(self, catalog: Catalog) -> None:
        self._writing = catalog
        written: asyncio.Future[StorageError | None] = asyncio.get_running_loop().create_future()
        self._written = written
        data = encode_catalog(catalog)

        def durable(error: StorageError | None) -> None:
            if error is None:
                self.current, self.data = catalog, data
                self._install(catalog)
                log.info("catalog", node=self._me, revision=catalog.revision, namespaces=len(catalog.live))
            if not written.done():
                written.set_result(error)

        self._committer.submit(Commit([(CATALOG_KEY, data)], len(CATALOG_KEY) + len(data), durable))
