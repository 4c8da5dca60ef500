"""Where to connect, as people write it."""

from __future__ import annotations

import pytest

from kvclient import AsyncClient, AvailabilityError, Client
from kvclient.credentials import Tls
from kvclient.errors import BadRequest
from kvclient.levels import Choice, bounded, choose, parse_level
from kvclient.target import DEFAULT_ADDRESS, Target, parse_target, redacted, with_tls
from kvproto.columns import Level, Sloppy

QUORUM = Choice(Level.QUORUM)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("", Target((DEFAULT_ADDRESS,))),
        ("127.0.0.1:7400,127.0.0.1:7410", Target(("127.0.0.1:7400", "127.0.0.1:7410"))),
        ("a, b:1 ,a", Target(("a:7400", "b:1"))),
        ("[::1]:7410,[::1]", Target(("[::1]:7410", "[::1]:7400"))),
        ("kv://h:1", Target(("h:1",))),
        ("kv://h:1,g:2/users", Target(("h:1", "g:2"), namespace="users")),
        ("kv://me@h:1/users?level=quorum", Target(("h:1",), namespace="users", choice=QUORUM, user="me")),
        ("kv://me:secret@h/", Target(("h:7400",), user="me")),
        ("kv://h?timeout=1.5", Target(("h:7400",), timeout_s=1.5)),
        ("kv://h?timeout=2s&level=one", Target(("h:7400",), timeout_s=2.0, choice=Choice(Level.ONE))),
        ("kv://h?timeout=500ms&hedge=false", Target(("h:7400",), timeout_s=0.5, hedge=False)),
        ("kv://h?level=bounded&bound_ms=50", Target(("h:7400",), choice=Choice(Level.BOUNDED, 50))),
        ("kv://h?level=zone_quorum&sloppy=no", Target(("h:7400",), choice=Choice(Level.ZONE_QUORUM, 0, Sloppy.NO))),
        ("kv://h?sloppy=yes", Target(("h:7400",), choice=Choice(sloppy=Sloppy.YES))),
        ("kv://h?hedge=1", Target(("h:7400",), hedge=True)),
        ("kv://h?level=QUORUM", Target(("h:7400",), choice=QUORUM)),
        ("kv://h/a%20b", Target(("h:7400",), namespace="a b")),
        ("embedded:/var/kv", Target(embedded="embedded:/var/kv")),
        ("embedded::memory:x", Target(embedded="embedded::memory:x")),
    ],
)
def test_a_target_is_read(text: str, target: Target) -> None:
    assert parse_target(text) == target


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("http://h:1", "not a scheme"),
        ("h:port", "not HOST:PORT"),
        ("h:99999", "not HOST:PORT"),
        (":7400", "not HOST:PORT"),
        ("kv://h?levle=one", "did you mean 'level'"),
        ("kv://h?level=quorom", "did you mean 'quorum'"),
        ("kv://h?timeout=soon", "not a number of seconds"),
        ("kv://h?timeout=0", "not a number of seconds"),
        ("kv://h?timeout=nan", "not a number of seconds"),
        ("kv://h?hedge=maybe", "neither true nor false"),
        ("kv://h?consistency=one", "there are level, bound_ms, sloppy, timeout, hedge"),
        ("kv://h?level=one&level=all", "given twice"),
        ("kv://h?level=bounded", "needs a bound"),
        ("kv://h?level=timeline&bound_ms=5", "goes with level bounded"),
        ("kv://h?bound_ms=soon", "not a number of milliseconds"),
        ("kv://h?sloppy=perhaps", "neither true nor false"),
        ("kv://me:sec/ret@h/ns", "written %2F"),
        ("embedded:", "needs a path"),
    ],
)
def test_a_wrong_target_is_refused_with_the_reason(text: str, complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        parse_target(text)


def test_levels_have_names_and_the_preset_is_the_default() -> None:
    assert [parse_level(name) for name in (None, "preset", "one", "quorum", "all", Level.ALL)] == [
        Level.PRESET,
        Level.PRESET,
        Level.ONE,
        Level.QUORUM,
        Level.ALL,
        Level.ALL,
    ]


def test_every_level_but_that_of_r_and_w_has_a_name() -> None:
    assert [parse_level(level.name.lower()) for level in Level if level is not Level.EXPLICIT] == [*Level][:4] + [*Level][5:]
    assert parse_level("zone-quorum") is Level.ZONE_QUORUM


def test_a_bound_goes_with_level_bounded_and_alone_means_it() -> None:
    default = Choice(Level.QUORUM, 0, Sloppy.NO)
    wanted = Choice(Level.BOUNDED, 50, Sloppy.NO)
    assert [choose(level, bound, None, default) for level, bound in (("bounded", 50), (None, 50), (bounded(50), None))] == [
        wanted
    ] * 3
    assert choose(Level.BOUNDED, None, None, wanted) == wanted, "the default's bound"
    assert choose(None, None, True, default) == Choice(Level.QUORUM, 0, Sloppy.YES)
    for level, bound in (("bounded", None), ("one", 50), (bounded(50), 60), (None, 0), (None, -1), (None, 1.5), (None, True)):
        with pytest.raises(BadRequest):
            choose(level, bound, None, default)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="sloppy"):
        choose(None, None, 1, default)  # type: ignore[arg-type]


def test_what_only_reads_have_is_no_default_of_writes() -> None:
    assert Choice(Level.BOUNDED, 50, Sloppy.NO).for_writes() == Choice(Level.PRESET, 0, Sloppy.NO)
    assert Choice(Level.LINEARIZABLE).for_writes() == Choice(Level.LINEARIZABLE)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("127.0.0.1:7400", "127.0.0.1:7400"),
        ("kv://h:1/users?level=one", "kv://h:1/users?level=one"),
        ("kv://me@h:1", "kv://me@h:1"),
        ("kv://me:s3cret@h:1/users?level=one&token=s3cret", "kv://me:***@h:1/users?level=one&token=***"),
        ("kv://me:s3@cret@h", "kv://me:***@h"),
        ("embedded:/var/kv", "embedded:/var/kv"),
    ],
)
def test_what_is_shown_of_a_target_holds_no_secret(text: str, shown: str) -> None:
    assert redacted(text) == shown


async def test_neither_a_client_nor_its_errors_show_a_password() -> None:
    url = "kv://me:s3cret@127.0.0.1:1/users?timeout=0.2"
    client = AsyncClient(url)
    assert "s3cret" not in repr(client) and "me:***@127.0.0.1:1" in repr(client)
    with pytest.raises(AvailabilityError) as raised:
        await client.get("k")
    assert "s3cret" not in f"{raised.value!r} {raised.value.subject}"
    with pytest.raises(BadRequest) as refused:
        parse_target("kv://me:s3/cret@h")
    assert "cret" not in f"{refused.value!r} {refused.value.subject}"
    blocking = Client(url)
    assert repr(blocking) == repr(client).replace("AsyncClient", "Client")
    blocking.close()


def test_tls_is_part_of_the_url() -> None:
    assert parse_target("kv://h:1").tls is None and parse_target("h:1").tls is None
    assert parse_target("kvs://h:1").tls == Tls()
    assert parse_target("kv://h:1?tls=1").tls == Tls()
    assert parse_target("kv://h:1?tls=0").tls is None
    everything = "kvs://a:1,b:2/orders?level=all&ca=ca.pem&cert=c%20d.pem&key=k.key&server_name=kv"
    parsed = parse_target(everything)
    assert parsed.tls == Tls(ca="ca.pem", cert="c d.pem", key="k.key", server_name="kv")
    assert (parsed.addresses, parsed.namespace) == (("a:1", "b:2"), "orders")


def test_whoever_names_a_certificate_means_tls() -> None:
    assert parse_target("kv://h:1?ca=ca.pem").tls == Tls(ca="ca.pem")
    for contradiction in ("kvs://h:1?tls=0", "kv://h:1?tls=0&ca=ca.pem"):
        with pytest.raises(BadRequest, match="tls=0"):
            parse_target(contradiction)
    with pytest.raises(BadRequest, match="neither true nor false"):
        parse_target("kv://h:1?tls=maybe")
    with pytest.raises(BadRequest, match="cert and key belong together"):
        parse_target("kvs://h:1?cert=c.pem")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:1,b:2", "kvs://a:1,b:2?ca=my%20ca.pem"),
        ("kv://u@a:1/orders?level=all", "kvs://u@a:1/orders?ca=my%20ca.pem&level=all"),
        ("kvs://a:1?ca=other.pem", "kvs://a:1?ca=other.pem"),
    ],
)
def test_files_given_beside_an_address_become_part_of_it_and_what_it_says_itself_stands(text: str, expected: str) -> None:
    assert with_tls(text, ca="my ca.pem") == expected
    assert parse_target(expected).tls is not None


def test_an_embedded_store_has_no_tls() -> None:
    with pytest.raises(BadRequest, match="no connections"):
        with_tls("embedded:/path", ca="ca.pem")
