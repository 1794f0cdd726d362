"""Rows e01, e02, e04, e05, e06, e07 and e09 of the attack table: each changes one fact of a good case."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from nodeseal.crypto.endorsement import Oddity
from nodeseal.crypto.keys import public_of_key
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.errors import MalformedInput, OutOfOrder, PolicyRefused, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.rules import EK_ALGORITHMS
from nodeseal.ids import digest_of, node_id_of
from nodeseal.tpm.algorithms import Alg, CurveId, HashAlg, ObjectAttributes
from nodeseal.tpm.ek_template import TEMPLATES, template
from nodeseal.tpm.public import EccPublic, RsaPublic, Scheme, TpmPublic
from nodeseal.verifier.enrolment.credential import CredentialChallenge
from nodeseal.verifier.enrolment.endorsement import EnrolmentPolicy, algorithm_name, vendor_id
from nodeseal.verifier.enrolment.identity import Candidate, ClaimedIdentity, check_identity
from nodeseal.verifier.enrolment.vendors import Vendors, sort_vendors
from nodeseal.x509.certificate import RsaKey, decode_certificate
from nodeseal.x509.extensions import TpmModel
from support import certificates as made
from support.certificates import AT, EK, RSA_EK, ec_key, rsa_key
from support.roca import roca_modulus
from support.vendor_certificates import ek_certificate, every_certificate

REQUEST = certificate_request(new_tls_key(), "node")
ROOT, INTERMEDIATE = made.root(), made.intermediate()


def ecc(base: TpmPublic, key: ec.EllipticCurvePrivateKey) -> EccPublic:
    """Return ``base`` with the point of ``key``."""
    point = public_of_key(key.public_key())
    assert isinstance(base, EccPublic)
    assert isinstance(point, EccPublic)
    return replace(base, x=point.x, y=point.y)


def rsa(base: RsaPublic, modulus: int, key_bits: int = 2048) -> RsaPublic:
    """Return ``base`` with a modulus."""
    return replace(base, modulus=modulus.to_bytes(key_bits // 8, "big"), key_bits=key_bits)


def _rsa_template() -> RsaPublic:
    public = template("L-1").public
    assert isinstance(public, RsaPublic)
    return public


EK_PUBLIC = ecc(template("L-2").public, ec_key("ek"))
RSA_EK_PUBLIC = rsa(_rsa_template(), rsa_key("ek").public_key().public_numbers().n)
AK_PUBLIC = ecc(
    EccPublic(
        name_alg=HashAlg.SHA256,
        attributes=ObjectAttributes.FIXED_TPM
        | ObjectAttributes.FIXED_PARENT
        | ObjectAttributes.SENSITIVE_DATA_ORIGIN
        | ObjectAttributes.RESTRICTED
        | ObjectAttributes.SIGN_ENCRYPT
        | ObjectAttributes.USER_WITH_AUTH,
        auth_policy=b"",
        symmetric=None,
        scheme=Scheme(Alg.ECDSA, HashAlg.SHA256),
        curve=CurveId.P256,
        x=b"",
        y=b"",
    ),
    ec_key("ak"),
)
RSA_AK_PUBLIC = RsaPublic(
    name_alg=HashAlg.SHA256,
    attributes=AK_PUBLIC.attributes,
    auth_policy=b"",
    symmetric=None,
    scheme=Scheme(Alg.RSASSA, HashAlg.SHA256),
    key_bits=2048,
    exponent=0,
    modulus=rsa_key("ak").public_key().public_numbers().n.to_bytes(256, "big"),
)
GOOD = ClaimedIdentity(
    ek_public=EK_PUBLIC.encode(),
    ek_certificates=(made.ek_certificate(),),
    ek_chain=(),
    ak_public=AK_PUBLIC.encode(),
    certificate_request=REQUEST,
)


def trusting(files: Mapping[str, bytes]) -> EnrolmentPolicy:
    """Return a policy that trusts the roots among these certificates."""
    return EnrolmentPolicy(vendors=sort_vendors(files), ek_allow=frozenset())


POLICY = trusting({"root": ROOT, "intermediate": INTERMEDIATE})
NOTHING = EnrolmentPolicy(vendors=Vendors(), ek_allow=frozenset())


def check(identity: ClaimedIdentity = GOOD, policy: EnrolmentPolicy = POLICY) -> Candidate:
    return check_identity(identity, policy, AT)


def refused(identity: ClaimedIdentity, policy: EnrolmentPolicy = POLICY) -> list[FindingId]:
    return [finding.id for finding in findings(identity, policy)]


def findings(identity: ClaimedIdentity, policy: EnrolmentPolicy = POLICY) -> tuple[Finding, ...]:
    with pytest.raises(PolicyRefused) as error:
        check(identity, policy)
    return error.value.findings


def with_ek(public: TpmPublic, facts: made.Facts) -> ClaimedIdentity:
    return replace(GOOD, ek_public=public.encode(), ek_certificates=(made.ek_certificate(facts),))


def with_ak(public: TpmPublic) -> ClaimedIdentity:
    return replace(GOOD, ak_public=public.encode())


@pytest.mark.parametrize(
    ("written", "named"),
    [
        ("id:49465800", "IFX"),
        ("id:53544D20", "STM"),
        ("id:414d4400", "AMD"),
        ("id:494E5443", "INTC"),
        ("id:00001014", "id:00001014"),
        ("id:2d2d2d2d", "id:2D2D2D2D"),
        ("id:00000000", "id:00000000"),
        ("id:FFFFFFFF", "id:FFFFFFFF"),
        ("IFX", ""),
        ("id:4946580", ""),
        ("id:4946580000", ""),
        ("", ""),
    ],
)
def test_makers_are_named_as_goldens_name_them(written: str, named: str) -> None:
    assert vendor_id(TpmModel(manufacturer=written)) == named


def test_what_is_proved_of_a_tpm_comes_from_certificate_and_key() -> None:
    facts = check().tpm
    assert (facts.manufacturer, facts.ek_algorithm) == (vendor_id(check().endorsement.tpm_model), "ecc-p256")
    assert facts.manufacturer
    assert facts.ek_algorithm in EK_ALGORITHMS


def test_what_was_tolerated_is_known_of_the_candidate() -> None:
    assert check().endorsement.oddities == ()
    odd = replace(EK, extensions=(made.usage(2), *EK.extensions[2:]))
    assert check(with_ek(EK_PUBLIC, odd)).endorsement.oddities == (Oddity.EC_KEY_ENCIPHERMENT,)


def test_a_key_on_the_allow_list_proves_no_maker() -> None:
    policy = replace(POLICY, ek_allow=frozenset({digest_of(GOOD.ek_public)}))
    assert check(replace(GOOD, ek_certificates=()), policy).tpm.manufacturer == ""


def test_every_kind_of_endorsement_key_has_the_name_that_goldens_use() -> None:
    names = {algorithm_name(each.public) for each in TEMPLATES}
    assert names <= set(EK_ALGORITHMS)
    assert {"rsa2048", "rsa3072", "ecc-p256", "ecc-p384", "ecc-p521"} <= names


def test_a_good_identity_is_accepted() -> None:
    candidate = check()
    assert candidate.node_id == node_id_of(EK_PUBLIC.name())
    assert (candidate.ek, candidate.ak) == (EK_PUBLIC, AK_PUBLIC)
    assert (candidate.ek_template, candidate.endorsement.tpm_model.model) == ("L-2", "Test")
    assert candidate.certificate_request == REQUEST


@pytest.mark.parametrize(
    "identity",
    [
        pytest.param(with_ek(RSA_EK_PUBLIC, RSA_EK), id="RSA endorsement key"),
        pytest.param(with_ek(ecc(template("H-2").public, ec_key("ek")), EK), id="high range template"),
        pytest.param(with_ak(RSA_AK_PUBLIC), id="RSASSA attestation key"),
        pytest.param(with_ak(replace(RSA_AK_PUBLIC, scheme=Scheme(Alg.RSAPSS, HashAlg.SHA384))), id="RSAPSS"),
        pytest.param(
            with_ak(replace(AK_PUBLIC, attributes=AK_PUBLIC.attributes ^ ObjectAttributes.USER_WITH_AUTH)),
            id="no password",
        ),
        pytest.param(with_ak(replace(AK_PUBLIC, attributes=AK_PUBLIC.attributes | ObjectAttributes.NO_DA)), id="noDA"),
        pytest.param(
            replace(GOOD, ek_certificates=(made.ek_certificate() + b"\xff" * 99,)), id="certificate with filler"
        ),
        pytest.param(replace(GOOD, ek_certificates=(made.ek_certificate(), b"junk")), id="junk behind the certificate"),
    ],
)
def test_variants_of_a_good_identity_are_accepted(identity: ClaimedIdentity) -> None:
    check(identity)


@pytest.mark.parametrize(
    "chain",
    [
        pytest.param((INTERMEDIATE,), id="one certificate"),
        pytest.param((ROOT + INTERMEDIATE + bytes(80),), id="two in one index, with filler"),
        pytest.param((INTERMEDIATE[:100], INTERMEDIATE[100:]), id="one across two indices"),
    ],
)
def test_a_node_may_bring_its_intermediates(chain: tuple[bytes, ...]) -> None:
    policy = trusting({"root": ROOT})
    assert refused(GOOD, policy) == [FindingId.EK_UNTRUSTED_ROOT]
    check(replace(GOOD, ek_chain=chain), policy)


def test_a_node_may_not_bring_its_root() -> None:
    chain = (INTERMEDIATE, ROOT)
    assert refused(replace(GOOD, ek_chain=chain), NOTHING) == [FindingId.EK_UNTRUSTED_ROOT]


def test_an_unreadable_chain_is_told_if_it_was_needed() -> None:
    identity = replace(GOOD, ek_chain=(b"junk",))
    check(identity)
    policy = trusting({"root": ROOT})
    assert refused(identity, policy) == [FindingId.EK_UNTRUSTED_ROOT, FindingId.EK_MALFORMED]


def test_a_huge_chain_is_malformed() -> None:
    with pytest.raises(MalformedInput, match="65537 bytes"):
        check(replace(GOOD, ek_chain=(bytes(65537),)))


# No certificate: e05, and the rule that nothing configured means nothing trusted


def test_e05_without_certificate_and_off_the_allow_list() -> None:
    found = findings(replace(GOOD, ek_certificates=()))
    assert [each.id for each in found] == [FindingId.EK_ABSENT]
    assert digest_of(GOOD.ek_public) in found[0].seen


def test_an_empty_policy_trusts_nothing() -> None:
    assert refused(GOOD, NOTHING) == [FindingId.EK_UNTRUSTED_ROOT]
    assert refused(replace(GOOD, ek_certificates=()), NOTHING) == [FindingId.EK_ABSENT]


def test_a_key_on_the_allow_list_needs_no_certificate() -> None:
    policy = replace(NOTHING, ek_allow=frozenset({digest_of(GOOD.ek_public)}))
    assert check(replace(GOOD, ek_certificates=()), policy).endorsement.tpm_model.model == ""
    assert refused(with_ek(RSA_EK_PUBLIC, RSA_EK), policy) == [FindingId.EK_UNTRUSTED_ROOT]


def test_the_allow_list_holds_what_the_key_is_named_by() -> None:
    assert EK_PUBLIC.name().hex() == "000b" + digest_of(GOOD.ek_public)


def test_the_allow_list_excuses_no_weak_or_odd_key() -> None:
    weak = replace(EK_PUBLIC, attributes=EK_PUBLIC.attributes ^ ObjectAttributes.FIXED_TPM).encode()
    policy = replace(NOTHING, ek_allow=frozenset({digest_of(weak)}))
    assert refused(replace(GOOD, ek_public=weak), policy) == [FindingId.EK_TEMPLATE]


# Attributes of the attestation key: e01, e02


@pytest.mark.parametrize(
    "attribute",
    [
        pytest.param(ObjectAttributes.RESTRICTED, id="e01 restricted"),
        pytest.param(ObjectAttributes.FIXED_TPM, id="e02 fixedTPM"),
        pytest.param(ObjectAttributes.FIXED_PARENT, id="e02 fixedParent"),
        pytest.param(ObjectAttributes.SENSITIVE_DATA_ORIGIN, id="e02 sensitiveDataOrigin"),
        pytest.param(ObjectAttributes.SIGN_ENCRYPT, id="e02 sign"),
    ],
)
def test_an_attestation_key_without_an_attribute_is_refused(attribute: ObjectAttributes) -> None:
    found = findings(with_ak(replace(AK_PUBLIC, attributes=AK_PUBLIC.attributes ^ attribute)))
    assert [(each.id, each.where) for each in found] == [(FindingId.AK_ATTRIBUTES, str(attribute.name).lower())]


@pytest.mark.parametrize(
    "attribute",
    [
        pytest.param(ObjectAttributes.DECRYPT, id="e02 decrypt"),
        pytest.param(ObjectAttributes.ST_CLEAR, id="stClear"),
        pytest.param(ObjectAttributes.ENCRYPTED_DUPLICATION, id="encryptedDuplication"),
        pytest.param(ObjectAttributes.X509_SIGN, id="x509sign"),
    ],
)
def test_an_attestation_key_with_an_attribute_too_many_is_refused(attribute: ObjectAttributes) -> None:
    found = findings(with_ak(replace(AK_PUBLIC, attributes=AK_PUBLIC.attributes | attribute)))
    assert [(each.id, each.where) for each in found] == [(FindingId.AK_ATTRIBUTES, str(attribute.name).lower())]


def test_every_missing_attribute_has_its_own_finding() -> None:
    assert refused(with_ak(replace(AK_PUBLIC, attributes=ObjectAttributes(0)))) == [FindingId.AK_ATTRIBUTES] * 5


@pytest.mark.parametrize(
    "ak",
    [
        pytest.param(replace(AK_PUBLIC, name_alg=HashAlg.SHA1), id="named by SHA-1"),
        pytest.param(replace(AK_PUBLIC, scheme=None), id="any scheme"),
        pytest.param(replace(AK_PUBLIC, scheme=Scheme(Alg.ECDSA, HashAlg.SHA1)), id="SHA-1"),
        pytest.param(replace(AK_PUBLIC, scheme=Scheme(Alg.ECDH, HashAlg.SHA256)), id="no signing scheme"),
        pytest.param(replace(AK_PUBLIC, curve=CurveId.P192, x=bytes(24), y=bytes(24)), id="e09 P-192"),
        pytest.param(replace(AK_PUBLIC, y=AK_PUBLIC.x), id="not on the curve"),
        pytest.param(replace(RSA_AK_PUBLIC, scheme=Scheme(Alg.OAEP, HashAlg.SHA256)), id="RSA that decrypts"),
        pytest.param(
            rsa(RSA_AK_PUBLIC, rsa_key("small", 1024).public_key().public_numbers().n, 1024), id="e09 RSA 1024"
        ),
        pytest.param(rsa(RSA_AK_PUBLIC, roca_modulus(2048)), id="e09 ROCA"),
        pytest.param(replace(RSA_AK_PUBLIC, exponent=3), id="exponent 3"),
    ],
)
def test_an_attestation_key_of_another_algorithm_is_refused(ak: TpmPublic) -> None:
    assert refused(with_ak(ak)) == [FindingId.AK_ALGORITHM]


@pytest.mark.parametrize(
    "file_name",
    [
        "stm-rsa-ca05-padded.der",
        "infineon-ecc-ca035-slb9670.der",
        "nuvoton-rsa-malformed-set.der",
        "intel-ptt-spth-rsa.der",
        "google-vtpm-ecc-ek-v1.der",
    ],
)
def test_real_endorsement_keys_are_accepted(file_name: str) -> None:
    raw = ek_certificate(file_name)
    key = decode_certificate(raw).key
    if isinstance(key, RsaKey):
        public: TpmPublic = rsa(_rsa_template(), key.modulus)
    else:
        public = replace(EK_PUBLIC, x=key.x.to_bytes(32, "big"), y=key.y.to_bytes(32, "big"))
    policy = trusting(dict(every_certificate("vendor-ca")))
    identity = replace(GOOD, ek_public=public.encode(), ek_certificates=(raw,))
    assert check(identity, policy).endorsement.tpm_model.manufacturer.startswith("id:")


# Certificates that prove nothing: e04


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param(replace(EK, not_after="20260101000000Z"), FindingId.EK_EXPIRED, id="expired"),
        pytest.param(
            replace(EK, extensions=(made.usage(0), made.tpm_names())), FindingId.EK_USAGE, id="wrong key usage"
        ),
        pytest.param(replace(EK, extensions=(made.usage(4),)), FindingId.EK_USAGE, id="neither purpose nor TPM"),
        pytest.param(replace(EK, key=made.key_info(ec_key("other"))), FindingId.EK_KEY_MISMATCH, id="another key"),
        pytest.param(replace(EK, issuer=made.name("Unknown")), FindingId.EK_UNTRUSTED_ROOT, id="unknown root"),
    ],
)
def test_e04_a_wrong_certificate_is_refused(facts: made.Facts, expected: FindingId) -> None:
    assert refused(replace(GOOD, ek_certificates=(made.ek_certificate(facts),))) == [expected]


def test_e04_a_certificate_that_does_not_decode_is_refused() -> None:
    assert refused(replace(GOOD, ek_certificates=(b"\x30\x03\x02\x01",))) == [FindingId.EK_MALFORMED]


def test_only_the_first_certificate_counts() -> None:
    other = made.ek_certificate(replace(EK, key=made.key_info(ec_key("other"))))
    assert refused(replace(GOOD, ek_certificates=(other, made.ek_certificate()))) == [FindingId.EK_KEY_MISMATCH]


# Weak keys, and keys of no template: e09


@pytest.mark.parametrize(
    ("ek", "expected"),
    [
        pytest.param(
            rsa(_rsa_template(), rsa_key("small", 1024).public_key().public_numbers().n, 1024),
            [FindingId.EK_WEAK, FindingId.EK_TEMPLATE],
            id="RSA 1024",
        ),
        pytest.param(rsa(_rsa_template(), roca_modulus(2048)), [FindingId.EK_WEAK], id="ROCA"),
        pytest.param(
            replace(EK_PUBLIC, curve=CurveId.P192, x=bytes(24), y=bytes(24)),
            [FindingId.EK_WEAK, FindingId.EK_TEMPLATE],
            id="P-192",
        ),
        pytest.param(
            replace(EK_PUBLIC, attributes=EK_PUBLIC.attributes ^ ObjectAttributes.RESTRICTED),
            [FindingId.EK_TEMPLATE],
            id="unrestricted, so that it decrypts anything",
        ),
        pytest.param(replace(EK_PUBLIC, auth_policy=bytes(32)), [FindingId.EK_TEMPLATE], id="another policy"),
    ],
)
def test_e09_a_weak_or_odd_endorsement_key_is_refused(ek: TpmPublic, expected: list[FindingId]) -> None:
    policy = replace(NOTHING, ek_allow=frozenset({digest_of(ek.encode())}))
    assert refused(replace(GOOD, ek_public=ek.encode()), policy) == expected


@pytest.mark.parametrize("which", ["ek_public", "ak_public"])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda raw: b"\x00\x08" + raw[2:], id="e09 unknown algorithm"),
        pytest.param(lambda raw: raw[:-1], id="cut"),
        pytest.param(lambda raw: raw + b"\0", id="one byte too many"),
        pytest.param(lambda _: b"", id="empty"),
    ],
)
def test_a_public_area_that_does_not_decode_is_malformed(which: str, change: Callable[[bytes], bytes]) -> None:
    good = {"ek_public": GOOD.ek_public, "ak_public": GOOD.ak_public}
    good[which] = change(good[which])
    with pytest.raises(MalformedInput, match="TPMT_PUBLIC"):
        check(replace(GOOD, ek_public=good["ek_public"], ak_public=good["ak_public"]))


def test_a_request_that_its_key_did_not_sign_is_refused() -> None:
    forged = bytearray(REQUEST)
    forged[-1] ^= 1
    assert refused(replace(GOOD, certificate_request=bytes(forged))) == [FindingId.TLS_REQUEST]


def test_all_findings_are_reported_at_once() -> None:
    identity = replace(
        GOOD,
        ek_public=replace(EK_PUBLIC, auth_policy=bytes(32)).encode(),
        ek_certificates=(made.ek_certificate(replace(EK, not_after="20260101000000Z", extensions=())),),
        ak_public=replace(AK_PUBLIC, attributes=ObjectAttributes(0), name_alg=HashAlg.SHA1).encode(),
    )
    assert set(refused(identity)) == {
        FindingId.AK_ATTRIBUTES,
        FindingId.AK_ALGORITHM,
        FindingId.EK_TEMPLATE,
        FindingId.EK_EXPIRED,
        FindingId.EK_USAGE,
    }


# The challenge: e06, e07

SECRET = bytes(range(32))


def test_the_right_secret_proves_the_candidate() -> None:
    candidate = check()
    assert CredentialChallenge(candidate, SECRET).activate(SECRET) is candidate


@pytest.mark.parametrize("wrong", [b"", SECRET[:-1], SECRET + b"\0", bytes(32)])
def test_e06_after_a_wrong_secret_the_right_one_is_refused_too(wrong: bytes) -> None:
    challenge = CredentialChallenge(check(), SECRET)
    with pytest.raises(ProofFailed) as error:
        challenge.activate(wrong)
    assert [finding.id for finding in error.value.findings] == [FindingId.AK_ACTIVATION]
    with pytest.raises(OutOfOrder):
        challenge.activate(SECRET)


def test_e07_a_challenge_is_not_answered_twice() -> None:
    challenge = CredentialChallenge(check(), SECRET)
    challenge.activate(SECRET)
    with pytest.raises(OutOfOrder):
        challenge.activate(SECRET)


def test_e07_the_secret_of_another_challenge_is_refused() -> None:
    challenge = CredentialChallenge(check(), SECRET)
    with pytest.raises(ProofFailed):
        challenge.activate(bytes(reversed(SECRET)))


def test_a_challenge_needs_a_whole_secret() -> None:
    with pytest.raises(ValueError, match="31 bytes"):
        CredentialChallenge(check(), SECRET[:-1])
