"""What people read about vendors' certificates: the chain of one endorsement key step by step, and a whole folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from nodeseal.crypto.endorsement import ExaminedChain, examine_ek_chain
from nodeseal.crypto.weak_keys import weakness
from nodeseal.findings import Finding, FindingId
from nodeseal.inert import inert
from nodeseal.verifier.enrolment.vendors import ANCHORS, Vendors, counted, ending, makers
from nodeseal.x509.certificate import Certificate, RsaKey, name_text

_MAX_LINES: Final = 20
"""Of one kind; the rest is counted."""


@dataclass(frozen=True, slots=True)
class ChainExplanation:
    """A chain in words.

    Attributes:
        good: whether an endorsement key with this certificate is trusted.
        lines: for a terminal.
    """

    good: bool
    lines: tuple[str, ...]


def explain_chain(leaf: Certificate, shown: Sequence[Certificate], vendors: Vendors, at: datetime) -> ChainExplanation:
    """Explain how ``leaf`` chains to a root.

    Args:
        leaf: the endorsement key's certificate.
        shown: certificates of authorities that come with it.
        vendors: the authorities of the verifier.
        at: current time.
    """
    chain = examine_ek_chain(leaf, (*vendors.intermediates, *shown), vendors.roots, at)
    findings = (*chain.findings, *_weakness(leaf))
    lines = (
        *(f"{number}. {_step(each, vendors)}" for number, each in enumerate(chain.path, 1)),
        _end(chain, vendors),
        *(f"tolerated: {oddity.value} [{oddity.word}]" for oddity in chain.oddities),
        *(line for finding in findings for line in (f"refused: {finding}", f"  do: {finding.remedy}")),
        *([] if findings else ["trusted: an endorsement key with this certificate may enrol"]),
    )
    return ChainExplanation(not findings, tuple(map(inert, lines)))


def vendor_lines(vendors: Vendors, at: datetime) -> tuple[str, ...]:
    """Describe a folder: how many certificates it holds and of whom, which of them end soon, and what was left out."""
    counts = counted(len(vendors.roots), len(vendors.intermediates))
    lines = (
        f"vendors:  {counts}{'' if vendors.roots else '; no TPM is trusted by its certificate'}",
        *(f"  {maker}" for maker in makers(vendors)),
        *_some("expired, or expires within a year", ending(vendors, at)),
        *_some("left out", tuple(map(str, vendors.left_out))),
    )
    return tuple(map(inert, lines))


def _step(certificate: Certificate, vendors: Vendors) -> str:
    key = certificate.key
    kind = f"RSA {key.modulus.bit_length()}" if isinstance(key, RsaKey) else f"ECC {key.curve.name}"
    model = certificate.extensions.tpm_model
    tpm = f", TPM {model.manufacturer} {model.model} {model.version}" if model.complete else ""
    valid = f"{certificate.not_before:%Y-%m-%d} to {certificate.not_after:%Y-%m-%d}"
    source = vendors.sources.get(certificate.raw, "as shown")
    return f"{name_text(certificate.subject)}: {kind}{tpm}, {valid}, {source}"


def _end(chain: ExaminedChain, vendors: Vendors) -> str:
    last = chain.path[-1]
    if chain.complete:
        return f"root: {name_text(last.subject)}, {vendors.sources[last.raw]}"
    hint = f"; to trust the last one itself, put its file below {ANCHORS}/" if len(chain.path) > 1 else ""
    return f"no root: {name_text(last.issuer)} issued the last one and is not there, or did not sign it{hint}"


def _weakness(leaf: Certificate) -> Iterator[Finding]:
    if weak := weakness(leaf.key):
        yield Finding(id=FindingId.EK_WEAK, expected="RSA from 2048 bits, P-256, P-384 or P-521", seen=weak)


def _some(title: str, lines: tuple[str, ...]) -> Iterator[str]:
    if lines:
        yield f"{title}: {len(lines)}"
    yield from (f"  {line}" for line in lines[:_MAX_LINES])
    if len(lines) > _MAX_LINES:
        yield f"  and {len(lines) - _MAX_LINES} more"
