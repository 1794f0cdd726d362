"""Checks of a release key: only this TPM can use it, and only in the state that was just proved (DESIGN §7).

Four facts, each with its finding:

- the key's public area lets the TPM alone use it, and only by its policy (:func:`check_release_key`);
- the node's attestation key certified that very key for this release (:func:`check_certify`);
- its policy is TPM2_PolicyPCR over the values that were quoted in the same exchange (:func:`check_policy`), so if one
  of them moves, the TPM itself refuses;
- a lease epoch has begun (:func:`check_epoch`), so the agent can end the key's life whenever the lease ends.

The caller appraises the release's evidence first; these functions take what that proved.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from nodeseal.appraisal.model import Challenge, NodeKeys
from nodeseal.appraisal.pcr_values import judge_banks
from nodeseal.errors import MalformedInput, PolicyRefused, ProofFailed
from nodeseal.evidence.binding import Purpose, qualifying_data
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden
from nodeseal.tpm.algorithms import Alg, CurveId, HashAlg, ObjectAttributes
from nodeseal.tpm.attest import decode_attest
from nodeseal.tpm.node_keys import RELEASE_KEY_ATTRIBUTES
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.pcr_usage import EPOCH_PCR
from nodeseal.tpm.policy import policy_pcr
from nodeseal.tpm.public import EccPublic, Scheme, TpmPublic

_POLICY_HASH = HashAlg.SHA256
_SCHEMES = (None, Scheme(Alg.ECDH, HashAlg.SHA256))


@dataclass(frozen=True, slots=True, kw_only=True)
class Certification:
    """What the agent sent for TPM2_Certify of its release key; nothing in it is proved.

    Attributes:
        claims: the claims bytes of the evidence in the same exchange.
        attest: TPMS_ATTEST.
        signature: TPMT_SIGNATURE over it.
    """

    claims: bytes
    attest: bytes
    signature: bytes


def policy_selection(goldens: Iterable[Golden], quoted: PcrSelection) -> PcrSelection:
    """Return the PCRs that a release key's policy must cover: all by which the matched goldens judge what booted.

    These are the quoted PCRs that have exact values or whose events boot rules look at, and the lease epoch in each of
    their banks. PCR 10 is never among them, so IMA may go on measuring.

    Raises:
        PolicyRefused: ``pcr.bank``: nothing that the goldens judge by is quoted.
        MalformedInput: there are no goldens.
    """
    goldens = tuple(goldens)
    judged = {
        (bank, index)
        for golden in goldens
        for bank, indices in golden.static_pcrs().items()
        for index in (*indices, EPOCH_PCR)
    }
    banks: dict[HashAlg, list[int]] = {}
    for bank, index in sorted(judged.intersection(quoted.indices())):
        banks.setdefault(bank, []).append(index)
    if judged and not banks:
        raise PolicyRefused(*(finding for golden in goldens for finding in judge_banks(golden, quoted)))
    return PcrSelection.of(banks)


def check_release_key(public: TpmPublic) -> EccPublic:
    """Check what kind of key this is, and return it as an elliptic curve key.

    Raises:
        PolicyRefused: one or more facts are wrong; there is one ``release.key`` finding for each.
    """
    if not isinstance(public, EccPublic) or public.curve is not CurveId.P256:
        raise PolicyRefused(_key_finding("curve", "an elliptic curve key on P-256", _kind(public)))
    facts = (
        ("nameAlg", _POLICY_HASH.hashlib_name, public.name_alg.hashlib_name, public.name_alg is _POLICY_HASH),
        (
            "objectAttributes",
            _attributes(RELEASE_KEY_ATTRIBUTES),
            _attributes(public.attributes),
            public.attributes == RELEASE_KEY_ATTRIBUTES,
        ),
        ("scheme", "none, or ecdh-sha256", str(public.scheme), public.scheme in _SCHEMES),
        ("symmetric", "none", str(public.symmetric), public.symmetric is None),
    )
    findings = [_key_finding(where, expected, seen) for where, expected, seen, holds in facts if not holds]
    if findings:
        raise PolicyRefused(*findings)
    return public


def check_certify(certification: Certification, public: EccPublic, challenge: Challenge, keys: NodeKeys) -> None:
    """Check that the node's attestation key certified ``public`` for this challenge.

    The signature is checked first, over the bytes as they came.

    Raises:
        ProofFailed: the signature does not hold, this is no certification by a TPM, it certifies another key, or
            it is bound to another exchange or purpose.
    """
    try:
        keys.verifier.verify(certification.signature, certification.attest)
        attest = decode_attest(certification.attest)
        certified_name = attest.certified.name
    except (ProofFailed, MalformedInput) as error:
        raise ProofFailed(_certify_finding("a certification by the attestation key", str(error))) from error
    if not hmac.compare_digest(certified_name, public.name()):
        raise ProofFailed(_certify_finding(f"name {public.name().hex()}", f"name {certified_name.hex()}"))
    binding = qualifying_data(Purpose.RELEASE, challenge.nonce, challenge.channel, certification.claims)
    if not hmac.compare_digest(attest.extra_data, binding):
        raise ProofFailed(_certify_finding(f"extraData {binding.hex()}", f"extraData {attest.extra_data.hex()}"))


def check_policy(public: EccPublic, pcrs: QuotedPcrs, selection: PcrSelection) -> None:
    """Check that the key's policy is TPM2_PolicyPCR over the quoted values of ``selection``.

    Args:
        public: the release key.
        pcrs: the values that the quote of the same exchange proved.
        selection: the result of :func:`policy_selection` for the goldens that those values match.

    Raises:
        ProofFailed: the policy is another one, or a PCR of ``selection`` was not quoted.
    """
    values = [value for place in selection.indices() if (value := pcrs.get(*place)) is not None]
    if len(values) != selection.size:
        raise ProofFailed(_policy_finding(f"quoted values of {selection}", f"a quote of {pcrs.selection}"))
    expected = policy_pcr(selection, pcr_digest(_POLICY_HASH, values), _POLICY_HASH)
    if not hmac.compare_digest(public.auth_policy, expected):
        seen = public.auth_policy.hex() or "no policy"
        raise ProofFailed(_policy_finding(f"PolicyPCR over {selection}: {expected.hex()}", seen))


def check_epoch(pcrs: QuotedPcrs, agent_version: str) -> Iterator[Finding]:
    """Find banks in which no lease epoch has begun: PCR 23 is zero, as agents of the first release leave it.

    Anybody can give it that value again, so a key that is bound to it would outlive its lease.

    Args:
        pcrs: the values that a quote proved.
        agent_version: the version that the node's agent claims.
    """
    for bank, _ in pcrs.selection.banks:
        value = pcrs.get(bank, EPOCH_PCR)
        if value is None or not any(value):
            yield Finding(
                id=FindingId.RELEASE_EPOCH,
                expected="the random value of a lease epoch",
                seen=f"{'not quoted' if value is None else 'zero'}, agent {agent_version}",
                where=f"{bank.hashlib_name} PCR {EPOCH_PCR}",
            )


def _kind(public: TpmPublic) -> str:
    return public.curve.name if isinstance(public, EccPublic) else f"RSA {public.key_bits}"


def _attributes(attributes: ObjectAttributes) -> str:
    return "|".join(attribute.name.lower() for attribute in attributes if attribute.name) or "none"


def _key_finding(where: str, expected: str, seen: str) -> Finding:
    return Finding(id=FindingId.RELEASE_KEY, expected=expected, seen=seen, where=where)


def _certify_finding(expected: str, seen: str) -> Finding:
    return Finding(id=FindingId.RELEASE_CERTIFY, expected=expected, seen=seen)


def _policy_finding(expected: str, seen: str) -> Finding:
    return Finding(id=FindingId.RELEASE_POLICY, expected=expected, seen=seen, where="authPolicy")
