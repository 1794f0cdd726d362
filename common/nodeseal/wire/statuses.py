"""Refusals on the wire: one table of error classes and gRPC statuses, read in both directions.

The verifier answers a failed call with the status of the error's class, the error and its remedy as details, and
findings in the trailing metadata ``nodeseal-findings-bin``: a serialised :class:`Verdict` with nothing else in it.
An error without a row is a fault of the verifier's own: the peer gets a fixed text, the log the details.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from nodeseal.errors import (
    MalformedInput,
    NodesealError,
    NotFound,
    NotRecorded,
    OutOfOrder,
    PolicyRefused,
    ProofFailed,
    TooManyRequests,
    Unavailable,
)
from nodeseal.findings import Finding
from nodeseal.v1 import attestation_pb2
from nodeseal.wire.messages import findings_from_proto, findings_to_proto

FINDINGS_METADATA: Final = "nodeseal-findings-bin"
"""Key of the trailing metadata that carries a refused call's findings."""
INTERNAL: Final = "the verifier failed; its log says why"
"""Details of every error that has no row."""
_MAX_DETAILS: Final = 1000
"""Characters of the details, before control characters are spelled out."""
_MAX_FINDINGS: Final = 4096
"""Bytes of findings. From 8 KiB on, in base64 and with the details, gRPC may drop metadata and with it the status."""


@dataclass(frozen=True, slots=True)
class StatusRow:
    """One row of the table.

    Attributes:
        error: class of the error.
        status: its gRPC status.
        remedy: what a person who called does about it, or an empty string.
    """

    error: type[NodesealError]
    status: grpc.StatusCode
    remedy: str = ""


TABLE: Final = (
    StatusRow(
        MalformedInput,
        grpc.StatusCode.INVALID_ARGUMENT,
        "correct what it names; if that is right, update the older of verifier and command",
    ),
    StatusRow(
        ProofFailed,
        grpc.StatusCode.UNAUTHENTICATED,
        "ask an operator for a certificate: nodeseal-verifier person add",
    ),
    StatusRow(PolicyRefused, grpc.StatusCode.PERMISSION_DENIED, "your role does not allow it, or policy refuses it"),
    StatusRow(NotFound, grpc.StatusCode.NOT_FOUND),
    StatusRow(OutOfOrder, grpc.StatusCode.FAILED_PRECONDITION),
    StatusRow(
        NotRecorded,
        grpc.StatusCode.ABORTED,
        "it holds already and needs no second call; once the disk allows it, nodeseal audit list shows it",
    ),
    StatusRow(TooManyRequests, grpc.StatusCode.RESOURCE_EXHAUSTED, "wait a moment, then try again"),
    StatusRow(
        Unavailable,
        grpc.StatusCode.UNAVAILABLE,
        "check that nodeseal-verifier runs there and that your certificate is its authority's",
    ),
)
_BY_ERROR: Final = {row.error: row for row in TABLE}
_BY_STATUS: Final = {row.status: row for row in TABLE}
_WITHOUT_ROW: Final = {
    grpc.StatusCode.DEADLINE_EXCEEDED: _BY_ERROR[Unavailable],
    grpc.StatusCode.INTERNAL: StatusRow(
        NodesealError, grpc.StatusCode.INTERNAL, "the verifier's log says what happened"
    ),
}
"""Statuses that no error has: gRPC sends the first, and :func:`status_of` the second for all that is in no row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A failed call as its caller sees it.

    Attributes:
        error: class of the error that the status stands for; :class:`NodesealError` for a status without a row.
        details: what the verifier said.
        findings: what it found, in the words of its version.
        remedy: what a person does about it, or an empty string.
    """

    error: type[NodesealError]
    details: str
    findings: tuple[attestation_pb2.Finding, ...]
    remedy: str


def status_of(error: Exception) -> grpc.StatusCode:
    """Return the status of an error."""
    row = _BY_ERROR.get(type(error)) if isinstance(error, NodesealError) else None
    return row.status if row else grpc.StatusCode.INTERNAL


def details_of(error: Exception) -> str:
    """Return what the peer is told: the error and its remedy, on one printable line."""
    if status_of(error) is grpc.StatusCode.INTERNAL:
        return INTERNAL
    remedy = getattr(error, "remedy", "")
    text = f"{error} ({remedy})" if remedy else str(error)
    return text[:_MAX_DETAILS].encode("unicode_escape").decode("ascii")


def metadata_of(error: Exception) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata: an error's findings, as far as metadata has room for them."""
    if not isinstance(error, (ProofFailed, PolicyRefused)):
        return ()
    return ((FINDINGS_METADATA, _fitting(error.findings).SerializeToString()),)


def refusal_of(error: grpc.Call | grpc.aio.AioRpcError) -> Refusal:
    """Return why a call failed."""
    code = error.code()
    row = _BY_STATUS.get(code) or _WITHOUT_ROW.get(code) or StatusRow(NodesealError, code)
    return Refusal(error=row.error, details=str(error.details()), findings=_findings(error), remedy=row.remedy)


def error_of(refusal: Refusal, peer: str) -> NodesealError:
    """Return a refusal as the error that the verifier raised.

    A status without a row, and a proof or policy that failed without a finding known to this version, say no more than
    that the verifier cannot help now: :class:`Unavailable`.

    Args:
        refusal: why the call failed.
        peer: who refused, for the message.
    """
    findings = findings_from_proto(refusal.findings)
    if findings:
        return ProofFailed(*findings) if refusal.error is ProofFailed else PolicyRefused(*findings)
    nameless = refusal.error in (NodesealError, ProofFailed, PolicyRefused)
    kind = Unavailable if nameless else refusal.error
    return kind(f"{peer}: {refusal.details}")


def _fitting(findings: tuple[Finding, ...]) -> attestation_pb2.Verdict:
    verdict = attestation_pb2.Verdict()
    for finding in findings_to_proto(findings):
        if verdict.ByteSize() + finding.ByteSize() <= _MAX_FINDINGS:
            verdict.findings.append(finding)
    return verdict


def _findings(error: grpc.Call | grpc.aio.AioRpcError) -> tuple[attestation_pb2.Finding, ...]:
    for key, value in error.trailing_metadata() or ():
        if key == FINDINGS_METADATA and isinstance(value, bytes):
            try:
                return tuple(attestation_pb2.Verdict.FromString(value).findings)
            except DecodeError:
                return ()
    return ()
