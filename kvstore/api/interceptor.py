"""Counts every gRPC call: started, handled by status code, seconds. Stock dashboards know the names (go-grpc-prometheus).

Handlers keep their shape. grpc.aio asks whether one is a coroutine function (it reads and writes through its context) or an async
generator, and OpenTelemetry's interceptor, which makes every streaming handler a generator, breaks those of the first kind:
health's Watch among them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from kvstore.telemetry.meters import CallMeter, MethodMeter

Behavior = Callable[[Any, Any], Any]


class CallCounter(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic only in the stubs
    """One node's."""

    def __init__(self, meter: CallMeter) -> None:
        self._meter = meter
        self._counted: dict[str, Any] = {}  # by the method's path: handlers are made once, not per call

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """The handler of the call, counted; None for a method that nobody serves."""
        path: str = handler_call_details.method
        counted = self._counted.get(path)
        if counted is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            counted = self._counted[path] = self._count(path, handler)
        return counted

    def _count(self, path: str, handler: Any) -> Any:
        kind = _kind_of(handler)
        service, _, method = path.lstrip("/").partition("/")
        behavior: Behavior = getattr(handler, kind)
        meter = self._meter.method(_TYPES[kind], service, method)
        wrap = self._generator if inspect.isasyncgenfunction(behavior) else self._coroutine
        assert inspect.isasyncgenfunction(behavior) or inspect.iscoroutinefunction(behavior), f"{path}: a handler that blocks"
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(wrap(behavior, meter), handler.request_deserializer, handler.response_serializer)

    def _coroutine(self, behavior: Behavior, meter: MethodMeter) -> Behavior:
        async def counted(request: Any, context: Any) -> Any:
            call = _Call(meter, self._meter.timer)
            try:
                reply = await behavior(request, context)
            except BaseException as error:
                call.ended(_code_of(context, error))
                raise
            call.ended(_code_of(context, None))
            return reply

        return counted

    def _generator(self, behavior: Behavior, meter: MethodMeter) -> Behavior:
        async def counted(request: Any, context: Any) -> AsyncIterator[Any]:
            call = _Call(meter, self._meter.timer)
            try:
                async with aclosing(behavior(request, context)) as replies:
                    async for reply in replies:
                        yield reply
            except BaseException as error:
                call.ended(_code_of(context, error))
                raise
            call.ended(_code_of(context, None))

        return counted


class _Call:
    """One call that was started."""

    __slots__ = ("_meter", "_started_s", "_timer")

    def __init__(self, meter: MethodMeter, timer: Callable[[], float]) -> None:
        meter.started += 1
        self._meter = meter
        self._timer = timer
        self._started_s = timer()

    def ended(self, code: str) -> None:
        """It was handled."""
        self._meter.handled[code] += 1
        self._meter.durations.add(self._timer() - self._started_s)


_TYPES = {
    "unary_unary": "unary",
    "unary_stream": "server_stream",
    "stream_unary": "client_stream",
    "stream_stream": "bidi_stream",
}


def _kind_of(handler: Any) -> str:
    return f"{'stream' if handler.request_streaming else 'unary'}_{'stream' if handler.response_streaming else 'unary'}"


def _code_of(context: Any, error: BaseException | None) -> str:
    """The status in the words of go-grpc: what the handler set, else what became of it."""
    if isinstance(error, asyncio.CancelledError | GeneratorExit):
        return "Canceled"
    code = context.code()
    if not isinstance(code, grpc.StatusCode):  # aio gives the bare number, and 0 if none was set
        code = next((one for one in grpc.StatusCode if one.value[0] == code), grpc.StatusCode.OK)
    if code is grpc.StatusCode.OK:
        return "OK" if error is None else "Unknown"
    return GO_NAMES.get(code, code.name.title().replace("_", ""))


GO_NAMES = {grpc.StatusCode.CANCELLED: "Canceled"}
"""Where Go's spelling is not ours in CamelCase."""
