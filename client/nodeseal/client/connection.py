"""A person's connection to the verifier: which verifier, as whom, and what its refusals mean.

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

from nodeseal.client.verifier import Verifier
from nodeseal.errors import MalformedInput, NodesealError, Unavailable
from nodeseal.settings import load_yaml
from nodeseal.v1 import attestation_pb2
from nodeseal.wire.statuses import refusal_of

DEFAULT_CLIENT = Path("~/.config/nodeseal")
_MAX_MESSAGE = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfig:
    """Address of the verifier, and files that prove who calls.

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
    """A refusal by the verifier.

    Attributes:
        findings: what it found, in the words of its version; empty if it named nothing.
    """

    def __init__(self, message: str, findings: tuple[attestation_pb2.Finding, ...] = (), *, remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.findings = findings


def load_client(path: Path) -> ClientConfig:
    """Read ``client.yaml`` from a folder, or the file itself.

    Raises:
        MalformedInput: the file does not exist or does not parse.
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


@contextmanager
def connect(path: Path) -> Iterator[Verifier]:
    """Connect as the person whose folder ``path`` is. Errors of calls in the block become nodeseal's own.

    Raises:
        Refused: the verifier refused a call.
        Unavailable: the verifier did not answer.
        MalformedInput: the folder lacks ``client.yaml`` or a file that it names, or the file does not parse.
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
