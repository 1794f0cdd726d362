"""The gate in front of every handler: it identifies, authorises and counts callers, and turns errors into statuses.

No handler runs and no request is decoded before :meth:`Callers.authorise` has returned; messages of a stream are
decoded as the handler reads them. The one request of other calls is read here, within a deadline: gRPC itself would
wait for it without end, and call nobody meanwhile. Handlers get the caller from :func:`caller` and raise nodeseal's
errors; only here are they turned into status, and only here is ``Exception`` caught.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from traceback import clear_frames
from typing import Any, Final, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc import aio

from nodeseal.errors import MalformedInput, NodesealError, OutOfOrder
from nodeseal.line_limit import LineLimit
from nodeseal.verifier.limits import Seat, SharedSeats
from nodeseal.verifier.people.callers import ANONYMOUS, Caller, Callers
from nodeseal.verifier.services.bounds import BOUNDS, LINES_PER_MINUTE, address_of, arriving
from nodeseal.verifier.states import Role
from nodeseal.wire.statuses import details_of, metadata_of, status_of

_CALLER: Final[ContextVar[Caller]] = ContextVar("caller")
_SEAT: Final[ContextVar[Seat]] = ContextVar("seat")
_Context = aio.ServicerContext[Any, Any]
_Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # not generic at run time
_Decode = Callable[[Any], Any]
_Behaviour = Callable[..., Any]
_log: Final = structlog.get_logger()


def caller() -> Caller:
    """Return who made the call that is being handled."""
    return _CALLER.get()


def seat() -> Seat:
    """Return the seat that the call holds."""
    return _SEAT.get()


class Gate(aio.ServerInterceptor):
    """Authorises calls, bounds them, and turns errors into status."""

    def __init__(self, callers: Callers) -> None:
        self._callers: Final = callers
        self._lines: Final = LineLimit(LINES_PER_MINUTE)
        self._seats: Final = {
            method: SharedSeats(bound.at_once, bound.each, f"calls of {method}", renews=bound.renews)
            for method, bound in BOUNDS.items()
        }

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _Handler | None:
        """Wrap the handler of a call."""
        handler = await continuation(handler_call_details)
        return None if handler is None else self._guard(str(handler_call_details.method), handler)

    def _guard(self, method: str, handler: _Handler) -> _Handler | None:
        behaviour = handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
        if behaviour is None:
            return None
        decode = _decoder(handler.request_deserializer)
        late = None if handler.request_streaming else decode
        codecs = {
            "request_deserializer": decode if handler.request_streaming else None,
            "response_serializer": handler.response_serializer,
        }
        # Every call is a stream of requests here: gRPC reads the request of other calls before it calls anybody.
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._guarded(method, _driven(behaviour), late), **codecs)
        return grpc.stream_unary_rpc_method_handler(self._guarded(method, behaviour, late), **codecs)

    def _guarded(self, method: str, behaviour: _Behaviour, decode: _Decode | None) -> _Behaviour:
        async def guarded(requests: Any, context: _Context) -> Any:
            holder = address_of(context.peer())
            try:
                who = await self._identified(method, context)
                holder = _holder(who, holder)
                with self._seats[method].one(holder) as held:
                    _SEAT.set(held)
                    request = requests if decode is None else decode(await _request(context))
                    return await behaviour(request, context)
            except Exception as error:  # noqa: BLE001 - the outermost boundary of a call
                await _abort(method, context, error, self._lines, holder)

        return guarded

    async def _identified(self, method: str, context: _Context) -> Caller:
        certificates = tuple(context.auth_context().get("x509_pem_cert", ()))
        who = await self._callers.authorise(method, certificates[0] if certificates else None)
        _CALLER.set(who)
        return who


def _holder(who: Caller, address: str) -> str:
    """Return whose share a call uses."""
    if who is ANONYMOUS:
        return address
    return f"{who.actor} at {address}" if Role.NODE in who.roles else who.actor


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


async def _request(context: _Context) -> Any:
    """Return the bytes of a call's only request.

    Raises:
        OutOfOrder: it does not come in time, or at all.
    """
    async with arriving("request"):
        raw = await context.read()
    if not isinstance(raw, bytes):
        raise OutOfOrder("a request was expected")
    return raw


def _driven(behaviour: _Behaviour) -> _Behaviour:
    """Return a streaming handler that writes itself, whether ``behaviour`` does or yields (the reflection does)."""
    if not inspect.isasyncgenfunction(behaviour):
        return behaviour

    async def driven(request: Any, context: _Context) -> None:
        responses: AsyncIterator[Any] = behaviour(request, context)
        async for response in responses:
            await context.write(response)

    return driven


async def _abort(method: str, context: _Context, error: Exception, lines: LineLimit, holder: str) -> None:
    if isinstance(error, aio.AbortError):
        raise error
    status = status_of(error)
    try:
        await context.abort(status, details_of(error), metadata_of(error))
    finally:
        _tell(method, context, error, lines, holder)
        clear_frames(error.__traceback__)  # else the request stays in memory until the garbage collector's turn


def _tell(method: str, context: _Context, error: Exception, lines: LineLimit, holder: str) -> None:
    """Log why a call failed, unless its caller has caused many lines in this minute."""
    left_out = lines.left_out(holder, time.monotonic())
    if left_out is None:
        return
    if status_of(error) is grpc.StatusCode.INTERNAL:
        _log.error("call failed", method=method, left_out=left_out, exc_info=error)
    elif isinstance(error, NodesealError):
        facts = {"method": method, "peer": context.peer(), "status": status_of(error).name, "left_out": left_out}
        _log.info("call refused", **facts, error=str(error))
