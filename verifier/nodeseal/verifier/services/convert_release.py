"""Messages of ``nodeseal.v1.KeyRelease`` to values and back; no decisions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from nodeseal.appraisal.release import Certification
from nodeseal.errors import MalformedInput
from nodeseal.ids import LeaseId, parse_lease_id
from nodeseal.tpm.public import decode_public
from nodeseal.v1 import key_release_pb2
from nodeseal.verifier.release.approval import ReleaseProof, Request
from nodeseal.verifier.release.entitlement import Wanted
from nodeseal.verifier.release.releases import Released
from nodeseal.verifier.services.convert import fill_challenge
from nodeseal.wire.evidence import evidence_from_proto
from nodeseal.wire.messages import fill_timestamp, selection_to_proto, slots_from_proto

_MAX_RETURNED: Final = 1024
"""Leases that one call may return; a node claims far fewer."""


def wanted_from_proto(message: key_release_pb2.Ask) -> Wanted:
    """Return the model and slots that a node asks for.

    Raises:
        MalformedInput: no slots, as from agents of the first release, or slots that do not parse.
    """
    slots = slots_from_proto(message.slots, "nodeseal-agent")
    return Wanted(model_digest=slots.model_digest, slots=slots.slots)


def proof_from_proto(message: key_release_pb2.Proof) -> ReleaseProof:
    """Return a node's proof.

    Raises:
        MalformedInput: the release key's public area does not decode.
    """
    return ReleaseProof(
        evidence=evidence_from_proto(message.evidence),
        release_public=decode_public(message.release_public),
        certification=Certification(
            claims=message.evidence.claims, attest=message.certify_attest, signature=message.certify_signature
        ),
    )


def request_to_proto(request: Request) -> key_release_pb2.ReleaseResponse:
    """Return a release's challenge."""
    message = key_release_pb2.ReleaseResponse()
    fill_challenge(message.challenge.challenge, request.asked)
    message.challenge.policy_selection.CopyFrom(selection_to_proto(request.policy))
    return message


def released_to_proto(released: Released) -> key_release_pb2.ReleaseResponse:
    """Return the answer that carries the wrapped data key."""
    message = key_release_pb2.Released(
        lease_id=released.lease_id,
        context=released.context,
        enc=released.sealed.enc,
        wrapped=released.sealed.wrapped,
        trusted_for_ms=released.trusted_for_ms,
        silence_seconds=released.silence_seconds,
    )
    if released.trusted_until is not None:
        fill_timestamp(message.trusted_until, released.trusted_until)
    return key_release_pb2.ReleaseResponse(released=message)


def leases_from_proto(texts: Iterable[str]) -> tuple[LeaseId, ...]:
    """Return lease ids.

    Raises:
        MalformedInput: a text that is no lease id, or more than 1024 of them.
    """
    leases = tuple(map(parse_lease_id, texts))
    if len(leases) > _MAX_RETURNED:
        raise MalformedInput(f"{len(leases)} leases, at most {_MAX_RETURNED}")
    return leases
