"""Chains of endorsement key certificates: RFC 5280 §6.1 as far as TPM vendors use it, and the EK profile's rules.

Checked by RFC 5280: names chain (§7.1), signatures, validity, CA flag, path length, keyCertSign, extended key usage of
authorities, and no unknown critical extension. Not supported: name and policy constraints (no vendor uses them;
critical ones are refused) and revocation lists (vendors publish hardly any; retire such a node, or remove the
intermediate from the configuration). Checked by the TCG EK Credential Profile for TPM Family 2.0: the key's certificate
is no authority; its key may receive secrets; it is meant for endorsement keys (tcg-kp-EKCertificate) or, without an
extended key usage, names a TPM. What vendors do against the profile is a row of :class:`Oddity`: tolerated and told.

Roots are the certificates that the operator configured, whoever signed them. A root must be an authority and valid,
too. The search is bounded: six certificates from EK to root, no authority twice, and 32 signature checks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from itertools import pairwise
from typing import Final

from nodeseal.crypto.issuance import signature_fault
from nodeseal.errors import ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.tpm.public import RsaPublic, TpmPublic
from nodeseal.x509 import extensions
from nodeseal.x509.certificate import Certificate, EcKey, RsaKey, name_text
from nodeseal.x509.extensions import EK_CERTIFICATE, GOOGLE_INSTANCE, BasicConstraints, KeyUsage, TpmModel
from nodeseal.x509.names import ComparableName

MAX_PATH: Final = 6
"""Most certificates in a chain, from the endorsement key's to the root."""
MAX_SIGNATURE_CHECKS: Final = 32
_ANY_USAGE: Final = "2.5.29.37.0"
_UNDERSTOOD: Final = frozenset(
    {
        extensions.KEY_USAGE,
        extensions.SUBJECT_ALTERNATIVE_NAME,
        extensions.BASIC_CONSTRAINTS,
        extensions.CERTIFICATE_POLICIES,
        extensions.EXTENDED_KEY_USAGE,
    }
)


class Oddity(Enum):
    """What genuine certificates do against the profile or against custom; tolerated by name, and told."""

    EC_KEY_ENCIPHERMENT = "key usage keyEncipherment for an EC key, as Intel PTT has it"
    RSA_KEY_AGREEMENT = "key usage keyAgreement for an RSA key, as Microsoft Pluton has it"
    NAMES_BY_TEXT = "an issuer's name in other bytes than its subject, as STMicroelectronics and AMD write it"
    CLOUD_INSTANCE = "neither EK purpose nor TPM, but a virtual machine of Google is named"

    @property
    def word(self) -> str:
        """Its name in records."""
        return self.name.lower().replace("_", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExaminedChain:
    """What a search for a chain came to.

    Attributes:
        path: certificates, the endorsement key's first; without a complete chain, as far as signatures hold.
        complete: whether a trusted root is its last one.
        findings: all that is wrong; empty: a good chain.
        oddities: what was tolerated.
    """

    path: tuple[Certificate, ...]
    complete: bool
    findings: tuple[Finding, ...]
    oddities: tuple[Oddity, ...]


@dataclass(frozen=True, slots=True)
class EkChain:
    """A verified chain. Only :func:`verify_ek_chain` builds one.

    Attributes:
        path: certificates, the endorsement key's first and the trusted root last.
        oddities: what was tolerated.
    """

    path: tuple[Certificate, ...]
    oddities: tuple[Oddity, ...]

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
    examined = examine_ek_chain(leaf, intermediates, roots, at)
    if examined.findings:
        raise ProofFailed(*examined.findings)
    return EkChain(examined.path, examined.oddities)


def examine_ek_chain(
    leaf: Certificate, intermediates: Sequence[Certificate], roots: Sequence[Certificate], at: datetime
) -> ExaminedChain:
    """Look for the best chain from ``leaf`` to a trusted root and say all about it; arguments as above."""
    wrong = (*_leaf_findings(leaf), *_common_findings(leaf, at))
    search = _Search(leaf, intermediates, roots)
    best: tuple[tuple[Certificate, ...], tuple[Finding, ...]] | None = None
    for path in search.paths((leaf,)):
        found = tuple(_path_findings(path, at))
        if best is None or len(found) < len(best[1]):
            best = path, found
        if not found:
            break
    path, found = best or (search.longest, tuple(search.failure()))
    return ExaminedChain(
        path=path, complete=best is not None, findings=(*wrong, *found), oddities=tuple(_oddities(path))
    )


def certified_form(public: TpmPublic) -> RsaKey | EcKey:
    """Return the key of a public area in the form of certificates, for comparison."""
    if isinstance(public, RsaPublic):
        return RsaKey(int.from_bytes(public.modulus, "big"), public.public_exponent)
    return EcKey(public.curve, int.from_bytes(public.x, "big"), int.from_bytes(public.y, "big"))


class _Search:
    """Depth-first search for paths whose names and signatures chain. Roots are tried before intermediates.

    Attributes:
        longest: the longest path so far whose signatures hold.
    """

    def __init__(self, leaf: Certificate, intermediates: Sequence[Certificate], roots: Sequence[Certificate]) -> None:
        self.longest: tuple[Certificate, ...] = (leaf,)
        self._roots = {root.raw for root in roots}
        self._by_name: dict[ComparableName, list[Certificate]] = defaultdict(list)
        for each in {each.raw: each for each in (*roots, *intermediates)}.values():
            if each.subject_form:
                self._by_name[each.subject_form].append(each)
        self._checks_left = MAX_SIGNATURE_CHECKS
        self._faults: dict[tuple[bytes, bytes], Finding | None] = {}

    def paths(self, path: tuple[Certificate, ...]) -> Iterator[tuple[Certificate, ...]]:
        """Yield every complete continuation of ``path``."""
        if len(path) > len(self.longest):
            self.longest = path
        last = path[-1]
        for issuer in self._by_name.get(last.issuer_form, ()):
            if _repeats(path, issuer) or self._fault(last, issuer):
                continue
            if issuer.raw in self._roots:
                yield (*path, issuer)
            elif len(path) + 1 < MAX_PATH:
                yield from self.paths((*path, issuer))

    def failure(self) -> Iterator[Finding]:
        """Return the findings when there is no path."""
        expected = f"a chain of at most {MAX_PATH} certificates to one of {len(self._roots)} trusted roots"
        seen = f"issuer {name_text(self.longest[-1].issuer)}"
        yield Finding(id=FindingId.EK_UNTRUSTED_ROOT, expected=expected, seen=seen)
        yield from dict.fromkeys(fault for fault in self._faults.values() if fault)

    def _fault(self, certificate: Certificate, issuer: Certificate) -> Finding | None:
        """Return why a signature does not count, if it does not; each pair is checked once."""
        pair = certificate.raw, issuer.raw
        if pair not in self._faults:
            seen = self._checked(certificate, issuer)
            where = f"{name_text(certificate.subject)} by {name_text(issuer.subject)}"
            finding = Finding(id=FindingId.EK_SIGNATURE, expected="a signature by its issuer", seen=seen, where=where)
            self._faults[pair] = finding if seen else None
        return self._faults[pair]

    def _checked(self, certificate: Certificate, issuer: Certificate) -> str:
        if not self._checks_left:
            return f"more than {MAX_SIGNATURE_CHECKS} signatures to check"
        self._checks_left -= 1
        return signature_fault(certificate, issuer)


def _repeats(path: tuple[Certificate, ...], issuer: Certificate) -> bool:
    """Tell whether an authority is on the path already, be it in another certificate: that one proves no more."""
    return any(each.key == issuer.key and each.subject_form == issuer.subject_form for each in path)


def _leaf_findings(leaf: Certificate) -> Iterator[Finding]:
    constraints, usages = leaf.extensions.basic_constraints, leaf.extensions.extended_key_usage
    if constraints is not None and constraints.ca:
        yield _usage(leaf, "no authority", "basic constraints with cA")
    if not {_due(leaf), _odd(leaf)} & (leaf.extensions.key_usage or frozenset()):
        yield _usage(leaf, f"key usage {_due(leaf).name}", _bits(leaf.extensions.key_usage))
    if usages is not None and EK_CERTIFICATE not in usages:
        yield _usage(leaf, f"extended key usage {EK_CERTIFICATE}", ", ".join(sorted(usages)))
    if usages is None and not _named(leaf):
        seen = "no extended key usage, and no TPM's manufacturer, model and version"
        yield _usage(leaf, f"extended key usage {EK_CERTIFICATE}, or the name of a TPM", seen)


def _due(leaf: Certificate) -> KeyUsage:
    """Return the key usage that the profile wants for keys of this kind."""
    return KeyUsage.KEY_ENCIPHERMENT if isinstance(leaf.key, RsaKey) else KeyUsage.KEY_AGREEMENT


def _odd(leaf: Certificate) -> KeyUsage:
    """Return the key usage that some vendors give in its place: it receives secrets, too."""
    return KeyUsage.KEY_AGREEMENT if isinstance(leaf.key, RsaKey) else KeyUsage.KEY_ENCIPHERMENT


def _named(leaf: Certificate) -> bool:
    """Tell whether the certificate says which TPM it is of."""
    return leaf.extensions.tpm_model.complete or leaf.extensions.has(GOOGLE_INSTANCE)


def _oddities(path: tuple[Certificate, ...]) -> Iterator[Oddity]:
    leaf, usage = path[0], path[0].extensions.key_usage or ()
    if _due(leaf) not in usage and _odd(leaf) in usage:
        yield Oddity.RSA_KEY_AGREEMENT if isinstance(leaf.key, RsaKey) else Oddity.EC_KEY_ENCIPHERMENT
    if leaf.extensions.extended_key_usage is None and not leaf.extensions.tpm_model.complete and _named(leaf):
        yield Oddity.CLOUD_INSTANCE
    if any(below.issuer != above.subject for below, above in pairwise(path)):
        yield Oddity.NAMES_BY_TEXT


def _path_findings(path: tuple[Certificate, ...], at: datetime) -> Iterator[Finding]:
    below = 0
    for authority in path[1:]:
        yield from _authority_findings(authority, below)
        yield from _common_findings(authority, at)
        if not authority.self_issued:
            below += 1


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
