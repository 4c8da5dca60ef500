"""What each fault of a link does to bytes, on the real Toxiproxy; its wedge, provoked on purpose, and the ways out of it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from kvchaos.faults.api import LinkProxy, ToxiproxyApi
from kvchaos.faults.expectations import expected_of
from kvchaos.faults.failures import EXIT_INCONCLUSIVE, InjectorFailure, InjectorWedged
from kvchaos.faults.link_state import OPEN, Direction, Kind, LinkState, cut, delayed, resetting, throttled, truncated
from kvchaos.faults.proxies import Proxies
from kvchaos.faults.verification import is_same
from tests.chaos.echo import LINK, Caller, Echo, calling, linked
from tests.commands.conftest import is_alive
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(60, func_only=True)

QUIET_S = 0.3
"""How long nothing has to come for it to count as nothing."""
RECOVERY_S = 15.0


@pytest.fixture
async def link(toxiproxy_server: Path, tmp_path: Path) -> AsyncIterator[tuple[Proxies, Echo]]:
    async with linked(toxiproxy_server, tmp_path / "toxiproxy.log") as pair:
        yield pair


@pytest.fixture
async def double(toxiproxy_server: Path, tmp_path: Path) -> AsyncIterator[tuple[Proxies, Echo]]:
    """A link with a second proxy, for frames."""
    async with linked(toxiproxy_server, tmp_path / "toxiproxy.log", frames=True) as pair:
        yield pair


def listen(proxies: Proxies) -> str:
    return proxies.routes[LINK].listen


def listen_for_frames(proxies: Proxies) -> str:
    frames = proxies.routes[LINK].frames
    assert frames is not None
    return frames.listen


@asynccontextmanager
async def calling_both(proxies: Proxies) -> AsyncIterator[tuple[Caller, Caller]]:
    """A connection through each proxy of the link, over which something has gone."""
    async with calling(listen(proxies)) as first, calling(listen_for_frames(proxies)) as second:
        for caller in (first, second):
            caller.send(b"before")
            assert await caller.hear(6) == b"before"
        yield first, second


async def test_what_was_told_to_the_server_is_what_it_says(link: tuple[Proxies, Echo]) -> None:
    proxies, _ = link
    state = throttled(delayed(cut(OPEN, Kind.STALL, Direction.REQUESTS), 30), 500)
    await proxies.change({LINK: state})
    found = (await proxies.found())[LINK]
    assert is_same(found, state) and not is_same(found, OPEN) and not is_same(found, delayed(state, 31))
    await proxies.change({LINK: delayed(state, 31)})
    assert is_same((await proxies.found())[LINK], delayed(state, 31)), "a toxic that is there is changed in its place"
    await proxies.change({LINK: OPEN})
    assert is_same((await proxies.found())[LINK], OPEN)


async def test_a_refused_link_ends_connections_and_accepts_none(link: tuple[Proxies, Echo]) -> None:
    proxies, _ = link
    async with calling(listen(proxies)) as caller:
        caller.send(b"x")
        assert await caller.hear(1) == b"x"
        await proxies.change({LINK: cut(OPEN, Kind.REFUSE, Direction.BOTH)})
        assert await caller.is_ended()
    with pytest.raises(ConnectionRefusedError):
        async with calling(listen(proxies)):
            pass
    await proxies.change({LINK: OPEN})
    async with calling(listen(proxies)) as caller:
        caller.send(b"y")
        assert await caller.hear(1) == b"y"


async def test_requests_are_lost_on_an_open_connection_which_ends_when_the_link_is_healed(link: tuple[Proxies, Echo]) -> None:
    proxies, echo = link
    async with calling(listen(proxies)) as caller:
        caller.send(b"before")
        await caller.hear(6)
        await proxies.change({LINK: cut(OPEN, Kind.BLACKHOLE, Direction.REQUESTS)})
        caller.send(b"lost")
        with pytest.raises(TimeoutError):
            await caller.hear(1, timeout_s=QUIET_S)
        await proxies.change({LINK: OPEN})
        assert await caller.is_ended()
    assert bytes(echo.got) == b"before"


async def test_responses_are_lost_though_the_request_arrived(link: tuple[Proxies, Echo]) -> None:
    proxies, echo = link
    await proxies.change({LINK: cut(OPEN, Kind.BLACKHOLE, Direction.RESPONSES)})
    async with calling(listen(proxies)) as caller:
        caller.send(b"applied")
        await until(lambda: bytes(echo.got) == b"applied")
        with pytest.raises(TimeoutError):
            await caller.hear(1, timeout_s=QUIET_S)


async def test_a_stalled_request_arrives_late_and_is_answered_on_the_same_connection(link: tuple[Proxies, Echo]) -> None:
    proxies, echo = link
    async with calling(listen(proxies)) as caller:
        await proxies.change({LINK: cut(OPEN, Kind.STALL, Direction.BOTH)})
        caller.send(b"late")
        with pytest.raises(TimeoutError):
            await caller.hear(1, timeout_s=QUIET_S)
        assert not echo.got
        await proxies.change({LINK: OPEN})
        assert await caller.hear(4) == b"late"


async def test_a_delay_counts_each_way_and_a_throttle_lets_so_much_through(link: tuple[Proxies, Echo]) -> None:
    proxies, _ = link
    loop = asyncio.get_running_loop()

    async def takes_s(data: bytes) -> float:
        async with calling(listen(proxies)) as caller:
            began_s = loop.time()
            caller.send(data)
            await caller.hear(len(data))
            return loop.time() - began_s

    await proxies.change({LINK: delayed(OPEN, 100)})
    assert await takes_s(b"x") >= 0.2
    await proxies.change({LINK: throttled(OPEN, 100)})
    assert await takes_s(bytes(40_000)) >= 0.3


@pytest.mark.parametrize(
    "break_it",
    [resetting, lambda state: truncated(state, 100, Direction.RESPONSES), lambda state: truncated(state, 100, Direction.REQUESTS)],
)
async def test_connections_break_once_something_or_too_much_is_sent(
    link: tuple[Proxies, Echo], break_it: Callable[[LinkState], LinkState]
) -> None:
    proxies, _ = link
    await proxies.change({LINK: break_it(OPEN)})
    async with calling(listen(proxies)) as caller:
        caller.send(bytes(200))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await caller.hear(200)


# --- the two proxies of a link between nodes


@pytest.mark.parametrize(
    "state",
    [
        cut(OPEN, Kind.REFUSE, Direction.BOTH),
        cut(OPEN, Kind.BLACKHOLE, Direction.REQUESTS),
        cut(OPEN, Kind.STALL, Direction.BOTH),
        throttled(delayed(OPEN, 30), 500),
        resetting(OPEN),
        truncated(OPEN, 100, Direction.RESPONSES),
    ],
    ids=lambda state: expected_of(state).sentence(),
)
async def test_both_proxies_of_a_link_get_its_state_and_lose_it(double: tuple[Proxies, Echo], state: LinkState) -> None:
    proxies, _ = double
    for ordered in (state, OPEN):
        await proxies.change({LINK: ordered})
        for name in ("a->b", "a->b frames"):
            assert is_same(await found_at(proxies, name), ordered), name
        assert is_same((await proxies.found())[LINK], ordered)


async def test_a_link_that_is_refused_has_no_connection_left_at_either_proxy(double: tuple[Proxies, Echo]) -> None:
    proxies, _ = double
    async with calling_both(proxies) as callers:
        await proxies.change({LINK: cut(OPEN, Kind.REFUSE, Direction.BOTH)})
        assert all([await caller.is_ended() for caller in callers])
    for where in (listen(proxies), listen_for_frames(proxies)):
        with pytest.raises(ConnectionRefusedError):
            async with calling(where):
                pass
    await proxies.change({LINK: OPEN})
    async with calling_both(proxies):
        pass


async def test_what_is_sent_over_either_proxy_of_a_stalled_link_arrives_late(double: tuple[Proxies, Echo]) -> None:
    proxies, _ = double
    async with calling_both(proxies) as callers:
        await proxies.change({LINK: cut(OPEN, Kind.STALL, Direction.BOTH)})
        for caller in callers:
            caller.send(b"late")
            with pytest.raises(TimeoutError):
                await caller.hear(1, timeout_s=QUIET_S)
        await proxies.change({LINK: OPEN})
        assert [await caller.hear(4) for caller in callers] == [b"late", b"late"]


@pytest.mark.parametrize("name", ["a->b", "a->b frames"])
async def test_a_proxy_that_is_not_as_the_other_one_of_its_link_is_an_injector_failure(
    double: tuple[Proxies, Echo], name: str
) -> None:
    proxies, _ = double
    await proxies.change({LINK: cut(OPEN, Kind.BLACKHOLE, Direction.BOTH)})
    behind_its_back = await asked(proxies, name)
    await asyncio.to_thread(behind_its_back.destroy_toxic, "hole_upstream")
    with pytest.raises(InjectorFailure, match=r"differ: a->b: the server has .*; a->b frames: the server has "):
        await proxies.found()
    await asyncio.to_thread(behind_its_back.destroy)
    with pytest.raises(InjectorFailure, match=f"^toxiproxy has no proxy {name}$"):
        await proxies.found()


async def test_a_wedge_of_the_proxy_for_frames_alone_is_told_and_ends_with_both_open(double: tuple[Proxies, Echo]) -> None:
    proxies, echo = double
    echo.reads.clear()
    async with calling(listen_for_frames(proxies)) as caller:
        await caller.push_until_stuck()
        with pytest.raises(InjectorWedged, match="a->b frames: add"):
            await proxies.change({LINK: cut(OPEN, Kind.BLACKHOLE, Direction.BOTH)})
        await proxies.recover()
    echo.reads.set()
    assert is_same((await proxies.found())[LINK], OPEN)
    async with calling_both(proxies):
        pass


async def asked(proxies: Proxies, name: str) -> LinkProxy:
    """The proxy of that name as somebody else would get it: by the server's API."""
    assert proxies._api is not None
    proxy = await asyncio.to_thread(proxies._api.get_proxy, name)
    assert proxy is not None, name
    return proxy


async def found_at(proxies: Proxies, name: str) -> LinkState:
    proxy = await asked(proxies, name)
    return LinkState(proxy.enabled, tuple((await asyncio.to_thread(proxy.toxics)).values()))


# --- the wedge


async def test_a_fault_on_a_link_whose_receiver_stands_still_wedges_the_server_which_is_replaced_in_time(
    link: tuple[Proxies, Echo],
) -> None:
    """The receiver reads nothing and every buffer is full: 2.12 takes no toxic on such a link, none off it, and never answers."""
    proxies, echo = link
    echo.reads.clear()
    loop = asyncio.get_running_loop()
    async with calling(listen(proxies)) as caller:
        await caller.push_until_stuck()
        began_s = loop.time()
        with pytest.raises(InjectorWedged, match="a->b: add"):
            await proxies.change({LINK: cut(OPEN, Kind.BLACKHOLE, Direction.BOTH)})
        await proxies.recover()
        assert loop.time() - began_s < RECOVERY_S
    echo.reads.set()
    assert is_same((await proxies.found())[LINK], OPEN)
    async with calling(listen(proxies)) as caller:
        caller.send(b"z")
        assert await caller.hear(1) == b"z", "the same port leads to the same place"
    assert issubclass(InjectorWedged, InjectorFailure) and InjectorWedged.exit_code == EXIT_INCONCLUSIVE


async def test_where_it_is_known_that_a_receiver_stands_still_faults_come_and_go_without_a_wedge(
    link: tuple[Proxies, Echo],
) -> None:
    proxies, echo = link
    echo.reads.clear()
    async with calling(listen(proxies)) as caller:
        await caller.push_until_stuck()
        await proxies.change({LINK: delayed(OPEN, 50)}, stalled=[LINK])
        async with calling(listen(proxies)) as second:
            await second.push_until_stuck()
            await proxies.change({LINK: OPEN}, stalled=[LINK])
    assert is_same((await proxies.found())[LINK], OPEN) and proxies.restarts == 0


# --- the server and its API


async def test_errors_of_the_server_name_the_call_and_what_it_said(link: tuple[Proxies, Echo]) -> None:
    proxies, echo = link
    assert proxies._api is not None
    api = proxies._api

    def misuse() -> None:
        with pytest.raises(InjectorFailure, match="409"):
            api.create(echo.address, "a->b")
        with pytest.raises(InjectorFailure, match=r"500.*in use"):
            api.create(echo.address, "other", listen(proxies))
        proxy = api.get_proxy("a->b")
        assert proxy is not None
        with pytest.raises(InjectorFailure, match="400"):
            proxy.add_toxic(type="gremlin")
        assert proxy.destroy_toxic("never there") and api.get_proxy("never/there") is None
        assert list(api.proxies()) == ["a->b"] and api.running() and api.reset()

    await asyncio.to_thread(misuse)


async def test_two_servers_are_two_servers(toxiproxy_server: Path, tmp_path: Path) -> None:
    """toxiproxy-python alone has one server for the whole process."""
    async with (
        linked(toxiproxy_server, tmp_path / "one.log") as (one, _),
        linked(toxiproxy_server, tmp_path / "two.log") as (two, _),
    ):
        await one.change({LINK: cut(OPEN, Kind.REFUSE, Direction.BOTH)})
        assert not (await one.found())[LINK].enabled and (await two.found())[LINK].enabled


def test_nobody_there_is_a_failure_and_no_wedge() -> None:
    api = ToxiproxyApi("127.0.0.1:1")
    with pytest.raises(InjectorFailure, match="cannot be reached") as caught:
        api.version()
    assert not isinstance(caught.value, InjectorWedged) and not api.running()
    api.close()


OWNER = """
import asyncio, sys
from pathlib import Path
from kvchaos.faults.server import ToxiproxyServer

async def main():
    server = ToxiproxyServer(Path(sys.argv[1]), Path(sys.argv[2]))
    await server.start()
    print(server.address, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_the_server_ends_with_a_run_that_is_killed(
    toxiproxy_server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(toxiproxy_server), str(tmp_path / "log")), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    api = ToxiproxyApi((await owner.stdout.readline()).decode().strip())
    assert await asyncio.to_thread(api.running) and is_alive(owner.pid)
    owner.kill()
    await owner.wait()
    await until(lambda: not api.running())
    api.close()
