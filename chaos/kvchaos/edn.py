"""Histories as EDN, a map a line, for Jepsen's own checkers (Knossos, Elle). Pure; github.com/edn-format/edn.

    {:index 0 :time 12 :process 3 :type :invoke :f :write :value ["k1" 7] :node "n2"}

`f` is a keyword, and the value of a call on a key is the tuple [key value] that jepsen.independent splits histories by; of one key
alone (`key`) the values stand bare, as Knossos reads them. What Knossos' cas-register has no word for is put into its own: a
put-if-absent is a cas of nil, a delete a write of nil. A cas that did not hold because the value was another is a fail, as there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from kvchaos.history import Event, History

SYMBOL = re.compile(r"[A-Za-z*!_?$%&=<>][A-Za-z0-9*+!_?$%&=<>./#'-]*")
"""What may follow the colon of a keyword here: a part of what EDN allows, without a namespace."""
ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
LONG_MAX = 2**63 - 1
"""Larger numbers are arbitrary-precision ones in EDN, with an N."""


def edn_lines(history: History, *, key: str | None = None) -> Iterator[str]:
    """The events as EDN maps, without the ends of their lines; with `key` the calls on that key alone, and the faults."""
    for event in history.events:
        if key is None or event.key in (key, None):
            yield _event(event, bare=key is not None)


def _event(event: Event, *, bare: bool) -> str:
    f, value = event.f, event.value
    if f == "put_if_absent":
        f, value = "cas", None if value is None else [None, value]
    elif f == "delete":
        f, value = "write", None
    if event.key is not None and not bare:
        value = [event.key, value]
    process = f":{event.process}" if isinstance(event.process, str) and is_keyword(event.process) else edn(event.process)
    row = f":index {event.index} :time {event.time_ns} :process {process} :type :{event.type} :f {_name(f)} :value {edn(value)}"
    facts = {"node": event.node, **event.facts}
    rest = "".join(f" {_name(name)} {edn(said)}" for name, said in facts.items() if said is not None)
    return f"{{{row}{rest}}}"


def edn(value: Any) -> str:
    """What JSON can say, as EDN. Raises `TypeError` for anything else."""
    if value is None:
        return "nil"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}N" if abs(value) > LONG_MAX else str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else "##NaN" if math.isnan(value) else "##Inf" if value > 0 else "##-Inf"
    if isinstance(value, str):
        return f'"{"".join(map(_character, value))}"'
    if isinstance(value, list | tuple):
        return f"[{' '.join(map(edn, value))}]"
    if isinstance(value, Mapping):
        return f"{{{' '.join(f'{_name(name)} {edn(part)}' for name, part in value.items())}}}"
    raise TypeError(f"a history cannot hold a {type(value).__name__}")


def is_keyword(name: str) -> bool:
    """Whether a name can stand behind a colon."""
    return SYMBOL.fullmatch(name) is not None and "/" not in name


def _name(name: Any) -> str:
    """A name of a field: a keyword where it can be one, else a string."""
    return f":{name}" if is_keyword(str(name)) else edn(str(name))


def _character(one: str) -> str:
    """A character of a string; control characters, and halves of pairs that UTF-8 cannot say, by their number."""
    if one in ESCAPES:
        return ESCAPES[one]
    return f"\\u{ord(one):04x}" if one < " " or one == "\x7f" or "\ud800" <= one <= "\udfff" else one
