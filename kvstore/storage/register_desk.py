"""Where peers' questions to the acceptor come in: bytes in, bytes out, and only about registers of this cluster's namespaces."""

from __future__ import annotations

from collections.abc import Callable

from kvproto.errors import BadRequest, KvError
from kvstore.core.catalog.catalog import RUN_TIME_ID_MIN
from kvstore.core.register.ballot import GROUP_BYTES
from kvstore.core.register.messages import Ask, Reply, Step, decode_ask, encode_reply
from kvstore.storage.layout import NAMESPACE_AT
from kvstore.storage.registers import Registers

GROUP_STEPS = frozenset((Step.CONFIRM, Step.MARK))

Told = Callable[[KvError | None, bytes], None]
Look = Callable[[Callable[[], None]], None]


class RegisterDesk:
    """Answers for `registers`; `linearizable` are the ids of the namespaces whose keys are registers, as in store keys."""

    def __init__(self, registers: Registers, partitions: int, linearizable: frozenset[bytes]) -> None:
        self._registers = registers
        self._partitions = partitions
        self.linearizable = linearizable
        """Replaced when the namespaces change."""
        self.known_below = RUN_TIME_ID_MIN
        """Ids of namespaces from here on are those that this node has not heard of. Replaced likewise."""
        self.look: Look | None = None
        """Has somebody look for namespaces that are not known yet, and calls back; None: there is nobody to ask."""

    def ask_bytes(self, data: bytes, told: Told) -> None:
        """Answers the question in `data`; `told` is called once, with an error or the bytes of the reply. Never raises."""
        try:
            ask = decode_ask(data)
        except ValueError as error:
            told(BadRequest(f"a question to an acceptor that cannot be read: {error}", subject="register_asks"), b"")
            return
        if self.look is not None and self._why_misplaced(ask) is not None and self._may_be_new(ask):
            self.look(lambda: self._ask(ask, told))
        else:
            self._ask(ask, told)

    def _ask(self, ask: Ask, told: Told) -> None:
        misplaced = self._why_misplaced(ask)
        if misplaced is not None:
            told(misplaced, b"")
            return

        def done(error: KvError | None, reply: Reply | None) -> None:
            told(error, b"" if reply is None else encode_reply(reply))

        self._registers.ask(ask, done)

    def _may_be_new(self, ask: Ask) -> bool:
        """Whether it is about a namespace made at run time, of which the asker may have heard before us."""
        return any(int.from_bytes(key[NAMESPACE_AT], "big") >= self.known_below for key in ask.keys)

    def _why_misplaced(self, ask: Ask) -> KvError | None:
        keys = ask.keys
        if not keys:
            return BadRequest("a question about nothing", subject="register_asks")
        lengths = list(map(len, keys))
        if ask.step in GROUP_STEPS:
            fit = max(lengths) == min(lengths) == GROUP_BYTES
        else:
            fit = min(lengths) > GROUP_BYTES or (ask.step is Step.COPY and min(lengths) == GROUP_BYTES)
        known = fit and self.linearizable.issuperset([key[NAMESPACE_AT] for key in keys])
        if known and int.from_bytes(max(keys)[:2], "big") < self._partitions:
            return None
        return BadRequest("a question to an acceptor about what is no register here", subject="register_asks")
