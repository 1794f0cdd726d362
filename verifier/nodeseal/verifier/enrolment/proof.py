"""Whether the identity that a node shows is acceptable (DESIGN §4, steps 2 and 3): pure, no I/O, no clock.

An endorsement key is accepted if its certificate chains to a configured root, or if its SHA-256 is on the allow list.
The allow list holds the SHA-256 of the TPMT_PUBLIC, so that it names the key with its attributes and policy; for the
usual keys it is what follows ``000b`` in the key's TPM name (``tpm2_readpublic -n``, ``tpm2_createek -f tpmt`` and
``sha256sum``). An empty policy trusts nothing.

All checks are made and all findings reported. What is accepted here is only claimed until the TPM has opened the
credential (:class:`CredentialChallenge`): certificates and public areas are no secrets.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nodeseal.appraisal.model import TpmFacts
from nodeseal.crypto.credential import MadeCredential, make_credential
from nodeseal.crypto.endorsement import certified_form, verify_ek_chain
from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.crypto.tls_key import requested_key
from nodeseal.crypto.weak_keys import weakness
from nodeseal.errors import MalformedInput, OutOfOrder, PolicyRefused, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.ids import Digest, NodeId, digest_of, node_id_of
from nodeseal.tpm.algorithms import STRONG_HASHES, ObjectAttributes
from nodeseal.tpm.ek_template import identify_ek_template, identity_name
from nodeseal.tpm.public import RsaPublic, TpmPublic, decode_public
from nodeseal.x509.certificate import (
    Certificate,
    decode_certificate,
    decode_certificate_file,
    split_certificates,
)
from nodeseal.x509.extensions import TpmModel

SECRET_SIZE: Final = 32
MAX_CHAIN: Final = 64 * 1024
"""Bytes of all authorities' certificates that one node may present."""
_AK_REQUIRED: Final = (
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
    | ObjectAttributes.RESTRICTED
    | ObjectAttributes.SIGN_ENCRYPT
)
_AK_FREE: Final = ObjectAttributes.USER_WITH_AUTH | ObjectAttributes.ADMIN_WITH_POLICY | ObjectAttributes.NO_DA
"""Who may use the key, and how often they may try, are the node's own affair."""
_VENDOR: Final = re.compile(r"id:([0-9A-Fa-f]{8})")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentPolicy:
    """Which endorsement keys are trusted.

    Attributes:
        roots: authorities that are trusted.
        intermediates: authorities that help to find a path and are not trusted by themselves.
        ek_allow: SHA-256 of the TPMT_PUBLIC of endorsement keys that need no certificate.
    """

    roots: tuple[Certificate, ...]
    intermediates: tuple[Certificate, ...]
    ek_allow: frozenset[Digest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An acceptable identity that is not proved yet.

    Attributes:
        node_id: derived from the endorsement key, the same for each template that it may be shown under.
        ek: the endorsement key.
        ak: the attestation key.
        ek_template: name of the profile's template that the endorsement key was made from.
        tpm_model: what the certificate says of the TPM; empty for a key on the allow list.
        certificate_request: PKCS #10, signed by its own key.
    """

    node_id: NodeId
    ek: TpmPublic
    ak: TpmPublic
    ek_template: str
    tpm_model: TpmModel
    certificate_request: bytes

    @property
    def tpm(self) -> TpmFacts:
        """What is proved about the TPM, once the challenge was answered."""
        return TpmFacts(manufacturer=vendor_id(self.tpm_model), ek_algorithm=algorithm_name(self.ek))


class CredentialChallenge:
    """A secret that only a TPM with both keys can open, and one attempt at it."""

    __slots__ = ("_secret", "candidate", "credential")

    def __init__(self, candidate: Candidate, secret: bytes) -> None:
        """Wrap ``secret``, which is random and used for nothing else.

        Raises:
            MalformedInput: the endorsement key cannot encrypt.
        """
        if len(secret) != SECRET_SIZE:
            raise ValueError(f"a secret of {len(secret)} bytes")
        self._secret: bytes | None = secret
        self.candidate: Final = candidate
        self.credential: Final[MadeCredential] = make_credential(candidate.ek, candidate.ak.name(), secret)

    def activate(self, answer: bytes) -> Candidate:
        """Check, in constant time, what TPM2_ActivateCredential returned, and return what it proves.

        Raises:
            ProofFailed: ``ak.activation``: another secret.
            OutOfOrder: it was answered before, rightly or not.
        """
        secret, self._secret = self._secret, None
        if secret is None:
            raise OutOfOrder("a credential challenge has one attempt")
        if not hmac.compare_digest(secret, answer):
            raise ProofFailed(
                Finding(id=FindingId.AK_ACTIVATION, expected="the secret of this challenge", seen="another one")
            )
        return self.candidate


def vendor_id(model: TpmModel) -> str:
    """Return the maker's TCG vendor id as goldens name it: ``IFX``, or ``id:00001014`` where it is no word.

    The certificate writes ``id:`` and four bytes in hex, filled up with zeros or spaces (EK Credential Profile,
    tpmManufacturer; TCG TPM Vendor ID Registry). Empty if it says nothing of the kind.
    """
    match = _VENDOR.fullmatch(model.manufacturer)
    if match is None:
        return ""
    word = bytes.fromhex(match[1]).rstrip(b"\0 ")
    return word.decode("ascii") if word.isalnum() else f"id:{match[1].upper()}"


def algorithm_name(ek: TpmPublic) -> str:
    """Return the kind of an endorsement key as goldens name it (``nodeseal.golden.rules.EK_ALGORITHMS``)."""
    return f"rsa{ek.key_bits}" if isinstance(ek, RsaPublic) else f"ecc-{ek.curve.name.lower()}"


def enrolment_policy(files: Mapping[str, bytes], ek_allow: frozenset[Digest]) -> EnrolmentPolicy:
    """Sort authorities' certificates (file name to PEM or DER): self-issued ones are roots, others intermediates.

    Raises:
        MalformedInput: a file does not decode; names it.
    """
    authorities = [each for name, raw in files.items() for each in decode_certificate_file(raw, name)]
    return EnrolmentPolicy(
        roots=tuple(each for each in authorities if each.subject == each.issuer),
        intermediates=tuple(each for each in authorities if each.subject != each.issuer),
        ek_allow=ek_allow,
    )


def check_identity(identity: ClaimedIdentity, policy: EnrolmentPolicy, at: datetime) -> Candidate:
    """Decide whether a node may be challenged.

    Raises:
        MalformedInput: a public area or the request does not decode, or names an algorithm that is unknown.
        PolicyRefused: with every finding on endorsement key, attestation key and request.
    """
    ek, ak = decode_public(identity.ek_public), decode_public(identity.ak_public)
    findings = [*_ek_findings(ek), *_ak_findings(ak), *_request_findings(identity.certificate_request)]
    template, model = "", TpmModel()
    try:
        template = identify_ek_template(ek).name
    except MalformedInput as error:
        findings.append(Finding(id=FindingId.EK_TEMPLATE, expected="a template of the EK profile", seen=str(error)))
    try:
        model = _endorsed(ek, identity, policy, at)
    except ProofFailed as error:
        findings += error.findings
    if findings:
        raise PolicyRefused(*findings)
    return Candidate(
        node_id=node_id_of(identity_name(ek)),
        ek=ek,
        ak=ak,
        ek_template=template,
        tpm_model=model,
        certificate_request=identity.certificate_request,
    )


def _endorsed(ek: TpmPublic, identity: ClaimedIdentity, policy: EnrolmentPolicy, at: datetime) -> TpmModel:
    """Return the TPM's model if the endorsement key is trusted; raises ProofFailed with all findings if not."""
    digest = digest_of(identity.ek_public)
    if digest in policy.ek_allow:
        return TpmModel()
    if not identity.ek_certificates:
        raise ProofFailed(
            Finding(
                id=FindingId.EK_ABSENT,
                expected="a certificate, or this key on the allow list",
                seen=f"no certificate, and SHA-256 of the public area {digest}",
            )
        )
    try:
        leaf = decode_certificate(identity.ek_certificates[0])
    except MalformedInput as error:
        raise ProofFailed(_malformed(error)) from error
    findings = [] if leaf.key == certified_form(ek) else [_another_key(digest)]
    presented, unreadable = _presented(identity.ek_chain)
    try:
        chain = verify_ek_chain(leaf, (*policy.intermediates, *presented), policy.roots, at)
    except ProofFailed as error:
        raise ProofFailed(*findings, *error.findings, *unreadable) from error
    if findings:
        raise ProofFailed(*findings)
    return chain.tpm_model


def _presented(ek_chain: tuple[bytes, ...]) -> tuple[list[Certificate], list[Finding]]:
    """Decode presented authorities; that they do not decode matters only, and is told only, if no path is found."""
    size = sum(map(len, ek_chain))
    if size > MAX_CHAIN:
        raise MalformedInput(f"EK certificate chain: {size} bytes, at most {MAX_CHAIN}")
    try:
        return [decode_certificate(raw) for raw in split_certificates(b"".join(ek_chain))], []
    except MalformedInput as error:
        return [], [_malformed(error, "certificate chain")]


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


def _malformed(error: MalformedInput, where: str = "") -> Finding:
    return Finding(id=FindingId.EK_MALFORMED, expected="an X.509 certificate", seen=str(error), where=where)


def _another_key(digest: Digest) -> Finding:
    return Finding(
        id=FindingId.EK_KEY_MISMATCH,
        expected="a certificate of the key shown",
        seen=f"a certificate of another key; SHA-256 of the public area shown {digest}",
    )


def _label(attribute: ObjectAttributes) -> str:
    return (attribute.name or str(attribute)).lower()
