"""Channels to the verifier. Its refusals become nodeseal's own errors (:mod:`nodeseal.wire.statuses`)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
import grpc.aio

from nodeseal.agent.identity import Identity
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.files import read_file
from nodeseal.wire.statuses import error_of, refusal_of

M = TypeVar("M")

CALL_SECONDS: Final = 60
_MAX_MESSAGE: Final = 1 << 20
_KEEPALIVE_MS: Final = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierConfig:
    """Addresses of the verifier and proof of its identity.

    Attributes:
        address: ``host:port`` of the port for enrolled nodes.
        enrol_address: ``host:port`` of the port for enrolment.
        ca_file: certificate of the only authority that is trusted, in PEM.
        server_name: name in the verifier's certificate if it differs from the host, or an empty string.
    """

    address: str
    enrol_address: str
    ca_file: Path
    server_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A connection to the verifier and who this node is on it."""

    channel: grpc.aio.Channel
    identity: Identity
    address: str


def enrolment_channel(config: VerifierConfig) -> grpc.aio.Channel:
    """Return a channel on which the verifier proves itself and the node does not."""
    credentials = grpc.ssl_channel_credentials(_authority(config))
    return grpc.aio.secure_channel(config.enrol_address, credentials, _options(config))


def node_channel(config: VerifierConfig, identity: Identity) -> grpc.aio.Channel:
    """Return a channel on which both prove themselves."""
    credentials = grpc.ssl_channel_credentials(_authority(config), identity.private_key, identity.leaf_pem)
    return grpc.aio.secure_channel(config.address, credentials, _options(config))


@contextmanager
def translated(address: str) -> Iterator[None]:
    """Turn failures of calls to ``address`` into nodeseal's errors.

    Raises:
        MalformedInput: the verifier could not parse a message.
        ProofFailed: a proof of the node did not hold.
        PolicyRefused: the verifier does not allow the request.
        NotFound: it does not know the node, key or model.
        OutOfOrder: the call did not fit the state.
        TooManyRequests: a limit was reached.
        Unavailable: the verifier could not be reached, or failed itself.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise error_of(refusal_of(error), f"verifier {address}") from error
    except asyncio.InvalidStateError as error:
        raise _closed(address) from error
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise _closed(address) from error  # grpc.aio's word for a channel that was closed under a call


async def send(call: grpc.aio.StreamStreamCall[Any, Any], message: object) -> None:
    """Write to a stream. If the verifier has ended it already, raise the verifier's reason.

    If the stream ends during the write, grpc.aio may report INTERNAL instead. The agent then connects again later, as
    after any fault of the verifier, and may get the reason then.

    Raises:
        AioRpcError: the verifier's reason; :func:`translated` turns it into an error of nodeseal.
        InvalidStateError: the verifier ended the stream without a reason; :func:`translated` turns it into one as well.
    """
    try:
        await call.write(message)
    except asyncio.InvalidStateError:
        await call.read()
        raise


async def receive(call: grpc.aio.StreamStreamCall[Any, M], kind: type[M], address: str) -> M:
    """Return the next message of a stream from the verifier at ``address``.

    Raises:
        Unavailable: the verifier closed the stream early, without a reason.
        AioRpcError: the verifier's reason; :func:`translated` turns it into an error of nodeseal.
    """
    message: object = await call.read()  # or the end of the stream, whatever the stubs say
    if not isinstance(message, kind):
        raise _closed(address)
    return message


def _closed(address: str) -> Unavailable:
    return Unavailable(f"verifier {address}: closed the stream")


def _authority(config: VerifierConfig) -> bytes:
    try:
        return read_file(config.ca_file, "verifier.ca_file")
    except MalformedInput as error:
        raise MalformedInput(str(error), remedy="put the verifier's ca.pem there") from error


def _options(config: VerifierConfig) -> list[tuple[str, int | str]]:
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
    ]
    if config.server_name:
        options.append(("grpc.ssl_target_name_override", config.server_name))
    return options
