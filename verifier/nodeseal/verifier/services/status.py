"""From errors to gRPC status: one table, and the only place that names codes.

Findings travel in the trailing metadata ``nodeseal-findings-bin``, a serialised :class:`Verdict` with nothing else
in it, as far as metadata has room for them. What is not in the table is our own fault: the peer gets a fixed text, the
log the details.
"""

from __future__ import annotations

from typing import Final

import grpc

from nodeseal.errors import (
    MalformedInput,
    NodesealError,
    NotFound,
    OutOfOrder,
    PolicyRefused,
    ProofFailed,
    TooManyRequests,
    Unavailable,
)
from nodeseal.findings import FINDINGS_METADATA, Finding
from nodeseal.v1 import attestation_pb2
from nodeseal.verifier.services.convert import findings_to_proto

INTERNAL: Final = "the verifier failed; its log says why"
_MAX_DETAILS: Final = 1000
_MAX_FINDINGS: Final = 4096
"""Bytes of findings. From 8 KiB on, in base64 and with the details, gRPC may drop metadata and with it the status."""
CODES: Final[dict[type[NodesealError], grpc.StatusCode]] = {
    MalformedInput: grpc.StatusCode.INVALID_ARGUMENT,
    ProofFailed: grpc.StatusCode.UNAUTHENTICATED,
    PolicyRefused: grpc.StatusCode.PERMISSION_DENIED,
    NotFound: grpc.StatusCode.NOT_FOUND,
    OutOfOrder: grpc.StatusCode.FAILED_PRECONDITION,
    TooManyRequests: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Unavailable: grpc.StatusCode.UNAVAILABLE,
}


def code_of(error: Exception) -> grpc.StatusCode:
    """Return the status code of an error."""
    return (
        CODES.get(type(error), grpc.StatusCode.INTERNAL)
        if isinstance(error, NodesealError)
        else grpc.StatusCode.INTERNAL
    )


def details_of(error: Exception) -> str:
    """Return what the peer is told: the error and its remedy, on one printable line."""
    if code_of(error) is grpc.StatusCode.INTERNAL:
        return INTERNAL
    remedy = getattr(error, "remedy", "")
    text = f"{error} ({remedy})" if remedy else str(error)
    return text[:_MAX_DETAILS].encode("unicode_escape").decode("ascii")


def metadata_of(error: Exception) -> tuple[tuple[str, bytes], ...]:
    """Return the trailing metadata: findings, where the error has some."""
    if not isinstance(error, (ProofFailed, PolicyRefused)):
        return ()
    return ((FINDINGS_METADATA, _fitting(error.findings).SerializeToString()),)


def _fitting(findings: tuple[Finding, ...]) -> attestation_pb2.Verdict:
    verdict = attestation_pb2.Verdict()
    for finding in findings_to_proto(findings):
        if verdict.ByteSize() + finding.ByteSize() <= _MAX_FINDINGS:
            verdict.findings.append(finding)
    return verdict
