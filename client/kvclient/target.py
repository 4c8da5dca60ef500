"""Where to connect, as people write it: `host:port,host:port`, `kv://user@host:port,host:port/namespace?level=quorum&timeout=2`,
`embedded:/path`, `embedded::memory:NAME`. Pure: parses, opens nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from urllib.parse import parse_qsl, unquote

from kvclient.errors import BadRequest
from kvproto.columns import Level

DEFAULT_ADDRESS = "127.0.0.1:7400"
DEFAULT_PORT = 7400
LEVELS = {"preset": Level.PRESET, "one": Level.ONE, "quorum": Level.QUORUM, "all": Level.ALL}

_EMBEDDED = "embedded:"
_SCHEME = "kv://"
_OPTIONS = ("level", "timeout")


@dataclass(slots=True, frozen=True)
class Target:
    """A parsed URL. `embedded` is the whole URL when the store is to run inside this process, else ""."""

    addresses: tuple[str, ...] = ()
    embedded: str = ""
    namespace: str = "default"
    level: Level = Level.PRESET
    timeout_s: float | None = None
    user: str = ""


def parse_level(level: Level | str | None) -> Level:
    """The level a caller named. Raises `BadRequest` with the nearest name."""
    if level is None:
        return Level.PRESET
    if isinstance(level, Level):
        return level
    found = LEVELS.get(level)
    if found is None:
        raise BadRequest(f"level {level!r} is none of {', '.join(LEVELS)}{_nearest(level, tuple(LEVELS))}", subject="level")
    return found


def parse_target(text: str) -> Target:
    """The target `text` names. Raises `BadRequest`, saying which part is wrong."""
    if text.startswith(_EMBEDDED):
        if text == _EMBEDDED:
            raise BadRequest("an embedded store needs a path (embedded:/path) or a name (embedded::memory:NAME)", subject=text)
        return Target(embedded=text)
    if not text.startswith(_SCHEME):
        if "://" in text:
            raise BadRequest(
                f"{text.split('://', maxsplit=1)[0]}:// is not a scheme of this store: kv:// and embedded: are", subject=text
            )
        return Target(addresses=_addresses(text))
    rest, _, query = text[len(_SCHEME) :].partition("?")
    hosts, _, namespace = rest.partition("/")
    user, _, hosts = hosts.rpartition("@")
    options = dict(parse_qsl(query, keep_blank_values=True))
    for name in options:
        if name not in _OPTIONS:
            raise BadRequest(f"unknown option {name!r} in the URL{_nearest(name, _OPTIONS)}", subject=name)
    return Target(
        addresses=_addresses(hosts),
        namespace=unquote(namespace.strip("/")) or "default",
        level=parse_level(options.get("level")),
        timeout_s=_timeout(options["timeout"]) if "timeout" in options else None,
        user=unquote(user.partition(":")[0]),
    )


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


def _timeout(text: str) -> float:
    try:
        seconds = float(text.removesuffix("s"))
    except ValueError:
        seconds = -1.0
    if not 0 < seconds < 86_400:
        raise BadRequest(f"timeout={text!r} is not a number of seconds", subject="timeout")
    return seconds


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
