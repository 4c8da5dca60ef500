"""Messages that are none: a caller that sends bytes which cannot be decoded hears so (INVALID_ARGUMENT).

gRPC decodes a single request before it calls the service, and what that raises is to it a defect of ours: UNKNOWN, and a traceback
in the log for every stranger who knocks. So decoding gives a mark instead, and the mark is refused. Streams are read by the
services themselves, which see `DecodeError`.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

MALFORMED: Any = object()


async def refuse(context: Any, what: str = "the message cannot be decoded") -> None:
    """Ends the call."""
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, what)


class RefuseMalformed(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # of nothing, when it runs
    """For the methods with one request; a stream's handler is left as it is."""

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: grpc.HandlerCallDetails
    ) -> Any:
        """See grpc.aio."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.request_streaming or handler.request_deserializer is None:
            return handler
        decode = _tolerant(handler.request_deserializer)
        if not handler.response_streaming:
            return grpc.unary_unary_rpc_method_handler(_unary(handler.unary_unary), decode, handler.response_serializer)
        return grpc.unary_stream_rpc_method_handler(_stream(handler.unary_stream), decode, handler.response_serializer)


def _tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    def decode(message: bytes) -> Any:
        try:
            return deserialize(message)
        except DecodeError:
            return MALFORMED

    return decode


def _unary(answer: Callable[[Any, Any], Awaitable[Any]]) -> Any:
    async def guarded(request: Any, context: Any) -> Any:
        if request is MALFORMED:
            await refuse(context)
        return await answer(request, context)

    return guarded


def _stream(answer: Callable[[Any, Any], Any]) -> Any:
    """gRPC takes generators and coroutines that write; what it is given has to stay what it was."""

    async def generating(request: Any, context: Any) -> AsyncIterator[Any]:
        if request is MALFORMED:
            await refuse(context)
        async for message in answer(request, context):
            yield message

    return generating if inspect.isasyncgenfunction(answer) else _unary(answer)
