"""Errors to gRPC status: every class has its row, and nobody is told what is not theirs."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from nodeseal import errors
from nodeseal.errors import NodesealError, PolicyRefused, ProofFailed, Unavailable
from nodeseal.findings import Finding, FindingId
from nodeseal.v1 import attestation_pb2
from nodeseal.verifier.services.status import CODES, INTERNAL, code_of, details_of, metadata_of

FINDING = Finding(id=FindingId.QUOTE_NONCE, expected="one\nline", seen="\x1b[31mred", where="here")


def classes(base: type[NodesealError]) -> Iterator[type[NodesealError]]:
    for each in base.__subclasses__():
        if each.__module__ == errors.__name__:
            yield each
            yield from classes(each)


def test_every_public_error_has_a_row() -> None:
    public = {each for each in classes(NodesealError) if not each.__name__.startswith("_")}
    assert public == set(CODES)


@pytest.mark.parametrize("error", [ValueError("secret"), NodesealError("secret"), RuntimeError("secret")])
def test_our_own_faults_tell_the_peer_nothing(error: Exception) -> None:
    assert code_of(error) is grpc.StatusCode.INTERNAL
    assert details_of(error) == INTERNAL


def test_the_remedy_goes_with_the_error() -> None:
    assert details_of(Unavailable("store: locked", remedy="wait")) == "store: locked (wait)"


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
