"""Where to connect, as people write it: `host:port,host:port`,
`kv://user@host:port,host:port/namespace?level=quorum&timeout=2&hedge=false`, `kvs://…?ca=ca.pem&cert=me.pem&key=me.key` (TLS),
`embedded:/path`, `embedded::memory:NAME`. Pure: parses, opens nothing."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import parse_qsl, quote, unquote, urlencode

from kvclient.credentials import Tls
from kvclient.errors import BadRequest
from kvclient.levels import NO_CHOICE, Choice, choose

DEFAULT_ADDRESS = "127.0.0.1:7400"
DEFAULT_PORT = 7400

_EMBEDDED = "embedded:"
_SCHEME = "kv://"
_TLS_SCHEME = "kvs://"
_TLS_FILES = ("ca", "cert", "key")
_TLS_OPTIONS = ("tls", *_TLS_FILES, "server_name")
_OPTIONS = ("level", "bound_ms", "sloppy", "timeout", "hedge", *_TLS_OPTIONS)
_YES_NO = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(slots=True, frozen=True)
class Target:
    """A parsed URL. `embedded` is the whole URL when the store is to run inside this process, else ""."""

    addresses: tuple[str, ...] = ()
    embedded: str = ""
    namespace: str = "default"
    choice: Choice = NO_CHOICE
    timeout_s: float | None = None
    hedge: bool | None = None
    user: str = ""
    tls: Tls | None = None


def redacted(text: str) -> str:
    """`text` as it may be shown: without a password, and without the values of options that this module does not know."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        return text
    rest, question, query = rest.partition("?")
    user, at, hosts = rest.rpartition("@")
    name, colon, _ = user.partition(":")
    shown = [pair if pair.partition("=")[0] in _OPTIONS else f"{pair.partition('=')[0]}=***" for pair in query.split("&") if pair]
    return f"{scheme}://{name}{':***' if colon else ''}{at}{hosts}{question}{'&'.join(shown)}"


def parse_target(text: str) -> Target:
    """The target `text` names. Raises `BadRequest`, saying which part is wrong and never repeating a password."""
    if not isinstance(text, str):
        raise BadRequest(f"a target is text like 127.0.0.1:7400 or kv://host:port/namespace, not {text!r}", subject="target")
    if text.startswith(_EMBEDDED):
        if text == _EMBEDDED:
            raise BadRequest("an embedded store needs a path (embedded:/path) or a name (embedded::memory:NAME)", subject=text)
        return Target(embedded=text)
    if not text.startswith((_SCHEME, _TLS_SCHEME)):
        if "://" in text:
            raise BadRequest(
                f"{text.split('://', maxsplit=1)[0]}:// is not a scheme of this store: kv://, kvs:// and embedded: are",
                subject=text,
            )
        return Target(addresses=_addresses(text))
    scheme, _, rest = text.partition("://")
    rest, _, query = rest.partition("?")
    hosts, _, namespace = rest.partition("/")
    if "@" in namespace:
        raise BadRequest("a / in the user or password of a URL is written %2F", subject="target")
    user, _, hosts = hosts.rpartition("@")
    pairs = parse_qsl(query, keep_blank_values=True)
    options = dict(pairs)
    for name in options:
        if name not in _OPTIONS:
            near = _nearest(name, _OPTIONS) or f": there are {', '.join(_OPTIONS)}"
            raise BadRequest(f"unknown option {name!r} in the URL{near}", subject=name)
    if len(options) < len(pairs):
        raise BadRequest("an option is given twice in the URL", subject=next(name for name, _ in pairs))
    return Target(
        addresses=_addresses(hosts),
        namespace=unquote(namespace.strip("/")) or "default",
        choice=_choice(options),
        timeout_s=_timeout(options["timeout"]) if "timeout" in options else None,
        hedge=_yes_no("hedge", options["hedge"]) if "hedge" in options else None,
        user=unquote(user.partition(":")[0]),
        tls=_tls(options, always=scheme == "kvs"),
    )


def with_tls(text: str, *, ca: str | None = None, cert: str | None = None, key: str | None = None) -> str:
    """The URL that reaches the cluster of `text`, addresses or a URL, over TLS with these files; what it says itself stands."""
    rest = text.partition("://")[2] if "://" in text else text
    if text.startswith(_EMBEDDED):
        raise BadRequest("an embedded store has no connections: leave the TLS options away", subject=text)
    given = {name: path for name, path in (("ca", ca), ("cert", cert), ("key", key)) if path is not None}
    hosts, _, query = rest.partition("?")
    stated = dict(parse_qsl(query, keep_blank_values=True))
    options = urlencode({**given, **stated}, quote_via=quote)
    return f"{_TLS_SCHEME}{hosts}" + (f"?{options}" if options else "")


def _tls(options: dict[str, str], *, always: bool) -> Tls | None:
    """Whoever names a certificate means TLS: plain text would be a bad surprise."""
    means = always or any(name in options for name in _TLS_OPTIONS if name != "tls")
    wanted = _yes_no("tls", options["tls"]) if "tls" in options else means
    if not wanted:
        if means:
            raise BadRequest(f"tls={options['tls']} beside kvs:// or a certificate: say one of them", subject="tls")
        return None
    ca, cert, key = (options.get(name) or None for name in _TLS_FILES)
    return Tls(ca=ca, cert=cert, key=key, server_name=options.get("server_name", ""))


def _addresses(text: str) -> tuple[str, ...]:
    """The seeds of a comma-separated list, each with a port."""
    seeds = tuple(dict.fromkeys(_address(seed.strip()) for seed in text.split(",") if seed.strip()))
    return seeds or (DEFAULT_ADDRESS,)


def _address(seed: str) -> str:
    host, colon, port = seed.rpartition(":")
    if not colon or seed.endswith("]"):  # no port; an IPv6 address without one ends with its bracket
        return f"{seed}:{DEFAULT_PORT}"
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadRequest(f"{seed!r} is not HOST:PORT", subject=seed)
    return seed


def _choice(options: dict[str, str]) -> Choice:
    bound = options.get("bound_ms")
    if bound is not None and not bound.isdecimal():
        raise BadRequest(f"bound_ms={bound!r} is not a number of milliseconds", subject="bound_ms")
    sloppy = _yes_no("sloppy", options["sloppy"]) if "sloppy" in options else None
    return choose(options.get("level"), None if bound is None else int(bound), sloppy, NO_CHOICE)


def _timeout(text: str) -> float:
    number, unit = (text[:-2], 0.001) if text.endswith("ms") else (text.removesuffix("s"), 1.0)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 86_400:
        raise BadRequest(f"timeout={text!r} is not a number of seconds, like 2, 0.5s or 500ms", subject="timeout")
    return seconds


def _yes_no(name: str, text: str) -> bool:
    found = _YES_NO.get(text.lower())
    if found is None:
        raise BadRequest(f"{name}={text!r} is neither true nor false", subject=name)
    return found


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
