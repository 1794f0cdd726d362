"""Findings: stable names for everything that can be wrong with a node, with what to do about it.

A finding says what was expected, what was seen and what to do next. Its id never changes meaning, so alerts and
runbooks may rely on it. ``docs/findings.md`` is generated from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

FINDINGS_METADATA = "nodeseal-findings-bin"
"""Key of a refused call's trailing metadata under which the findings travel, as a serialised ``Verdict``."""


class Severity(Enum):
    """What a finding does to the node."""

    WARNING = "warning"
    """Reported; trust is unchanged."""
    UNTRUSTED = "untrusted"
    """The node is not trusted until a later round comes out clean."""
    QUARANTINE = "quarantine"
    """The node is not trusted until a person has looked at it."""


class FindingId(Enum):
    """Everything that can be found, as ``id``, severity, meaning and remedy."""

    # Endorsement key and its certificate
    EK_ABSENT = (
        "ek.certificate-missing",
        Severity.UNTRUSTED,
        "the TPM shows no endorsement key certificate and the key is not on the allow list",
        "add the SHA-256 shown to enrolment.ek_allow if you know this TPM, or provision a certificate",
    )
    EK_MALFORMED = (
        "ek.certificate-malformed",
        Severity.UNTRUSTED,
        "the endorsement key certificate does not parse",
        "read the certificate from the TPM's NV index and report its bytes",
    )
    EK_UNTRUSTED_ROOT = (
        "ek.untrusted-root",
        Severity.UNTRUSTED,
        "the endorsement key certificate does not chain to a trusted root",
        "add the TPM vendor's root (and intermediates) to enrolment.ek_roots if you trust that vendor",
    )
    EK_SIGNATURE = (
        "ek.certificate-signature",
        Severity.UNTRUSTED,
        "a certificate of the endorsement key's chain is not signed by its issuer in an accepted way",
        "check the intermediates; a TPM below an authority that uses SHA-1 can only be put on the allow list",
    )
    EK_EXPIRED = (
        "ek.certificate-expired",
        Severity.UNTRUSTED,
        "a certificate of the endorsement key's chain is not valid now",
        "check the verifier's clock; if the vendor's certificate ran out, put the key on the allow list",
    )
    EK_USAGE = (
        "ek.certificate-usage",
        Severity.UNTRUSTED,
        "a certificate of the endorsement key's chain is not meant for that use",
        "this is not an endorsement key certificate; enrol with the TPM's own",
    )
    EK_KEY_MISMATCH = (
        "ek.key-mismatch",
        Severity.UNTRUSTED,
        "the certificate certifies another key than the endorsement key shown",
        "the certificate belongs to another TPM or another EK template; check NV indices and templates",
    )
    EK_TEMPLATE = (
        "ek.template",
        Severity.UNTRUSTED,
        "the endorsement key was not made from a template of the TCG EK Credential Profile",
        "recreate the endorsement key from a standard template",
    )
    EK_WEAK = (
        "ek.weak-key",
        Severity.UNTRUSTED,
        "the endorsement key's algorithm or size is not accepted, or its modulus has the ROCA fingerprint",
        "update the TPM's firmware and renew its keys, or replace the TPM",
    )
    # Attestation key
    AK_ATTRIBUTES = (
        "ak.attributes",
        Severity.UNTRUSTED,
        "the attestation key's attributes are not exactly those of a restricted signing key of this TPM",
        "create the attestation key anew; a key without these attributes can sign forged quotes",
    )
    AK_ALGORITHM = (
        "ak.algorithm",
        Severity.UNTRUSTED,
        "the attestation key's algorithm, curve, size, scheme or name algorithm is not accepted",
        "create an ECDSA P-256 or RSA 2048 attestation key with SHA-256",
    )
    AK_ACTIVATION = (
        "ak.activation",
        Severity.UNTRUSTED,
        "the TPM did not prove that it holds both the endorsement and the attestation key",
        "make sure that both keys belong to the same TPM, then enrol again",
    )
    # TLS identities
    TLS_REQUEST = (
        "tls.request",
        Severity.UNTRUSTED,
        "the certificate request is not signed by its own key, or the key is not accepted",
        "make a new P-256 key and request; the agent does so when its state directory is empty",
    )
    TLS_CERTIFICATE = (
        "tls.certificate",
        Severity.UNTRUSTED,
        "the TLS certificate does not name exactly one node, person or verifier of this system",
        "use the certificate that the verifier issued",
    )
    NODE_UNKNOWN = (
        "node.unknown",
        Severity.UNTRUSTED,
        "the verifier knows no such node, or another certificate speaks for it now",
        "enrol the node again",
    )
    NODE_RETIRED = (
        "node.retired",
        Severity.UNTRUSTED,
        "the node was retired, which is for good",
        "use another machine; a retired node's endorsement key is not accepted again",
    )
    NODE_NOT_TRUSTED = (
        "node.not-trusted",
        Severity.UNTRUSTED,
        "only a node that is trusted now may do this",
        "see the node's findings: nodeseal node show NODE",
    )
    # People
    PERSON_UNKNOWN = (
        "person.unknown",
        Severity.UNTRUSTED,
        "the verifier knows no such person, or another certificate speaks for them now",
        "ask for a certificate: nodeseal-verifier person add",
    )
    PERSON_ROLE = (
        "person.role",
        Severity.UNTRUSTED,
        "the caller has none of the roles that may do this",
        "ask somebody who has the role, or for the role: nodeseal-verifier person add",
    )
    # Quotes
    QUOTE_MALFORMED = (
        "quote.malformed",
        Severity.UNTRUSTED,
        "the attestation structure or its signature does not parse, or is not what was asked for",
        "update the agent; if it is current, treat the node as hostile",
    )
    QUOTE_SIGNATURE = (
        "quote.signature",
        Severity.UNTRUSTED,
        "the signature does not verify under the node's enrolled attestation key",
        "enrol the node again if its TPM was replaced on purpose",
    )
    QUOTE_ALGORITHM = (
        "quote.algorithm",
        Severity.UNTRUSTED,
        "the signature's scheme or hash is not the one of the attestation key, or is not accepted",
        "use SHA-256 or better; SHA-1 signatures are never accepted",
    )
    QUOTE_NONCE = (
        "quote.nonce",
        Severity.UNTRUSTED,
        "the answer does not belong to an open challenge: replayed, late, or answered twice",
        "check the network delay to the verifier and the agent's log",
    )
    QUOTE_BINDING = (
        "quote.binding",
        Severity.UNTRUSTED,
        "the quote was not made for this challenge, purpose, node, TLS channel, trust domain and claims",
        "treat the node as hostile: a quote was relayed, reused or its claims were changed",
    )
    QUOTE_SELECTION = (
        "quote.selection",
        Severity.UNTRUSTED,
        "the quote does not cover exactly the PCRs that were asked for",
        "check that the TPM has the bank and PCRs that the verifier's configuration names",
    )
    # PCR values
    PCR_DIGEST = (
        "pcr.digest",
        Severity.UNTRUSTED,
        "the PCR values sent are not the ones that were quoted",
        "the values changed while they were read, or were forged; the next round will tell",
    )
    PCR_MISMATCH = (
        "pcr.mismatch",
        Severity.UNTRUSTED,
        "a PCR has a value that no active golden allows",
        "compare the node with the golden; capture and activate a new golden if the change was intended",
    )
    PCR_UNEXTENDED = (
        "pcr.unextended-bank",
        Severity.UNTRUSTED,
        "a boot PCR still has its reset value, so firmware measured nothing into it",
        "enable this PCR bank in the firmware's settings, or quote another bank",
    )
    PCR_CAPPED = (
        "pcr.capped",
        Severity.UNTRUSTED,
        "the cap PCR was extended: this boot has lost its leases",
        "reboot the node",
    )
    # Time and reset
    CLOCK_RESET = (
        "clock.reset-without-reboot",
        Severity.UNTRUSTED,
        "the TPM was reset or restarted while the node claims to run on",
        "treat the node as hostile: a TPM reset in mid life lets an attacker replay measurements",
    )
    CLOCK_ROLLBACK = (
        "clock.rollback",
        Severity.QUARANTINE,
        "the TPM's clock ran backwards",
        "find out whether TPM state was restored or cleared, then lift the quarantine or retire the node",
    )
    CLOCK_UNSAFE = (
        "clock.unsafe",
        Severity.WARNING,
        "the TPM lost power without notice and its clock may have been set back",
        "nothing to do: it ends when the clock passes its last saved value",
    )
    # Reference values
    GOLDEN_NONE = (
        "golden.none",
        Severity.UNTRUSTED,
        "no golden measurement is active, so nothing is trusted",
        "capture a golden from a node you trust and activate it",
    )
    # Key release
    RELEASE_KEY = (
        "release.key",
        Severity.UNTRUSTED,
        "the release key is not a P-256 key that only this TPM can use, and only by policy",
        "update the agent; a release key must be created in the TPM under a PCR policy",
    )
    RELEASE_CERTIFY = (
        "release.certify",
        Severity.UNTRUSTED,
        "the attestation key did not certify this release key in this exchange",
        "update the agent; if it is current, treat the node as hostile",
    )
    RELEASE_POLICY = (
        "release.policy",
        Severity.UNTRUSTED,
        "the release key's policy is not TPM2_PolicyPCR over the quoted values",
        "PCRs changed during the exchange; try again",
    )
    RELEASE_STATE = (
        "release.node-state",
        Severity.UNTRUSTED,
        "the node's state does not allow releases",
        "see the node's findings, admit it, or lift its quarantine",
    )
    RELEASE_MODEL = (
        "release.model-unregistered",
        Severity.UNTRUSTED,
        "the model digest is not registered with the verifier",
        "register the model if its content is what it should be: nodeseal model register",
    )
    RELEASE_SLOT = (
        "release.slot",
        Severity.UNTRUSTED,
        "none of the model's slots belongs to a key that the verifier holds and can open it with",
        "seal to a public key of this verifier, and keep slots with their own model",
    )
    RELEASE_GRANT = (
        "release.not-granted",
        Severity.UNTRUSTED,
        "the model key is not granted to this node",
        "nodeseal key grant KEY --node NODE",
    )
    RELEASE_LIMIT = (
        "release.lease-limit",
        Severity.UNTRUSTED,
        "as many leases of this key are running as its grant allows",
        "close a model on another node, or raise the limit of the grant",
    )
    RELEASE_WRAPPED = (
        "release.wrapped",
        Severity.UNTRUSTED,
        "the verifier's reply does not open with this node's release key and context",
        "the reply was made for another node, lease or model, or was changed on its way; open the model again",
    )
    RELEASE_TPM = (
        "release.tpm-refused",
        Severity.UNTRUSTED,
        "the TPM refused to use the release key: a measured PCR changed since the release, or the TPM was reset",
        "open the model again; if that is refused too, see the node's findings",
    )
    # Local callers of the agent
    CALLER_REFUSED = (
        "caller.refused",
        Severity.UNTRUSTED,
        "the local process is not allowed to ask for keys",
        "add a rule for its user, executable or unit to the agent's configuration",
    )
    # Sealed models
    SEALED_MODEL = (
        "sealed.model-digest",
        Severity.UNTRUSTED,
        "the key was released for another model than the one in the directory",
        "the directory was changed or mixed with another version; copy the sealed model again",
    )
    SEALED_FILE = (
        "sealed.file",
        Severity.UNTRUSTED,
        "a file of a sealed model is missing, has another size, or is not the one its content file covers",
        "copy the sealed model again; if the file was changed on purpose, seal and register the model anew",
    )
    SEALED_HEADER = (
        "sealed.header",
        Severity.UNTRUSTED,
        "the header of a sealed file does not belong to the data key and the content file",
        "the file was changed, or belongs to another model; copy the sealed model again",
    )
    SEALED_SEGMENT = (
        "sealed.segment",
        Severity.UNTRUSTED,
        "a segment of a sealed file was changed, moved, cut or replaced",
        "copy the sealed model again; if the storage damages files, replace it",
    )
    SEALED_LEASE = (
        "sealed.lease-ended",
        Severity.UNTRUSTED,
        "the node lost the right to use the model, or the model was closed",
        "see the node's findings; open the model again once the node is trusted",
    )

    def __init__(self, code: str, severity: Severity, meaning: str, remedy: str) -> None:
        self.code = code
        self.severity = severity
        self.meaning = meaning
        self.remedy = remedy


BY_CODE = {finding.code: finding for finding in FindingId}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        id: which.
        expected: what policy or protocol asks for.
        seen: what was there.
        where: the PCR, key, file or setting concerned, or an empty string.
    """

    id: FindingId
    expected: str
    seen: str
    where: str = ""

    @property
    def remedy(self) -> str:
        """What an operator does next."""
        return self.id.remedy

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"{self.id.code}{place}: expected {self.expected}, seen {self.seen}"
