"""Release keys: one fact changed each, and the release is refused (k01, k02)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from nodeseal.appraisal.model import Challenge, NodeKeys
from nodeseal.appraisal.release import (
    Certification,
    check_certify,
    check_epoch,
    check_policy,
    check_release_key,
    policy_selection,
)
from nodeseal.errors import MalformedInput, PolicyRefused, ProofFailed
from nodeseal.evidence.binding import Purpose, qualifying_data
from nodeseal.evidence.claims import encode_claims
from nodeseal.evidence.quote import QuotedPcrs, prove_pcr_values
from nodeseal.findings import FindingId
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules, Image, Signer
from nodeseal.ids import Nonce, node_id_of
from nodeseal.tpm.algorithms import Alg, CurveId, HashAlg, ObjectAttributes
from nodeseal.tpm.attest import Certified, Quoted
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.policy import policy_pcr
from nodeseal.tpm.public import EccPublic, RsaPublic, Scheme, Symmetric
from support.quotes import SigningKey
from support.rounds import CHALLENGE, CLAIMS, GOLDEN, PCRS, SELECTION, SHA256, golden_of, runtime_rules

RELEASE = CHALLENGE._replace(purpose=Purpose.RELEASE)
CLAIMS_RAW = encode_claims(CLAIMS)
ALL_PCRS = (*range(16), 23)
IMAGES = (Image(name="kernel", digests=frozenset({b"k" * 32})),)
POLICY_PCRS = PcrSelection.of({SHA256: [*range(8), 23]})
ATTRIBUTES = (
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
    | ObjectAttributes.NO_DA
    | ObjectAttributes.DECRYPT
)


def proved(pcrs: Mapping[int, bytes], selection: PcrSelection = SELECTION) -> QuotedPcrs:
    values = [pcrs[index] for _, index in selection.indices()]
    return prove_pcr_values(Quoted(selection, pcr_digest(SHA256, values)), SHA256, values)


def policy_of(pcrs: Mapping[int, bytes], selection: PcrSelection = POLICY_PCRS) -> bytes:
    return policy_pcr(selection, pcr_digest(SHA256, (pcrs[index] for _, index in selection.indices())))


KEY = EccPublic(
    name_alg=SHA256,
    attributes=ATTRIBUTES,
    auth_policy=policy_of(PCRS),
    symmetric=None,
    scheme=Scheme(Alg.ECDH, SHA256),
    curve=CurveId.P256,
    x=b"x" * 32,
    y=b"y" * 32,
)


# The key


@pytest.mark.parametrize("scheme", [None, Scheme(Alg.ECDH, SHA256)])
def test_a_key_that_only_its_policy_opens_is_accepted(scheme: Scheme | None) -> None:
    key = replace(KEY, scheme=scheme)
    assert check_release_key(key) is key


@pytest.mark.parametrize(
    ("change", "where"),
    [
        *(
            pytest.param({"attributes": ATTRIBUTES & ~bit}, "objectAttributes", id=f"k01 without {bit.name}")
            for bit in ATTRIBUTES
        ),
        *(
            pytest.param({"attributes": ATTRIBUTES | bit}, "objectAttributes", id=f"k01 with {bit.name}")
            for bit in ObjectAttributes
            if bit not in ATTRIBUTES
        ),
        pytest.param({"curve": CurveId.P384}, "curve", id="another curve"),
        pytest.param({"name_alg": HashAlg.SHA384}, "nameAlg", id="another name algorithm"),
        pytest.param({"name_alg": HashAlg.SHA1}, "nameAlg", id="a name algorithm that has collisions"),
        pytest.param({"scheme": Scheme(Alg.ECDSA, SHA256)}, "scheme", id="a signing scheme"),
        pytest.param({"scheme": Scheme(Alg.ECDH, HashAlg.SHA1)}, "scheme", id="ECDH with SHA-1"),
        pytest.param({"symmetric": Symmetric(128)}, "symmetric", id="a storage key's cipher"),
    ],
)
def test_a_key_with_one_fact_changed_is_refused(change: dict[str, Any], where: str) -> None:
    with pytest.raises(PolicyRefused) as refused:
        check_release_key(replace(KEY, **change))
    assert [(finding.id, finding.where) for finding in refused.value.findings] == [(FindingId.RELEASE_KEY, where)]


def test_an_rsa_key_is_refused() -> None:
    rsa = RsaPublic(
        name_alg=SHA256,
        attributes=ATTRIBUTES,
        auth_policy=policy_of(PCRS),
        symmetric=None,
        scheme=None,
        key_bits=2048,
        exponent=0,
        modulus=b"\xc1" * 256,
    )
    with pytest.raises(PolicyRefused, match="RSA 2048"):
        check_release_key(rsa)


def test_all_that_is_wrong_with_a_key_is_named_at_once() -> None:
    wrong = replace(KEY, attributes=ATTRIBUTES | ObjectAttributes.USER_WITH_AUTH, name_alg=HashAlg.SHA512)
    with pytest.raises(PolicyRefused, match="user_with_auth") as refused:
        check_release_key(wrong)
    assert [finding.where for finding in refused.value.findings] == ["nameAlg", "objectAttributes"]


# Its certification


@dataclass(frozen=True, kw_only=True)
class Certify:
    """The facts of a good certification."""

    signer: SigningKey = field(default_factory=SigningKey)
    challenge: Challenge = RELEASE
    key: EccPublic = KEY
    claims: bytes = CLAIMS_RAW

    @property
    def keys(self) -> NodeKeys:
        return NodeKeys(ak_name=self.signer.public.name(), verifier=self.signer.verifier())

    def binding(self) -> bytes:
        challenge = self.challenge
        return qualifying_data(challenge.purpose, challenge.nonce, challenge.channel, self.claims)

    def make(self, attested: Certified | Quoted | None = None) -> Certification:
        attested = attested or Certified(self.key.name(), b"\0\x0b" + bytes(32))
        signed = self.signer.attest(attested, self.binding())
        return Certification(claims=self.claims, attest=signed.attest, signature=signed.signature)

    def refusal(self, certification: Certification) -> str:
        with pytest.raises(ProofFailed) as refused:
            check_certify(certification, KEY, RELEASE, self.keys)
        (finding,) = refused.value.findings
        assert finding.id is FindingId.RELEASE_CERTIFY
        return str(finding)


@pytest.fixture(scope="module")
def good() -> Certify:
    return Certify()


def test_a_certification_of_this_key_in_this_exchange_is_accepted(good: Certify) -> None:
    check_certify(good.make(), KEY, RELEASE, good.keys)


def test_k01_a_certification_by_another_key_is_refused(good: Certify) -> None:
    assert "does not hold" in good.refusal(Certify().make())


def test_k01_a_certification_of_another_key_is_refused(good: Certify) -> None:
    software = replace(KEY, x=b"z" * 32)
    assert software.name().hex() in good.refusal(replace(good, key=software).make())


def test_k01_a_quote_is_not_a_certification(good: Certify) -> None:
    quote = Quoted(SELECTION, bytes(32))
    assert "a certification is due" in good.refusal(good.make(quote))


def test_k01_signed_bytes_that_no_tpm_made_are_refused(good: Certify) -> None:
    genuine = good.make()
    forged = b"\0" + genuine.attest[1:]
    certification = replace(genuine, attest=forged, signature=good.signer.sign(forged))
    assert "no TPM made this" in good.refusal(certification)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"challenge": CHALLENGE}, id="made to attest"),
        pytest.param({"challenge": RELEASE._replace(nonce=Nonce(b"o" * 32))}, id="made for another challenge"),
        pytest.param(
            {"challenge": RELEASE._replace(channel=replace(RELEASE.channel, node_id=node_id_of(b"b")))},
            id="made by another node",
        ),
        pytest.param({"claims": encode_claims(replace(CLAIMS, kernel="6.2.0"))}, id="made with other claims"),
    ],
)
def test_q07_a_certification_for_something_else_is_refused(good: Certify, change: dict[str, Any]) -> None:
    certification = replace(replace(good, **change).make(), claims=CLAIMS_RAW)
    assert "extraData" in good.refusal(certification)


def test_a_challenge_to_attest_never_counts_for_a_release(good: Certify) -> None:
    attest = replace(good, challenge=CHALLENGE)
    with pytest.raises(ProofFailed, match="extraData"):
        check_certify(attest.make(), KEY, CHALLENGE, good.keys)


# Its policy


def test_a_policy_over_the_quoted_values_is_accepted() -> None:
    check_policy(KEY, proved(PCRS), POLICY_PCRS)


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(b"", id="k01 no policy"),
        pytest.param(bytes(32), id="k01 an empty policy"),
        pytest.param(policy_of({**PCRS, 4: b"n" * 32}), id="k01 other values"),
        pytest.param(policy_of(PCRS, PcrSelection.of({SHA256: range(8)})), id="k01 without the lease epoch"),
        pytest.param(policy_of(PCRS, PcrSelection.of({SHA256: [*range(7), 23]})), id="k01 a PCR less"),
    ],
)
def test_another_policy_is_refused(policy: bytes) -> None:
    with pytest.raises(ProofFailed) as refused:
        check_policy(replace(KEY, auth_policy=policy), proved(PCRS), POLICY_PCRS)
    assert [finding.id for finding in refused.value.findings] == [FindingId.RELEASE_POLICY]


def test_k02_a_pcr_extended_since_the_key_was_made_is_refused() -> None:
    with pytest.raises(ProofFailed) as refused:
        check_policy(KEY, proved({**PCRS, 7: b"n" * 32}), POLICY_PCRS)
    assert [finding.id for finding in refused.value.findings] == [FindingId.RELEASE_POLICY]


def test_a_policy_over_pcrs_that_were_not_quoted_is_refused() -> None:
    with pytest.raises(ProofFailed, match="a quote of sha256:0,1,2,3,4,5,6,7"):
        check_policy(KEY, proved(PCRS, PcrSelection.of({SHA256: range(8)})), POLICY_PCRS)


# What the policy must cover


def test_the_policy_covers_what_the_goldens_pin_and_the_lease_epoch() -> None:
    wider = golden_of(PCRS, only=range(7, 10), name="rack-b")
    assert policy_selection([GOLDEN], SELECTION) == POLICY_PCRS
    assert policy_selection([GOLDEN, wider], SELECTION) == PcrSelection.of({SHA256: [*range(10), 23]})


def test_the_policy_takes_the_lease_epoch_of_each_bank_in_the_order_of_banks() -> None:
    both = PcrSelection.of({HashAlg.SHA384: ALL_PCRS, SHA256: ALL_PCRS})
    strong = Golden(name="strong", pcrs={HashAlg.SHA384: {4: frozenset({b"m" * 48})}})
    usual = Golden(name="usual", pcrs={SHA256: {0: frozenset({PCRS[0]})}})
    assert policy_selection([strong, usual], both).banks == ((SHA256, (0, 23)), (HashAlg.SHA384, (4, 23)))


@pytest.mark.parametrize(
    ("rules", "covered"),
    [
        pytest.param(BootRules(secure_boot=True), [0, 7, 23], id="secure boot: its variables"),
        pytest.param(BootRules(signers=(Signer(sha256=b"s" * 32),)), [0, 7, 23], id="signers: their authorities"),
        pytest.param(BootRules(dbx=frozenset({b"x" * 32})), [0, 7, 23], id="dbx: the variable"),
        pytest.param(BootRules(images=IMAGES), [0, 4, 23], id="images: boot loaders and kernels"),
        pytest.param(BootRules(drivers=IMAGES), [0, 2, 23], id="drivers: option ROMs"),
        pytest.param(BootRules(command_lines=("ro",)), [0, 8, 9, 12, 23], id="command lines: whoever measures them"),
        pytest.param(BootRules(sections={".linux": frozenset({b"l" * 32})}), [0, 11, 23], id="sections of a UKI"),
        pytest.param(BootRules(files=IMAGES), [0, 9, 23], id="files that GRUB read"),
        pytest.param(BootRules(gpt=frozenset({b"g" * 32})), [0, 5, 23], id="the partition table"),
    ],
)
def test_the_policy_covers_the_pcrs_whose_events_a_golden_judges(rules: BootRules, covered: list[int]) -> None:
    golden = Golden(name="rack-a", pcrs={SHA256: {0: frozenset({PCRS[0]})}}, boot=rules)
    assert policy_selection([golden], SELECTION) == PcrSelection.of({SHA256: covered})


def test_a_pcr_that_was_not_quoted_proved_nothing_and_is_left_out_of_the_policy() -> None:
    golden = Golden(name="rack-a", pcrs={SHA256: {0: frozenset({PCRS[0]})}}, boot=BootRules(command_lines=("ro",)))
    quoted = PcrSelection.of({SHA256: [0, 8, 23]})
    assert policy_selection([golden], quoted) == quoted


def test_a_golden_that_judges_what_runs_never_binds_the_key_to_pcr_10() -> None:
    golden = replace(GOLDEN, runtime=runtime_rules(), boot=BootRules(secure_boot=True, files=IMAGES))
    everything = PcrSelection.of({SHA256: ALL_PCRS})
    assert 10 not in dict(policy_selection([golden], everything).banks)[SHA256]


def test_a_release_needs_a_golden() -> None:
    with pytest.raises(MalformedInput):
        policy_selection([], SELECTION)


# The lease epoch


def test_an_epoch_in_every_quoted_bank_is_accepted() -> None:
    assert list(check_epoch(proved(PCRS), "0.2.0")) == []


def test_a_pcr_23_that_is_zero_is_no_epoch_and_the_agent_is_named() -> None:
    (finding,) = check_epoch(proved({**PCRS, 23: bytes(32)}), "0.1.0")
    assert (finding.id, finding.where) == (FindingId.RELEASE_EPOCH, "sha256 PCR 23")
    assert finding.seen == "zero, agent 0.1.0"
    assert "update nodeseal-agent" in finding.remedy


def test_a_pcr_23_that_was_not_quoted_is_not_taken_for_an_epoch() -> None:
    (finding,) = check_epoch(proved(PCRS, PcrSelection.of({SHA256: range(8)})), "0.1.0")
    assert finding.seen == "not quoted, agent 0.1.0"


def test_the_epoch_must_have_begun_in_each_bank() -> None:
    selection = PcrSelection.of({SHA256: [23], HashAlg.SHA384: [23]})
    values = [PCRS[23], bytes(48)]
    pcrs = prove_pcr_values(Quoted(selection, pcr_digest(SHA256, values)), SHA256, values)
    assert [finding.where for finding in check_epoch(pcrs, "0.2.0")] == ["sha384 PCR 23"]
