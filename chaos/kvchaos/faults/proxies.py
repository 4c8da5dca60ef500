"""The proxies of one cluster and what is done to them; off the event loop, and back in order when wedged.

A directed link has a proxy, and where nodes of ours also send each other frames, another one for their connection. It is still one
link: what is done to it is done to both.

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
    """Where a link's proxy listens and where it leads. `frames`: the same of the proxy for frames, where the link has one."""

    listen: str
    upstream: str
    frames: Route | None = None

    def named(self, link: Link) -> dict[str, Route]:
        """Every proxy of `link`, whose route this is, by its name at the server. That of frames is first, also to be changed:
        whoever reaches a node over gRPC again finds its frames, and need not do without them for a while."""
        return {str(link): self} if self.frames is None else {f"{link} frames": self.frames, str(link): self}


class Proxies:
    """Links through one Toxiproxy server, an async context manager. Not for several tasks at once."""

    def __init__(self, binary: Path, routes: Mapping[Link, Route], *, log: Path) -> None:
        self.routes = dict(routes)
        self.states = dict.fromkeys(routes, OPEN)
        self.restarts = 0
        self._server = ToxiproxyServer(binary, log)
        self._api: ToxiproxyApi | None = None
        self._proxies: dict[Link, dict[str, LinkProxy]] = {}
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
        """What the server says of each link, its toxics in the order of their names. Raises `InjectorWedged`, and `InjectorFailure`
        for a proxy that is not there or not as the other one of its link."""
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
        self._proxies = await self._do(lambda: {link: self._made(link) for link in self.routes})

    async def _end(self) -> None:
        await self._server.stop()
        self._thread.shutdown(wait=True)
        if self._api is not None:
            self._api.close()

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # --- on the thread

    def _made(self, link: Link) -> dict[str, LinkProxy]:
        assert self._api is not None
        return {name: self._api.create(at.upstream, name, at.listen) for name, at in self.routes[link].named(link).items()}

    def _change(self, wanted: Mapping[Link, LinkState], stalled: Collection[Link]) -> None:
        for link, state in wanted.items():
            steps = plan_change(self.states[link], state, stalled=link in stalled)
            for name, proxy in self._proxies[link].items():
                for step in steps:
                    try:
                        _take(proxy, step)
                    except InjectorWedged as error:
                        raise InjectorWedged(f"{name}: {step.verb}: {error}") from error
                    except InjectorFailure as error:
                        raise InjectorFailure(f"{name}: {step.verb}: {error}") from error
            self.states[link] = state

    def _found(self, link: Link) -> LinkState:
        found = {name: self._found_at(name, at) for name, at in self.routes[link].named(link).items()}
        state, *others = found.values()
        if any(other != state for other in others):
            differing = "; ".join(f"{name}: the server has {one}" for name, one in sorted(found.items()))
            raise InjectorFailure(f"the proxies of one link differ: {differing}")
        return state

    def _found_at(self, name: str, at: Route) -> LinkState:
        assert self._api is not None
        proxy = self._api.get_proxy(name)
        if proxy is None:
            raise InjectorFailure(f"toxiproxy has no proxy {name}")
        if (proxy.listen, proxy.upstream) != (at.listen, at.upstream):
            raise InjectorFailure(f"{name} goes from {proxy.listen} to {proxy.upstream}, not where it was told to")
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
