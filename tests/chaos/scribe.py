"""Writes histories by hand for the tests of checkers: one key, one actor per node, times as given."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kvchaos.history import Event, History, Recorder

KEY = "k"


def dot(counter: int, actor: int = 1) -> str:
    """A version: 24 digits of actor, 16 of counter."""
    return f"{actor:024x}{counter:016x}"


def token(vector: Mapping[int, int], dots: Iterable[str] = ()) -> str:
    """A context that has seen `vector` (actor to counter) and single dots."""
    return f"01{len(vector):04x}" + "".join(dot(vector[actor], actor) for actor in sorted(vector)) + "".join(dots)


class Scribe:
    """A history in the making. Each call is a process of its own, from `began` to `ended`."""

    def __init__(self, **header: Any) -> None:
        self._now = 0
        self._process = 0
        self._recorder = Recorder(lambda: self._now, {"n": 3, "r": 2, "w": 2, **header})

    @property
    def history(self) -> History:
        """What was written, in the order of time."""
        events = sorted(self._recorder.history.events, key=lambda event: event.time_ns)
        renumbered = [
            Event(index, event.time_ns, event.process, event.type, event.f, event.key, event.value, event.node, event.facts)
            for index, event in enumerate(events)
        ]
        return History(self._recorder.history.header, renumbered)

    def write(
        self,
        name: str,
        began: int,
        ended: int,
        version: str = "",
        *,
        f: str = "write",
        type_: str = "ok",
        knew: Iterable[str] = (),
        meant: Iterable[str] = (),
        overwrites: bool = False,
        key: str = KEY,
        value: Any = None,
        needed: int = 2,
        session: str | None = None,
        **facts: Any,
    ) -> None:
        """A write called `name`."""
        past: dict[str, Any] = {"knew": sorted(knew), "meant": sorted(meant), "overwrites": overwrites}
        if session is not None:
            past["session"] = session
        process = self._invoke(began, f, key=key, value=value or name, write=name, **past)
        self._now = ended
        said = {"version": version, "needed": needed, **facts} if type_ == "ok" else facts
        self._recorder.note(process, type_, f, key=key, value=value or name, **said)

    def delete(self, name: str, began: int, ended: int, version: str = "", **options: Any) -> None:
        """A delete called `name`."""
        self.write(name, began, ended, version, f="delete", **options)

    def read(
        self,
        siblings: Iterable[str],
        began: int,
        ended: int,
        context: str = "",
        *,
        key: str = KEY,
        value: Any = None,
        needed: int = 2,
        final: bool = False,
        **facts: Any,
    ) -> None:
        """A read that found `siblings`."""
        found = sorted(siblings)
        process = self._invoke(began, "read", key=key, final=final)
        self._now = ended
        self._recorder.note(process, "ok", "read", key=key, value=value, siblings=found, context=context, needed=needed, **facts)

    def rest(self, siblings: Iterable[str], context: str = "", *, key: str = KEY, value: Any = None) -> None:
        """The read at rest."""
        self.read(siblings, 1_000_000, 1_000_001, context, key=key, value=value, needed=3, final=True)

    def fact(
        self, at: int, f: str, value: Any, *, process: str = "nemesis", node: str | None = None, key: str | None = None
    ) -> None:
        """A fault or a fact."""
        self._now = at
        self._recorder.note(process, "info", f, key=key, value=value, node=node)

    def watch(self, *executions: tuple[str | None, str, Iterable[str] | None], **more: Any) -> None:
        """Somebody watched the disks: (write, version, versions of the siblings it was minted over)."""
        self.fact(0, "watch", None, process="disks")
        for write, version, base in executions:
            value = {"write": write, "version": version, "base": None if base is None else list(base), **more}
            self.fact(0, "execute", value, process="disks", node="n1", key=KEY)

    def _invoke(self, began: int, f: str, *, key: str, value: Any = None, **facts: Any) -> int:
        self._process += 1
        self._now = began
        self._recorder.note(self._process, "invoke", f, key=key, value=value, **facts)
        return self._process

    def call_within(self, f: str, began: int, ended: int | None, *, timeout_ms: int) -> None:
        """A call of unknown outcome that may take `timeout_ms`; `ended` None: it never did."""
        process = self._invoke(began, f, key=KEY, write=f"w{self._process}", timeout_ms=timeout_ms)
        if ended is not None:
            self._now = ended
            self._recorder.note(process, "info", f, key=KEY)

    def call(
        self,
        f: str,
        value: Any,
        began: int,
        ended: int,
        *,
        type_: str = "ok",
        result: Any = None,
        key: str = KEY,
        session: str | None = None,
        level: str | None = None,
        invoked: Mapping[str, Any] | None = None,
        **facts: Any,
    ) -> None:
        """Any call; `invoked` are facts of its beginning, `facts` of its end, and `result` is its end's value if it has another."""
        told = {name: said for name, said in (("session", session), ("level", level)) if said is not None}
        process = self._invoke(began, f, key=key, value=value, **told, **(invoked or {}))
        self._now = ended
        self._recorder.note(process, type_, f, key=key, value=value if result is None else result, **facts)
