"""Renewal of the certificate: for a quote of this TPM that names the new TLS key (DESIGN §4).

The old TLS key alone renews nothing, so whoever copied it from the disk cannot pass the node's identity on.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from typing import Final

from nodeseal.agent.calls.channels import CALL_SECONDS, Link, receive, send, translated
from nodeseal.agent.calls.messages import parse_challenge
from nodeseal.agent.evidence.attester import Attester
from nodeseal.agent.identity import Identity
from nodeseal.agent.release.leases import Leases
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.errors import MalformedInput
from nodeseal.evidence.binding import Purpose
from nodeseal.v1 import attestation_pb2, attestation_pb2_grpc
from nodeseal.wire.evidence import evidence_to_proto

_OLD_VERIFIER: Final = "update nodeseal-verifier, if it is older than this agent"


async def renew(link: Link, attester: Attester, leases: Leases) -> Identity:
    """Return a new identity of this node, with a new TLS key; the caller saves it.

    Raises:
        PolicyRefused: the node is not trusted now, or its evidence does not allow it.
        ProofFailed: the verifier does not believe the evidence.
        Unavailable: TPM or verifier cannot be reached.
        MalformedInput: the verifier's answer makes no sense.
    """
    key = new_tls_key()
    request = certificate_request(key, attester.hostname)
    with translated(link.address):
        call = attestation_pb2_grpc.AttestationStub(link.channel).Renew(timeout=CALL_SECONDS)
        try:
            await send(call, attestation_pb2.RenewRequest(certificate_request=request))
            asked = await receive(call, attestation_pb2.RenewResponse, link.address)
            if not asked.HasField("challenge"):
                raise MalformedInput("renewal: the verifier asks for no quote", remedy=_OLD_VERIFIER)
            channel = replace(link.identity.channel, request_sha256=sha256(request).digest())
            made = await attester.answer(Purpose.RENEW, parse_challenge(asked.challenge), channel, leases.ids())
            for message in evidence_to_proto(made.evidence(with_values=True)):
                await send(call, attestation_pb2.RenewRequest(evidence=message))
            response = await receive(call, attestation_pb2.RenewResponse, link.address)
        finally:
            call.cancel()
    renewed = Identity.of(key, tuple(response.certificate_chain))
    if renewed.channel.node_id != link.identity.node_id:
        raise MalformedInput("renewal: the certificate names another node")
    return renewed
