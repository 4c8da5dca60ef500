"""Something that is told once, to somebody who may have gone away meanwhile: a commit, or a peer's answer."""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

T = TypeVar("T")


class Told(Generic[T]):
    """`take` is handed to whoever tells; `answer` is waited for. What is told later, or to nobody, is dropped."""

    __slots__ = ("answer",)

    def __init__(self) -> None:
        self.answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def take(self, value: T) -> None:
        """It is `value`."""
        if not self.answer.done():
            self.answer.set_result(value)
