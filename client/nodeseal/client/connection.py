"""The operator's connection to the verifier: which one, as whom, and what its refusals mean.

``nodeseal-verifier init`` and ``nodeseal-verifier person add`` write a folder with a ``client.yaml``::

    verifier: "verifier.example.org:7443"
    ca: "ca.pem"                # the verifier's certificate chains to this
    certificate: "person.pem"   # who you are
    key: "person.key"

File names are relative to the folder. It is found by ``--client``, then ``NODESEAL_CLIENT``, then
``~/.config/nodeseal``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from nodeseal.errors import MalformedInput, NodesealError, Unavailable
from nodeseal.settings import load_yaml
from nodeseal.v1 import admin_pb2_grpc, attestation_pb2
from nodeseal.wire.statuses import refusal_of

CALL_SECONDS = 30.0
TRANSFER_SECONDS = 300.0
"""Of calls that move whole evidence or goldens."""
DEFAULT_CLIENT = Path("~/.config/nodeseal")
_MAX_MESSAGE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Where the verifier is and the files that say who asks.

    Attributes:
        verifier: ``host:port`` of the verifier's operator port.
        ca: PEM of the authority that signed the verifier's certificate.
        certificate: PEM of the person's certificate.
        key: PEM of its private key.
    """

    verifier: str
    ca: Path
    certificate: Path
    key: Path


class Refused(NodesealError):
    """The verifier answered, and the answer was no.

    Attributes:
        findings: what it found, if it said so.
    """

    def __init__(self, message: str, findings: tuple[attestation_pb2.Finding, ...] = (), *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.findings = findings


def load_client(path: Path) -> ClientConfig:
    """Read ``client.yaml`` from a folder, or the file itself.

    Raises:
        MalformedInput: it is not there or does not parse.
    """
    path = path.expanduser()
    file = path / "client.yaml" if path.is_dir() else path
    if not file.is_file():
        raise MalformedInput(
            f"{file}: no such file",
            remedy="name the folder that `nodeseal-verifier person add` wrote: --client DIR or NODESEAL_CLIENT",
        )
    fields = load_yaml(file)
    config = ClientConfig(
        verifier=fields.text("verifier"),
        ca=file.parent / fields.text("ca"),
        certificate=file.parent / fields.text("certificate"),
        key=file.parent / fields.text("key"),
    )
    fields.done()
    return config


class Verifier:
    """Stubs of the verifier's operator services over one channel."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.nodes = admin_pb2_grpc.NodesStub(channel)
        self.goldens = admin_pb2_grpc.GoldensStub(channel)
        self.keys = admin_pb2_grpc.KeysStub(channel)
        self.models = admin_pb2_grpc.ModelsStub(channel)
        self.audit = admin_pb2_grpc.AuditStub(channel)


@contextmanager
def connect(path: Path) -> Iterator[Verifier]:
    """Open a channel as the person whose folder ``path`` is; errors of calls inside become nodeseal's own.

    Raises:
        Refused: the verifier refused a call.
        Unavailable: it did not answer.
        MalformedInput: the folder does not hold what it should.
    """
    config = load_client(path)
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
    return Refused(refusal.details, refusal.findings, remedy=refusal.remedy)
