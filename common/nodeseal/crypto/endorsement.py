"""Chains of endorsement key certificates: RFC 5280 §6.1 as far as TPM vendors use it, and the EK profile's rules.

Checked by RFC 5280: names chain byte by byte, signatures, validity, CA flag, path length, keyCertSign, extended key
usage of authorities, and no unknown critical extension. Not supported: name and policy constraints (no vendor uses
them; critical ones are refused) and revocation lists (vendors publish hardly any; retire such a node, or remove the
intermediate from the configuration). Checked by the TCG EK Credential Profile for TPM Family 2.0: the key's certificate
is no authority; keyEncipherment for RSA, keyAgreement for ECC; tcg-kp-EKCertificate, if there is an extended key usage.

Roots are the certificates that the operator configured, whoever signed them. A root must be an authority and valid,
too. The search is bounded: six certificates from EK to root, and 32 signature checks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nodeseal.crypto.issuance import signature_fault
from nodeseal.errors import ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.tpm.public import RsaPublic, TpmPublic
from nodeseal.x509 import extensions
from nodeseal.x509.certificate import Certificate, EcKey, RsaKey, name_text
from nodeseal.x509.extensions import EK_CERTIFICATE, BasicConstraints, KeyUsage, TpmModel

MAX_PATH: Final = 6
"""Most certificates in a chain, from the endorsement key's to the root."""
MAX_SIGNATURE_CHECKS: Final = 32
_ANY_USAGE: Final = "2.5.29.37.0"
_EMPTY_NAME: Final = b"\x30\x00"
_UNDERSTOOD: Final = frozenset(
    {
        extensions.KEY_USAGE,
        extensions.SUBJECT_ALTERNATIVE_NAME,
        extensions.BASIC_CONSTRAINTS,
        extensions.CERTIFICATE_POLICIES,
        extensions.EXTENDED_KEY_USAGE,
    }
)


@dataclass(frozen=True, slots=True)
class EkChain:
    """A verified chain. Only :func:`verify_ek_chain` builds one.

    Attributes:
        path: certificates, the endorsement key's first and the trusted root last.
    """

    path: tuple[Certificate, ...]

    @property
    def key(self) -> RsaKey | EcKey:
        """The certified endorsement key."""
        return self.path[0].key

    @property
    def tpm_model(self) -> TpmModel:
        """The TPM as its vendor describes it."""
        return self.path[0].extensions.tpm_model


def verify_ek_chain(
    leaf: Certificate, intermediates: Sequence[Certificate], roots: Sequence[Certificate], at: datetime
) -> EkChain:
    """Verify that ``leaf`` certifies an endorsement key under a trusted root.

    Args:
        leaf: the endorsement key's certificate.
        intermediates: authorities that are not trusted themselves, configured or presented by the node.
        roots: trusted authorities.
        at: current time.

    Raises:
        ProofFailed: with every finding about the leaf and about the path with the fewest findings:
            ``ek.untrusted-root``, ``ek.certificate-signature``, ``ek.certificate-expired``, ``ek.certificate-usage``.
    """
    wrong = [*_leaf_findings(leaf), *_common_findings(leaf, at)]
    search = _Search(intermediates, roots)
    least: list[Finding] | None = None
    for path in search.paths((leaf,)):
        found = _path_findings(path, at)
        if not found and not wrong:
            return EkChain(path)
        if least is None or len(found) < len(least):
            least = found
    wrong += search.failure(leaf) if least is None else least
    raise ProofFailed(*wrong)


def certified_form(public: TpmPublic) -> RsaKey | EcKey:
    """Return the key of a public area in the form of certificates, for comparison."""
    if isinstance(public, RsaPublic):
        return RsaKey(int.from_bytes(public.modulus, "big"), public.public_exponent)
    return EcKey(public.curve, int.from_bytes(public.x, "big"), int.from_bytes(public.y, "big"))


class _Search:
    """Depth-first search for paths whose names and signatures chain. Roots are tried before intermediates."""

    def __init__(self, intermediates: Sequence[Certificate], roots: Sequence[Certificate]) -> None:
        self._roots = {root.raw for root in roots}
        unique = {each.raw: each for each in (*roots, *intermediates)}
        self._authorities = [each for each in unique.values() if each.subject != _EMPTY_NAME]
        self._checks_left = MAX_SIGNATURE_CHECKS
        self._faults: list[Finding] = []

    def paths(self, path: tuple[Certificate, ...]) -> Iterator[tuple[Certificate, ...]]:
        """Yield every complete continuation of ``path``."""
        last = path[-1]
        for issuer in self._authorities:
            if issuer.subject != last.issuer or not self._signed(last, issuer):
                continue
            if issuer.raw in self._roots:
                yield (*path, issuer)
            elif len(path) + 1 < MAX_PATH:
                yield from self.paths((*path, issuer))

    def failure(self, leaf: Certificate) -> list[Finding]:
        """Return the findings when there is no path."""
        expected = f"a chain of at most {MAX_PATH} certificates to one of {len(self._roots)} trusted roots"
        seen = f"issuer {name_text(leaf.issuer)}"
        return [Finding(id=FindingId.EK_UNTRUSTED_ROOT, expected=expected, seen=seen), *self._faults]

    def _signed(self, certificate: Certificate, issuer: Certificate) -> bool:
        if not self._checks_left:
            return False
        self._checks_left -= 1
        fault = signature_fault(certificate, issuer)
        if fault:
            where = f"{name_text(certificate.subject)} by {name_text(issuer.subject)}"
            self._faults.append(
                Finding(id=FindingId.EK_SIGNATURE, expected="a signature by its issuer", seen=fault, where=where)
            )
        return not fault


def _leaf_findings(leaf: Certificate) -> Iterator[Finding]:
    constraints, usages = leaf.extensions.basic_constraints, leaf.extensions.extended_key_usage
    if constraints is not None and constraints.ca:
        yield _usage(leaf, "no authority", "basic constraints with cA")
    due = KeyUsage.KEY_ENCIPHERMENT if isinstance(leaf.key, RsaKey) else KeyUsage.KEY_AGREEMENT
    if due not in (leaf.extensions.key_usage or ()):
        yield _usage(leaf, f"key usage {due.name}", _bits(leaf.extensions.key_usage))
    if usages is not None and EK_CERTIFICATE not in usages:
        yield _usage(leaf, f"extended key usage {EK_CERTIFICATE}", ", ".join(sorted(usages)))


def _path_findings(path: tuple[Certificate, ...], at: datetime) -> list[Finding]:
    found: list[Finding] = []
    below = 0
    for authority in path[1:]:
        found += _authority_findings(authority, below)
        found += _common_findings(authority, at)
        if authority.subject != authority.issuer:
            below += 1
    return found


def _authority_findings(authority: Certificate, below: int) -> Iterator[Finding]:
    """Check an authority. ``below``: number of authorities between it and the leaf that are not self-issued."""
    constraints = authority.extensions.basic_constraints or BasicConstraints(ca=False, path_length=None)
    usages = authority.extensions.extended_key_usage
    if not constraints.ca:
        yield _usage(authority, "an authority", "no basic constraints with cA")
    if constraints.path_length is not None and below > constraints.path_length:
        yield _usage(authority, f"at most {constraints.path_length} authorities below", str(below))
    if KeyUsage.KEY_CERT_SIGN not in (authority.extensions.key_usage or ()):
        yield _usage(authority, "key usage KEY_CERT_SIGN", _bits(authority.extensions.key_usage))
    if usages is not None and not usages & {EK_CERTIFICATE, _ANY_USAGE}:
        yield _usage(authority, f"extended key usage {EK_CERTIFICATE}", ", ".join(sorted(usages)))


def _common_findings(certificate: Certificate, at: datetime) -> Iterator[Finding]:
    if not certificate.not_before <= at <= certificate.not_after:
        expected = f"a time from {certificate.not_before.isoformat()} to {certificate.not_after.isoformat()}"
        where = name_text(certificate.subject)
        yield Finding(id=FindingId.EK_EXPIRED, expected=expected, seen=at.isoformat(timespec="seconds"), where=where)
    for extension in certificate.extensions.entries:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            yield _usage(certificate, "no critical extension that is not understood", extension.oid)


def _usage(certificate: Certificate, expected: str, seen: str) -> Finding:
    return Finding(id=FindingId.EK_USAGE, expected=expected, seen=seen, where=name_text(certificate.subject))


def _bits(usage: frozenset[int] | None) -> str:
    return "none" if usage is None else f"bits {sorted(usage)}"
