"""Whether the identity that a node shows is acceptable (DESIGN §4, step 2): pure, no I/O, no clock.

All checks are made and all findings reported. What is accepted here is only claimed until the TPM has opened the
credential (:mod:`nodeseal.verifier.enrolment.credential`): certificates and public areas are no secrets.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nodeseal.appraisal.model import TpmFacts
from nodeseal.crypto.endorsement import certified_form
from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.crypto.tls_key import requested_key
from nodeseal.crypto.weak_keys import weakness
from nodeseal.errors import MalformedInput, PolicyRefused, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import NodeId, node_id_of
from nodeseal.tpm.algorithms import STRONG_HASHES, ObjectAttributes
from nodeseal.tpm.ek_template import identify_ek_template, identity_name
from nodeseal.tpm.public import TpmPublic, decode_public
from nodeseal.verifier.enrolment.endorsement import (
    EnrolmentPolicy,
    ShownEndorsement,
    TrustedEndorsement,
    algorithm_name,
    vendor_id,
    verify_endorsement,
)

_AK_REQUIRED: Final = (
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
    | ObjectAttributes.RESTRICTED
    | ObjectAttributes.SIGN_ENCRYPT
)
_AK_FREE: Final = ObjectAttributes.USER_WITH_AUTH | ObjectAttributes.ADMIN_WITH_POLICY | ObjectAttributes.NO_DA
"""Who may use the key, and how often they may try, are the node's own affair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedIdentity:
    """What a node shows of itself, as it arrived.

    Attributes:
        ek_public: TPMT_PUBLIC of the endorsement key.
        ek_certificates: its certificates as read from NV; only the first counts, which certifies ``ek_public``.
        ek_chain: certificates of authorities, one or several in each, with or without filler.
        ak_public: TPMT_PUBLIC of the attestation key.
        certificate_request: PKCS #10 for the TLS client certificate.
    """

    ek_public: bytes
    ek_certificates: tuple[bytes, ...]
    ek_chain: tuple[bytes, ...]
    ak_public: bytes
    certificate_request: bytes

    @property
    def size(self) -> int:
        """Bytes of the certificates, by which the work of checking grows."""
        return sum(map(len, (*self.ek_certificates[:1], *self.ek_chain)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An acceptable identity that is not proved yet.

    Attributes:
        node_id: derived from the endorsement key, the same for each template that it may be shown under.
        ek: the endorsement key.
        ak: the attestation key.
        ek_template: name of the profile's template that the endorsement key was made from.
        endorsement: what is known of the TPM.
        certificate_request: PKCS #10, signed by its own key.
    """

    node_id: NodeId
    ek: TpmPublic
    ak: TpmPublic
    ek_template: str
    endorsement: TrustedEndorsement
    certificate_request: bytes

    @property
    def tpm(self) -> TpmFacts:
        """Facts about the TPM; proved once the challenge was answered."""
        return TpmFacts(manufacturer=vendor_id(self.endorsement.tpm_model), ek_algorithm=algorithm_name(self.ek))


def check_identity(identity: ClaimedIdentity, policy: EnrolmentPolicy, at: datetime) -> Candidate:
    """Decide whether a node may be challenged.

    Raises:
        MalformedInput: a public area or the request does not decode, or names an algorithm that is unknown.
        PolicyRefused: with every finding on endorsement key, attestation key and request.
    """
    ek, ak = decode_public(identity.ek_public), decode_public(identity.ak_public)
    findings = [*_ek_findings(ek), *_ak_findings(ak), *_request_findings(identity.certificate_request)]
    template, endorsement = "", TrustedEndorsement()
    try:
        template = identify_ek_template(ek).name
    except MalformedInput as error:
        findings.append(Finding(id=FindingId.EK_TEMPLATE, expected="a template of the EK profile", seen=str(error)))
    try:
        shown = ShownEndorsement(
            key=ek, raw=identity.ek_public, certificates=identity.ek_certificates, chain=identity.ek_chain
        )
        endorsement = verify_endorsement(shown, policy, at)
    except ProofFailed as error:
        findings += error.findings
    if findings:
        raise PolicyRefused(*findings)
    return Candidate(
        node_id=node_id_of(identity_name(ek)),
        ek=ek,
        ak=ak,
        ek_template=template,
        endorsement=endorsement,
        certificate_request=identity.certificate_request,
    )


def _ek_findings(ek: TpmPublic) -> Iterator[Finding]:
    weak = weakness(certified_form(ek))
    if weak:
        yield Finding(id=FindingId.EK_WEAK, expected="RSA from 2048 bits, P-256, P-384 or P-521", seen=weak)


def _ak_findings(ak: TpmPublic) -> Iterator[Finding]:
    for attribute in ObjectAttributes:
        if attribute in _AK_REQUIRED and attribute not in ak.attributes:
            yield Finding(id=FindingId.AK_ATTRIBUTES, expected="set", seen="clear", where=_label(attribute))
        if attribute in ak.attributes and attribute not in _AK_REQUIRED | _AK_FREE:
            yield Finding(id=FindingId.AK_ATTRIBUTES, expected="clear", seen="set", where=_label(attribute))
    if ak.name_alg not in STRONG_HASHES:
        yield _algorithm("names by SHA-256 or better", ak.name_alg.hashlib_name)
    try:
        SignatureVerifier(ak)
    except ProofFailed as error:
        yield from (_algorithm(each.expected, each.seen) for each in error.findings)
    except MalformedInput as error:
        yield _algorithm("a valid key", str(error))
    else:
        if weak := weakness(certified_form(ak)):
            yield _algorithm("a strong key", weak)


def _request_findings(certificate_request: bytes) -> tuple[Finding, ...]:
    try:
        requested_key(certificate_request)
    except ProofFailed as error:
        return error.findings
    return ()


def _algorithm(expected: str, seen: str) -> Finding:
    return Finding(id=FindingId.AK_ALGORITHM, expected=expected, seen=seen)


def _label(attribute: ObjectAttributes) -> str:
    return (attribute.name or str(attribute)).lower()
