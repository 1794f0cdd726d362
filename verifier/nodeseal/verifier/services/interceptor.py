"""The gate in front of every handler: who calls, whether they may, and what an error means to the peer.

No handler runs before :meth:`Callers.authorise` has returned, whatever its kind. Handlers get the caller from
:func:`caller` and raise nodeseal's errors; only here are they turned into status, and only here is ``Exception``
caught.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

import grpc
import structlog
from grpc import aio

from nodeseal.errors import NodesealError
from nodeseal.verifier.callers import Caller, Callers
from nodeseal.verifier.services.status import code_of, details_of, metadata_of

_CALLER: Final[ContextVar[Caller]] = ContextVar("caller")
_Context = aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # not generic at run time
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
        codecs = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._returning(method, handler.unary_unary), **codecs)
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._streaming(method, handler.unary_stream), **codecs)
        if handler.stream_unary is not None:
            return grpc.stream_unary_rpc_method_handler(self._returning(method, handler.stream_unary), **codecs)
        if handler.stream_stream is not None:
            return grpc.stream_stream_rpc_method_handler(self._streaming(method, handler.stream_stream), **codecs)
        return None

    def _returning(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        async def guarded(request: Any, context: _Context) -> Any:
            try:
                await self._admit(method, context)
                return await behaviour(request, context)
            except Exception as error:  # noqa: BLE001 - the outermost boundary of a call
                await _abort(method, context, error)

        return guarded

    def _streaming(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        async def guarded(request: Any, context: _Context) -> None:
            try:
                await self._admit(method, context)
                await _drive(behaviour, request, context)
            except Exception as error:  # noqa: BLE001 - the outermost boundary of a call
                await _abort(method, context, error)

        return guarded

    async def _admit(self, method: str, context: _Context) -> None:
        certificates = tuple(context.auth_context().get("x509_pem_cert", ()))
        _CALLER.set(await self._callers.authorise(method, certificates[0] if certificates else None))


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
    code = code_of(error)
    if code is grpc.StatusCode.INTERNAL:
        _log.error("call failed", method=method, exc_info=error)
    elif isinstance(error, NodesealError):
        _log.info("call refused", method=method, peer=context.peer(), status=code.name, error=str(error))
    await context.abort(code, details_of(error), metadata_of(error))
