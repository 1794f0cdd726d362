"""The gate in front of every handler: it identifies callers, authorises them, and turns errors into statuses.

No handler runs and no request is decoded before :meth:`Callers.authorise` has returned; messages of a stream are
decoded as the handler reads them. Handlers get the caller from :func:`caller` and raise nodeseal's errors; only here
are they turned into status, and only here is ``Exception`` caught.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc import aio

from nodeseal.errors import MalformedInput, NodesealError
from nodeseal.verifier.people.callers import Caller, Callers
from nodeseal.wire.statuses import details_of, metadata_of, status_of

_CALLER: Final[ContextVar[Caller]] = ContextVar("caller")
_Context = aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # not generic at run time
_Decode = Callable[[Any], Any]
_log: Final = structlog.get_logger()


def caller() -> Caller:
    """Return who made the call that is being handled."""
    return _CALLER.get()


class Gate(aio.ServerInterceptor):
    """Authorises calls and turns errors into status."""

    def __init__(self, callers: Callers) -> None:
        self._callers: Final = callers

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the handler of a call."""
        handler = await continuation(handler_call_details)
        return None if handler is None else self._guard(str(handler_call_details.method), handler)

    def _guard(self, method: str, handler: _Handler) -> _Handler | None:
        decode = _decoder(handler.request_deserializer)
        late = _as_it_is if handler.request_streaming else decode
        codecs = {
            "request_deserializer": decode if handler.request_streaming else None,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._returning(method, handler.unary_unary, late), **codecs)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._streaming(method, handler.unary_stream, late), **codecs)
        if handler.stream_unary is not None:
            return grpc.stream_unary_rpc_method_handler(self._returning(method, handler.stream_unary, late), **codecs)
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(self._streaming(method, handler.stream_stream, late), **codecs)
        return None

    def _returning(self, method: str, behaviour: Callable[..., Any], decode: _Decode) -> Callable[..., Any]:
        async def guarded(request: Any, context: _Context) -> Any:
            try:
                await self._admit(method, context)
                return await behaviour(decode(request), context)
            except Exception as error:  # noqa: BLE001 - the outermost boundary of a call
                await _abort(method, context, error)

        return guarded

    def _streaming(self, method: str, behaviour: Callable[..., Any], decode: _Decode) -> Callable[..., Any]:
        async def guarded(request: Any, context: _Context) -> None:
            try:
                await self._admit(method, context)
                await _drive(behaviour, decode(request), context)
            except Exception as error:  # noqa: BLE001 - the outermost boundary of a call
                await _abort(method, context, error)

        return guarded

    async def _admit(self, method: str, context: _Context) -> None:
        certificates = tuple(context.auth_context().get("x509_pem_cert", ()))
        _CALLER.set(await self._callers.authorise(method, certificates[0] if certificates else None))


def _decoder(deserialize: Callable[[bytes], Any] | None) -> _Decode:
    """Return ``deserialize`` with nodeseal's error for bytes that do not parse."""
    if deserialize is None:
        return _as_it_is

    def decode(raw: Any) -> Any:
        try:
            return deserialize(raw)
        except DecodeError as error:
            raise MalformedInput("the message does not parse") from error

    return decode


def _as_it_is(request: Any) -> Any:
    return request


async def _drive(behaviour: Callable[..., Any], request: Any, context: _Context) -> None:
    """Run a streaming handler, whether it writes itself or yields (the reflection service does)."""
    if not inspect.isasyncgenfunction(behaviour):
        await behaviour(request, context)
        return
    responses: AsyncIterator[Any] = behaviour(request, context)
    async for response in responses:
        await context.write(response)


async def _abort(method: str, context: _Context, error: Exception) -> None:
    if isinstance(error, aio.AbortError):
        raise error
    status = status_of(error)
    try:
        await context.abort(status, details_of(error), metadata_of(error))
    finally:
        if status is grpc.StatusCode.INTERNAL:
            _log.error("call failed", method=method, exc_info=error)
        elif isinstance(error, NodesealError):
            _log.info("call refused", method=method, peer=context.peer(), status=status.name, error=str(error))
