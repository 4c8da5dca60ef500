"""What callers give, checked before anything is sent: each mistake is a `BadRequest` that names it and the way out.

The usual types come first and cost a comparison. Parameters are `object`, since what is not what its annotation says is why these
functions exist. Limits that only the cluster knows (sizes, n) are checked by `namespace`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kvclient.contexts import KNOWS_NOTHING
from kvclient.errors import BadRequest

TIMEOUT_S_MAX = 86_400.0
AMOUNT_MAX = (1 << 63) - 1
TTL_S_MAX = 3_200_000_000.0
"""A hundred years, as in the nodes' configuration."""


def key_bytes(key: object) -> bytes:
    """A key as it is sent: UTF-8 of a str, bytes as they are."""
    if type(key) is bytes:
        return key
    if isinstance(key, str):
        try:
            return key.encode()
        except UnicodeEncodeError as error:
            raise BadRequest(f"the key {key!r} is no text: {error.reason}; give such a key as bytes", subject="key") from None
    if isinstance(key, bytes):
        return bytes(key)
    hint = f", here bytes({_name(key)}) or str({_name(key)})"
    raise BadRequest(f"a key is str or bytes, not {_kind(key)}: convert it{hint if key is not None else ''}", subject="key")


def many_keys(keys: Any) -> list[Any]:
    """The distinct keys of a *_many call, in order."""
    if isinstance(keys, str | bytes | bytearray):
        raise BadRequest("several keys are wanted: a list of keys, not one key; for one there is the method without _many")
    try:
        return list(dict.fromkeys(keys))
    except TypeError:
        raise BadRequest(f"several keys are wanted: a list of str or bytes, not {_kind(keys)} of what cannot be a key") from None


def many_items(items: object) -> tuple[list[Any], list[Any]]:
    """Keys and values of put_many."""
    if not isinstance(items, Mapping):
        raise BadRequest(f"items are wanted as a mapping of keys to values, not {_kind(items)}: dict(…) makes one of pairs")
    return list(items), list(items.values())


def value_bytes(value: object) -> bytes:
    """A value as it is sent. Only bytes: whatever could change while it is on its way has to be copied first."""
    if type(value) is bytes:
        return value
    if isinstance(value, bytes):
        return bytes(value)
    if value is None:
        raise BadRequest("a value is bytes, not None: delete(key) removes what a key holds", subject="value")
    way = "value.encode()" if isinstance(value, str) else "bytes(value)" if isinstance(value, bytearray | memoryview) else ""
    raise BadRequest(
        f"a value is bytes, not {_kind(value)}: {way or 'encode it'}{' makes it that' if way else ''}", subject="value"
    )


def element_bytes(element: object) -> bytes:
    """An element of a set as it is sent, like a key."""
    return _name_bytes(element, "element", "an")


def field_bytes(field: object) -> bytes:
    """The name of a map's field as it is sent, like a key; never empty."""
    name = _name_bytes(field, "field", "a")
    if not name:
        raise BadRequest("a field has a name of at least one byte", subject="field")
    return name


def amount(by: object) -> int:
    """What is added to a counter: a whole number of at most 63 bits and a sign."""
    if not isinstance(by, int) or isinstance(by, bool):
        raise BadRequest(f"a counter grows by a whole number, not {_kind(by)}", subject="by")
    if not -AMOUNT_MAX <= by <= AMOUNT_MAX:
        raise BadRequest(f"{by} is more than a counter holds: at most 63 bits and a sign", subject="by")
    return by


def _name_bytes(given: object, what: str, article: str) -> bytes:
    if not isinstance(given, str | bytes):
        raise BadRequest(f"{article} {what} is str or bytes, not {_kind(given)}", subject=what)
    try:
        return given.encode() if isinstance(given, str) else bytes(given)
    except UnicodeEncodeError as error:
        raise BadRequest(f"the {what} {given!r} is no text: {error.reason}; give it as bytes", subject=what) from None


def seconds(timeout_s: object, *, subject: str = "timeout_s") -> float:
    """A timeout: positive, at most a day."""
    if not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool):
        raise BadRequest(f"{subject} is a number of seconds, not {_kind(timeout_s)}", subject=subject)
    if not 0 < timeout_s <= TIMEOUT_S_MAX:
        raise BadRequest(
            f"{subject}={timeout_s} leaves no time, or more than a day: give between 0.001 and {TIMEOUT_S_MAX:.0f}", subject=subject
        )
    return timeout_s


def milliseconds_to_live(ttl_s: object) -> int:
    """A time to live; 0 is for ever, and at least one millisecond for any positive time, so that "soon" never becomes "never"."""
    if not isinstance(ttl_s, int | float) or isinstance(ttl_s, bool):
        raise BadRequest(f"ttl_s is a number of seconds, not {_kind(ttl_s)}", subject="ttl_s")
    if not 0 <= ttl_s <= TTL_S_MAX:
        raise BadRequest(
            f"ttl_s={ttl_s} is not between 0 and a hundred years: 0 never expires, None is the namespace's, delete(key) is for now",
            subject="ttl_s",
        )
    return max(1, round(ttl_s * 1000)) if ttl_s else 0


def context_token(context: object) -> bytes | None:
    """What to send for a context: None is for the client's memory to fill in, b"" says that nothing was read."""
    if context is None:
        return None
    if not isinstance(context, bytes):
        hint = ": give its .context" if hasattr(context, "context") else ""
        raise BadRequest(f"a context is the bytes that a get or put returned, not {_kind(context)}{hint}", subject="context")
    return context or KNOWS_NOTHING


def quorum(asked: object, *, name: str) -> int:
    """r or w as given; 0 leaves it to the level."""
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 0:
        raise BadRequest(f"{name}={asked!r} is no number of replicas: give 1 to n, or a level instead", subject=name)
    return asked


def namespace_name(name: object) -> str:
    """The name of a namespace."""
    if not isinstance(name, str) or not name:
        raise BadRequest(f"a namespace has a name, not {name!r}", subject="namespace")
    return name


def entries_max(limit: object) -> int:
    """How many entries a scan may have; 0: all."""
    if not isinstance(limit, int) or limit < 0:
        raise BadRequest(f"a scan cannot have {limit!r} entries; 0 is for all", subject="limit")
    return limit


def _kind(given: object) -> str:
    return "None" if given is None else type(given).__name__


def _name(given: object) -> str:
    return repr(given) if isinstance(given, int | float) else "key"
