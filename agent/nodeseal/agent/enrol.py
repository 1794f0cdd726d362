"""Enrolment: the verifier gets to know this TPM and signs a certificate for it (DESIGN §4).

One stream, no state on either side if it breaks: the TLS key is new each time, and nothing is written before the
verifier's last message. A restart enrols again, which replaces the attestation key's record by itself.
"""

from __future__ import annotations

from nodeseal.agent.calls.channels import CALL_SECONDS, VerifierConfig, enrolment_channel, receive, send, translated
from nodeseal.agent.evidence.attester import Attester
from nodeseal.agent.identity import Identity
from nodeseal.agent.tpm.device import TpmIdentity
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.errors import MalformedInput
from nodeseal.v1 import enrollment_pb2, enrollment_pb2_grpc


async def enrol(config: VerifierConfig, tpm: TpmOwner, attester: Attester) -> Identity:
    """Enrol this node; the caller saves the identity.

    Raises:
        ProofFailed: the verifier does not accept this TPM; the findings say why.
        Unavailable: TPM or verifier cannot be reached.
        MalformedInput: the verifier's answer makes no sense.
    """
    shown = await tpm.call(lambda device: device.identity())
    key = new_tls_key()
    request = _identity_message(shown, certificate_request(key, attester.hostname), attester)
    async with enrolment_channel(config) as channel:
        with translated(config.enrol_address):
            call = enrollment_pb2_grpc.EnrollmentStub(channel).Enroll(timeout=CALL_SECONDS)
            await send(call, enrollment_pb2.EnrollRequest(identity=request))
            challenge = (await receive(call, enrollment_pb2.EnrollResponse, config.enrol_address)).challenge
            secret = await tpm.call(lambda device: device.activate(challenge.id_object, challenge.encrypted_secret))
            activation = enrollment_pb2.Activation(secret=secret)
            await send(call, enrollment_pb2.EnrollRequest(activation=activation))
            enrolled = (await receive(call, enrollment_pb2.EnrollResponse, config.enrol_address)).enrolled
    return _accept(key, enrolled)


def _accept(key: bytes, enrolled: enrollment_pb2.Enrolled) -> Identity:
    identity = Identity.of(key, tuple(enrolled.certificate_chain))
    if (identity.node_id, identity.peer.trust_domain) != (enrolled.node_id, enrolled.trust_domain):
        raise MalformedInput("enrolment: the certificate names another node or trust domain than the answer")
    return identity


def _identity_message(shown: TpmIdentity, request: bytes, attester: Attester) -> enrollment_pb2.Identity:
    return enrollment_pb2.Identity(
        ek_public=shown.ek_public,
        ek_certificates=shown.ek_certificates,
        ek_chain=shown.ek_chain,
        ak_public=shown.ak_public,
        certificate_request=request,
        facts=enrollment_pb2.NodeFacts(
            hostname=attester.hostname,
            boot_id=attester.boot_id(),
            tpm_manufacturer=shown.manufacturer,
            tpm_firmware=shown.firmware,
        ),
    )
