"""The channel of a person's connection, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import grpc

from nodeseal.client.config import ClientConfig
from nodeseal.client.refusal import Refused
from nodeseal.client.verifier import Verifier
from nodeseal.errors import MalformedInput, NodesealError, Unavailable
from nodeseal.wire.messages import describe_finding
from nodeseal.wire.statuses import refusal_of

_MAX_MESSAGE: Final = 16 * 1024 * 1024


@contextmanager
def open_channel(config: ClientConfig) -> Iterator[Verifier]:
    """Open a channel. Errors of calls in the block become nodeseal's own.

    Raises:
        Refused: the verifier refused a call.
        Unavailable: the verifier did not answer.
        MalformedInput: a file that the configuration names cannot be read.
    """
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read(config.ca),
        private_key=_read(config.key),
        certificate_chain=_read(config.certificate),
    )
    options = [("grpc.max_receive_message_length", _MAX_MESSAGE), ("grpc.enable_http_proxy", 0)]
    with grpc.secure_channel(config.verifier, credentials, options) as channel:
        try:
            yield Verifier(channel)
        except grpc.RpcError as error:
            raise _meaning(error, config.verifier) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MalformedInput(f"{path}: {error.strerror}") from error


def _meaning(error: grpc.RpcError, verifier: str) -> NodesealError:
    if not isinstance(error, grpc.Call):
        return Unavailable(f"verifier {verifier}: {error}")
    refusal = refusal_of(error)
    if refusal.error is Unavailable:
        return Unavailable(f"verifier {verifier}: {refusal.details}", remedy=refusal.remedy)
    findings = tuple((describe_finding(finding), finding.remedy) for finding in refusal.findings)
    return Refused(refusal.details, findings, remedy=refusal.remedy)
