"""The proxies of one cluster, each a directed link, and what is done to them; off the event loop, and back in order when wedged.

A server that does not answer is killed and started again with the same proxies at the same ports, all open (`recover`): that closes
every connection, so whoever was injecting a fault has failed, and whoever was healing has what he wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from kvchaos.faults.api import LinkProxy, ToxiproxyApi
from kvchaos.faults.failures import InjectorFailure, InjectorWedged
from kvchaos.faults.link_state import OPEN, Link, LinkState, Step, plan_change
from kvchaos.faults.server import ToxiproxyServer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Route:
    """Where a link's proxy listens and where it leads."""

    listen: str
    upstream: str


class Proxies:
    """Links through one Toxiproxy server, an async context manager. Not for several tasks at once."""

    def __init__(self, binary: Path, routes: Mapping[Link, Route], *, log: Path) -> None:
        self.routes = dict(routes)
        self.states = dict.fromkeys(routes, OPEN)
        self.restarts = 0
        self._server = ToxiproxyServer(binary, log)
        self._api: ToxiproxyApi | None = None
        self._proxies: dict[Link, LinkProxy] = {}
        # One thread: the server takes its calls one after the other anyway, and a session belongs to one thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="toxiproxy")

    async def __aenter__(self) -> Proxies:
        try:
            await self._server.start()
            await self._create()
        except BaseException:
            await self._end()
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._end()

    def require(self, wanted: Mapping[Link, LinkState]) -> None:
        """It can do everything that a link's state can say."""

    async def change(self, wanted: Mapping[Link, LinkState], *, stalled: Collection[Link] = ()) -> None:
        """Brings each link to its state; `stalled`: their receivers may not read. Raises `InjectorWedged`, `InjectorFailure`."""
        await self._do(lambda: self._change(wanted, stalled))

    async def found(self) -> dict[Link, LinkState]:
        """What the server says of each link, its toxics in the order of their names."""
        return await self._do(lambda: {link: self._found(link) for link in self.routes})

    async def recover(self) -> None:
        """A new server in place of one that does not answer, every link open. Raises `InjectorFailure` when that fails too."""
        await self._server.stop()
        self.restarts += 1
        self.states = dict.fromkeys(self.routes, OPEN)
        await self._server.start()
        await self._create()

    async def _create(self) -> None:
        old, self._api = self._api, ToxiproxyApi(self._server.address)
        if old is not None:
            old.close()
        api = self._api
        await self._do(
            lambda: self._proxies.update({link: api.create(at.upstream, str(link), at.listen) for link, at in self.routes.items()})
        )

    async def _end(self) -> None:
        await self._server.stop()
        self._thread.shutdown(wait=True)
        if self._api is not None:
            self._api.close()

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- on the thread

    def _change(self, wanted: Mapping[Link, LinkState], stalled: Collection[Link]) -> None:
        for link, state in wanted.items():
            for step in plan_change(self.states[link], state, stalled=link in stalled):
                try:
                    _take(self._proxies[link], step)
                except InjectorWedged as error:
                    raise InjectorWedged(f"{link}: {step.verb}: {error}") from error
                except InjectorFailure as error:
                    raise InjectorFailure(f"{link}: {step.verb}: {error}") from error
            self.states[link] = state

    def _found(self, link: Link) -> LinkState:
        assert self._api is not None
        proxy = self._api.get_proxy(str(link))
        if proxy is None:
            raise InjectorFailure(f"toxiproxy has no proxy {link}")
        if (proxy.listen, proxy.upstream) != (self.routes[link].listen, self.routes[link].upstream):
            raise InjectorFailure(f"{link} goes from {proxy.listen} to {proxy.upstream}, not where it was told to")
        return LinkState(proxy.enabled, tuple(sorted(proxy.toxics().values(), key=lambda toxic: toxic.name)))


def _take(proxy: LinkProxy, step: Step) -> None:
    toxic = step.toxic
    if step.verb == "enable":
        proxy.enable()
    elif step.verb == "disable":
        proxy.disable()
    elif toxic is not None and step.verb == "remove":
        proxy.destroy_toxic(toxic.name)
    elif toxic is not None and step.verb == "change":
        proxy.change_toxic(toxic.name, toxic.attributes)
    elif toxic is not None:
        proxy.add_toxic(name=toxic.name, type=toxic.type, stream=toxic.stream, attributes=dict(toxic.attributes))
