"""Errors and gRPC statuses: every class has its row, both ways, and nobody is told what is not theirs."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import grpc.aio
import pytest

from nodeseal import errors
from nodeseal.errors import NodesealError, PolicyRefused, ProofFailed, Unavailable
from nodeseal.findings import Finding, FindingId
from nodeseal.v1 import attestation_pb2
from nodeseal.wire.statuses import (
    INTERNAL,
    TABLE,
    details_of,
    error_of,
    metadata_of,
    refusal_of,
    status_of,
)

FINDING = Finding(id=FindingId.QUOTE_NONCE, expected="one\nline", seen="\x1b[31mred", where="here")


def classes(base: type[NodesealError]) -> Iterator[type[NodesealError]]:
    for each in base.__subclasses__():
        if each.__module__ == errors.__name__:
            yield each
            yield from classes(each)


def test_every_public_error_has_a_row() -> None:
    public = {each for each in classes(NodesealError) if not each.__name__.startswith("_")}
    assert public == {row.error for row in TABLE}


def test_every_status_stands_for_one_error() -> None:
    assert len({row.status for row in TABLE}) == len(TABLE)


def a_failure(error: Exception) -> grpc.aio.AioRpcError:
    """Return what the caller gets when a handler raises ``error``."""
    metadata = grpc.aio.Metadata(*metadata_of(error))
    return grpc.aio.AioRpcError(status_of(error), grpc.aio.Metadata(), metadata, details=details_of(error))


def an_error(kind: type[NodesealError]) -> NodesealError:
    return kind(FINDING) if issubclass(kind, (ProofFailed, PolicyRefused)) else kind("why")


@pytest.mark.parametrize("kind", [row.error for row in TABLE])
def test_an_error_arrives_as_what_it_was(kind: type[NodesealError]) -> None:
    refusal = refusal_of(a_failure(an_error(kind)))
    arrived = error_of(refusal, "verifier v:1")
    assert type(arrived) is refusal.error is kind
    assert bool(refusal.findings) == (kind in (ProofFailed, PolicyRefused))
    assert refusal.findings or str(arrived) == "verifier v:1: why"


@pytest.mark.parametrize("error", [ValueError("secret"), NodesealError("secret")])
def test_a_fault_of_the_verifier_arrives_as_one(error: Exception) -> None:
    refusal = refusal_of(a_failure(error))
    assert (refusal.error, refusal.details, refusal.remedy) == (
        NodesealError,
        INTERNAL,
        "the verifier's log says what happened",
    )
    assert type(error_of(refusal, "verifier")) is Unavailable


def test_findings_that_do_not_parse_are_none() -> None:
    metadata = grpc.aio.Metadata(("nodeseal-findings-bin", b"\xff"))
    failed = grpc.aio.AioRpcError(grpc.StatusCode.PERMISSION_DENIED, grpc.aio.Metadata(), metadata, details="why")
    assert refusal_of(failed).findings == ()


@pytest.mark.parametrize("error", [ValueError("secret"), NodesealError("secret"), RuntimeError("secret")])
def test_our_own_faults_tell_the_peer_nothing(error: Exception) -> None:
    assert status_of(error) is grpc.StatusCode.INTERNAL
    assert details_of(error) == INTERNAL


def test_the_remedy_goes_with_the_error() -> None:
    assert details_of(Unavailable("store: locked", remedy="wait")) == "store: locked (wait)"


def test_long_details_are_cut() -> None:
    assert details_of(Unavailable("x" * 5000)) == "x" * 1000


def test_an_error_of_a_class_without_a_row_is_a_fault_of_the_verifier() -> None:
    class Special(Unavailable):
        """A class that the table does not name."""

    assert status_of(Special("secret")) is grpc.StatusCode.INTERNAL
    assert details_of(Special("secret")) == INTERNAL


@pytest.mark.parametrize("kind", [ProofFailed, PolicyRefused])
def test_findings_travel_with_the_refusal_and_are_inert(kind: type[ProofFailed | PolicyRefused]) -> None:
    error = kind(FINDING)
    ((key, value),) = metadata_of(error)
    (finding,) = attestation_pb2.Verdict.FromString(value).findings
    assert key == "nodeseal-findings-bin"
    assert (finding.id, finding.expected, finding.seen) == ("quote.nonce", "one\\nline", "\\x1b[31mred")
    assert details_of(error).isprintable()


def test_findings_that_metadata_has_no_room_for_are_left_out() -> None:
    text = "x" * 5000
    long = Finding(id=FindingId.UEFI_COMMAND_LINE, expected=text, seen=text, where=text, event=text)
    ((_, value),) = metadata_of(PolicyRefused(FINDING, long, *[FINDING] * 100))
    found = [finding.id for finding in attestation_pb2.Verdict.FromString(value).findings]
    assert len(value) < 4200
    assert 10 < len(found) < 100
    assert set(found) == {"quote.nonce"}


def test_errors_without_findings_have_no_metadata() -> None:
    assert metadata_of(Unavailable("no")) == ()
