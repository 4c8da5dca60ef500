"""A small reader of EDN for the tests: what github.com/edn-format/edn says of nil, truth, numbers, strings, keywords, vectors,
maps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

_TOKEN = re.compile(
    r"""[\s,]*(?:
    (?P<open>[\[{]) | (?P<close>[\]}])
    | "(?P<string>(?:[^"\\]|\\.)*)"
    | :(?P<keyword>[A-Za-z*!_?$%&=<>.+-][A-Za-z0-9*!_?$%&=<>.+#'/-]*)
    | (?P<number>[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?N?)(?=[\s,\]}]|$)
    | (?P<special>\#\#(?:Inf|-Inf|NaN))
    | (?P<word>nil|true|false)(?=[\s,\]}]|$)
    )""",
    re.VERBOSE | re.DOTALL,
)
_SPECIAL = {"##Inf": float("inf"), "##-Inf": float("-inf"), "##NaN": float("nan")}
_ESCAPE = re.compile(r'\\(u[0-9a-fA-F]{4}|[trn"\\])')
_MEANT = {"t": "\t", "r": "\r", "n": "\n", '"': '"', "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Keyword:
    """`:name`."""

    name: str


def read_edn(text: str) -> Any:
    """The one form in `text`; raises `ValueError` for anything that EDN does not allow."""
    value, at = _read(text, 0)
    if text[at:].strip():
        raise ValueError(f"more than one form: {text[at:]!r}")
    return value


def _read(text: str, at: int) -> tuple[Any, int]:
    found = _TOKEN.match(text, at)
    if found is None:
        raise ValueError(f"no EDN: {text[at : at + 40]!r}")
    at = found.end()
    if found["open"]:
        return _collection(text, at, found["open"])
    if found["close"]:
        raise ValueError(f"{found['close']} without its opening")
    if found["string"] is not None:
        return _string(found["string"]), at
    if found["keyword"]:
        return Keyword(found["keyword"]), at
    if found["number"]:
        return _number(found["number"]), at
    if found["special"]:
        return _SPECIAL[found["special"]], at
    return {"nil": None, "true": True, "false": False}[found["word"]], at


def _collection(text: str, at: int, opening: str) -> tuple[Any, int]:
    closing, parts = {"[": "]", "{": "}"}[opening], []
    while not (end := re.compile(r"[\s,]*([\]}])").match(text, at)):
        part, at = _read(text, at)
        parts.append(part)
    if end[1] != closing:
        raise ValueError(f"{opening} closed by {end[1]}")
    if opening == "[":
        return parts, end.end()
    if len(parts) % 2 or len(set(parts[::2])) < len(parts) // 2:
        raise ValueError("a map of odd length, or with a key twice")
    return dict(zip(parts[::2], parts[1::2], strict=True)), end.end()


def _number(text: str) -> int | float:
    if text.endswith("N"):
        return int(text[:-1])
    if re.fullmatch(r"[+-]?\d+", text):
        if not -(2**63) <= int(text) < 2**63:
            raise ValueError(f"{text} is no 64-bit number and has no N")
        return int(text)
    return float(text)


def _string(body: str) -> str:
    if any(ord(one) < 32 for one in body) or re.search(r"\\(?!u[0-9a-fA-F]{4}|[trn\"\\])", re.sub(r"\\\\", "", body)):
        raise ValueError(f"not allowed in a string: {body!r}")
    return _ESCAPE.sub(lambda found: chr(int(found[1][1:], 16)) if found[1][0] == "u" else _MEANT[found[1]], body)
