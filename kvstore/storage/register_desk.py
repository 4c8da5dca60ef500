"""Where peers' questions to the acceptor come in: bytes in, bytes out, and only about registers of this cluster's namespaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kvproto.errors import BadRequest, KvError, StorageError
from kvstore.core.catalog.catalog import RUN_TIME_ID_MIN
from kvstore.core.register.ballot import GROUP_BYTES, NO_BALLOT
from kvstore.core.register.listing import Listing, encode_listing
from kvstore.core.register.messages import OF_NO_BALLOT, Ask, Reply, Step, Why, decode_ask, encode_reply
from kvstore.core.register.tracker import decode_since, encode_horizon
from kvstore.storage.layout import NAMESPACE_AT
from kvstore.storage.register_scans import RegisterScans
from kvstore.storage.registers import Done, Registers

OF_EITHER = frozenset((Step.COPY, Step.LIST))
Told = Callable[[KvError | None, bytes], None]
Look = Callable[[Callable[[], None]], None]


class RegisterDesk:
    """Answers for `registers`; `linearizable` are the ids of the namespaces whose keys are registers, as in store keys."""

    def __init__(
        self,
        registers: Registers,
        scans: RegisterScans,
        partitions: int,
        linearizable: frozenset[bytes],
        settle: Callable[[Sequence[bytes]], None],
    ) -> None:
        """`settle` is told registers that are to be accepted again."""
        self._registers = registers
        self._scans = scans
        self._settle = settle
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

        if ask.step in OF_NO_BALLOT:
            self._answer(ask, done)
        else:
            self._registers.ask(ask, done)

    def _answer(self, ask: Ask, done: Done) -> None:
        """What is of no ballot."""
        reply = Reply(ask.step, len(ask.keys))
        if ask.step is Step.SETTLE:
            self._settle(ask.keys)
            done(None, reply)
            return
        if ask.step is Step.HORIZON:
            try:
                since = decode_since(ask.keys[0])
            except ValueError as error:
                done(BadRequest(f"a question about horizons that cannot be read: {error}", subject="register_asks"), None)
                return
            reply.states = [encode_horizon(self._registers.tracker.tell(since))]
            done(None, reply)
            return
        (cursor,) = ask.keys
        if not self._registers.votes_on(cursor[:GROUP_BYTES]):
            done(None, Reply(ask.step, 1, {0: (Why.ABSTAINS, NO_BALLOT)}, [b""]))
            return

        def told(error: StorageError | None, listing: Listing) -> None:
            if error is not None:
                reply.refused[0], reply.states = (Why.LOST, NO_BALLOT), [b""]
            else:
                reply.states = [encode_listing(listing)]
            done(None, reply)

        self._scans.listing(cursor, told)

    def _may_be_new(self, ask: Ask) -> bool:
        """Whether it is about a namespace made at run time, of which the asker may have heard before us."""
        return ask.step is not Step.HORIZON and any(
            int.from_bytes(key[NAMESPACE_AT], "big") >= self.known_below for key in ask.keys
        )

    def _why_misplaced(self, ask: Ask) -> KvError | None:
        keys = ask.keys
        if not keys:
            return BadRequest("a question about nothing", subject="register_asks")
        if ask.step is Step.HORIZON and len(keys) == 1:
            return None
        lengths = list(map(len, keys))
        if ask.step is Step.LIST and len(keys) > 1:
            return BadRequest("registers are listed one group at a time", subject="register_asks")
        if ask.step is Step.CONFIRM:
            fit = max(lengths) == min(lengths) == GROUP_BYTES
        else:
            fit = min(lengths) > GROUP_BYTES or (ask.step in OF_EITHER and min(lengths) == GROUP_BYTES)
        known = fit and self.linearizable.issuperset([key[NAMESPACE_AT] for key in keys])
        if known and int.from_bytes(max(keys)[:2], "big") < self._partitions:
            return None
        return BadRequest("a question to an acceptor about what is no register here", subject="register_asks")
