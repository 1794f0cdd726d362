"""The channel of a person's connection, and what its errors mean."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc

from nodeseal.client.config import ClientConfig
from nodeseal.client.diagnosis import VERIFIER, own_checks, reach_check
from nodeseal.client.refusal import Refused
from nodeseal.client.verifier import Verifier
from nodeseal.errors import MalformedInput, NodesealError, Unavailable
from nodeseal.files import MAX_PEM, read_small
from nodeseal.wire.messages import describe_finding
from nodeseal.wire.statuses import refusal_of

_MAX_MESSAGE: Final = 16 * 1024 * 1024
_HURRIED_SECONDS: Final = 1.0


@contextmanager
def hurried_channel(config: ClientConfig) -> Iterator[Verifier]:
    """Open a channel for somebody who waits at a keyboard: calls end soon, and nobody looks for the cause of a failure.

    Raises:
        MalformedInput: a file that the configuration names cannot be read.
    """
    with _channel(config) as channel:
        yield Verifier(channel, _HURRIED_SECONDS)


@contextmanager
def open_channel(config: ClientConfig) -> Iterator[Verifier]:
    """Open a channel. Errors of calls in the block become nodeseal's own.

    Raises:
        Refused: the verifier refused a call.
        Unavailable: the verifier did not answer; the message says why, as far as that can be seen from here.
        MalformedInput: a file that the configuration names cannot be read.
    """
    with _channel(config) as channel:
        try:
            yield Verifier(channel)
        except grpc.RpcError as error:
            raise _meaning(error, config) from error


def _channel(config: ClientConfig) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(
        root_certificates=_read(config.ca),
        private_key=_read(config.key),
        certificate_chain=_read(config.certificate),
    )
    options: list[tuple[str, int | str]] = [
        ("grpc.max_receive_message_length", _MAX_MESSAGE),
        ("grpc.enable_http_proxy", 0),
    ]
    if config.server_name:
        options.append(("grpc.ssl_target_name_override", config.server_name))
    return grpc.secure_channel(config.verifier, credentials, options)


def _read(path: Path) -> bytes:
    try:
        return read_small(path, MAX_PEM)
    except Unavailable as error:
        raise MalformedInput(str(error), remedy="nodeseal doctor") from error


def _meaning(error: grpc.RpcError, config: ClientConfig) -> NodesealError:
    if not isinstance(error, grpc.Call):
        return Unavailable(f"verifier {config.verifier}: {error}")
    refusal = refusal_of(error)
    if refusal.error is Unavailable:
        return _explained(config) or Unavailable(
            f"verifier {config.verifier}: {refusal.details}", remedy=refusal.remedy
        )
    findings = tuple((describe_finding(finding), finding.remedy) for finding in refusal.findings)
    return Refused(refusal.details, findings, remedy=refusal.remedy)


def _explained(config: ClientConfig) -> Unavailable | None:
    """Look at one's own certificate and clock before the verifier is blamed, which cannot say why it hung up."""
    checks = (*own_checks(config, datetime.now(UTC)), reach_check(config))
    for check in checks:
        for fault in check.faults():
            if fault.fatal or check.field == VERIFIER:
                return Unavailable(str(fault), remedy=fault.remedy)
    return None
