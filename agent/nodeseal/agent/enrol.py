"""Enrolment: the verifier gets to know this TPM and signs a certificate for it (DESIGN §4).

One stream for each attempt, no state on either side if it breaks: the TLS key is new each time, and nothing is written
before the verifier's last message. A restart enrols again, which replaces the attestation key's record by itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final

import structlog

from nodeseal.agent.calls.channels import CALL_SECONDS, VerifierConfig, enrolment_channel, receive, send, translated
from nodeseal.agent.evidence.attester import Attester
from nodeseal.agent.identity import Identity
from nodeseal.agent.tpm.device import Device, TpmIdentity
from nodeseal.agent.tpm.failures import TpmBusy, TpmFailed, TpmLost
from nodeseal.agent.tpm.owner import TpmOwner
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.errors import MalformedInput, PolicyRefused
from nodeseal.findings import Finding
from nodeseal.ids import digest_of
from nodeseal.v1 import enrollment_pb2, enrollment_pb2_grpc

_ABOUT_THE_KEY: Final = "ek."
_log: Final = structlog.get_logger("nodeseal.agent")


async def enrol(config: VerifierConfig, tpm: TpmOwner, attester: Attester, first: str = "") -> Identity:
    """Enrol this node; the caller saves the identity.

    The verifier is shown one endorsement key after the other, each with its certificate, until it accepts one.

    Args:
        config: where the verifier is.
        tpm: this node's TPM.
        attester: knows what this node says of itself.
        first: template of the endorsement key to begin with; empty: the best one.

    Raises:
        PolicyRefused: the verifier does not accept this TPM; the findings say why.
        Unavailable: TPM or verifier cannot be reached.
        MalformedInput: the verifier's answer makes no sense.
    """
    refused: list[Finding] = []
    async for shown in each_identity(tpm, first):
        try:
            return await _enrol(config, tpm, attester, shown)
        except PolicyRefused as error:
            if not all(finding.id.code.startswith(_ABOUT_THE_KEY) for finding in error.findings):
                raise  # another endorsement key would make another node of this one, and help nobody
            digest = digest_of(shown.ek_public)
            _log.warning("endorsement key refused", template=shown.template, ek_sha256=digest, error=str(error))
            refused += error.findings
    raise PolicyRefused(*dict.fromkeys(refused))


async def each_identity(tpm: TpmOwner, first: str = "") -> AsyncIterator[TpmIdentity]:
    """Let the TPM use one of its endorsement keys after the other, and give what it shows with each.

    Args:
        tpm: this node's TPM.
        first: template of the key to begin with; empty: the best one.

    Raises:
        TpmFailed: it can make none of them.
        Unavailable: it cannot be reached.
    """
    failure: TpmFailed | None = None
    templates = await tpm.call(lambda device: device.templates())
    for template in sorted(templates, key=lambda each: each != first):
        try:
            shown = await tpm.call(_using(template))
        except (TpmBusy, TpmLost):
            raise
        except TpmFailed as error:
            failure = failure or error  # the TPM lacks the curve or size
        else:
            yield shown
    if failure is not None:
        raise failure


def _using(template: str) -> Callable[[Device], TpmIdentity]:
    return lambda device: device.use(template)


async def _enrol(config: VerifierConfig, tpm: TpmOwner, attester: Attester, shown: TpmIdentity) -> Identity:
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
