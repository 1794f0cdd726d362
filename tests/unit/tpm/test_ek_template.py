from __future__ import annotations

from dataclasses import replace

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import Alg, CurveId, HashAlg, ObjectAttributes
from nodeseal.tpm.buffer import sized, u16, u32
from nodeseal.tpm.ek_template import TEMPLATES, EkTemplate, identify_ek_template, identity_name, template
from nodeseal.tpm.policy import policy_secret_endorsement
from nodeseal.tpm.public import EccPublic, RsaPublic, Scheme, Symmetric, TpmPublic

NAMES = ("L-1", "L-2", "H-1", "H-2", "H-3", "H-4", "H-6", "H-7")
# TCG EK Credential Profile v2.5, Annex B.6: PolicyB
POLICY_B = {
    HashAlg.SHA256: "ca3d0a99a2b93906f7a3342414efcfb3a385d44cd1fd459089d19b5071c0b7a0",
    HashAlg.SHA384: "b26e7d28d11a50bc53d882bcf5fd3a1a074148bb35d3b4e4cb1c0ad9bde419cacb47ba09699646150f9fc000f3f80e12",
    HashAlg.SHA512: "b8221ca69e8550a4914de3faa6a18c072cc01208073a928d5d66d59ef79e49a4"
    "29c41a6b269571d57edb25fbdb1838425608b413cd616a5f6db5b6071af99bea",
}


def made(each: EkTemplate) -> TpmPublic:
    """Return a key as CreatePrimary would make it from the template."""
    if isinstance(each.public, RsaPublic):
        return replace(each.public, modulus=b"\x99" * (each.public.key_bits // 8))
    size = each.public.curve.coordinate_size
    return replace(each.public, x=b"\x01" * size, y=b"\x02" * size)


def test_all_templates_of_the_profile_but_sm2_are_known() -> None:
    assert tuple(each.name for each in TEMPLATES) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_key_is_traced_to_its_template(name: str) -> None:
    assert identify_ek_template(made(template(name))) is template(name)


@pytest.mark.parametrize("name", NAMES[2:])
def test_high_range_templates_have_policy_b_and_no_unique(name: str) -> None:
    public = template(name).public
    assert public.auth_policy.hex() == POLICY_B[public.name_alg]
    assert public.attributes & ObjectAttributes.USER_WITH_AUTH
    assert public.encode().endswith(b"\0\0")


@pytest.mark.parametrize(("policy_hash", "index"), [(HashAlg.SHA256, 1), (HashAlg.SHA384, 2), (HashAlg.SHA512, 3)])
def test_policy_c_authorises_by_the_profiles_policy_index(policy_hash: HashAlg, index: int) -> None:
    attributes = 0x220F1008  # policy write, write all, all reads, no DA, written (Annex B.6.2)
    area = u32(0x01C07F00 + index) + u16(policy_hash) + u32(attributes)
    area += sized(policy_secret_endorsement(policy_hash)) + u16(2 + policy_hash.digest_size)
    name = u16(policy_hash) + policy_hash.digest(area)
    command = u32(0x00000192)
    policy_c = policy_hash.digest(bytes(policy_hash.digest_size) + command + name)
    branches = policy_secret_endorsement(policy_hash) + policy_c
    policy_b = policy_hash.digest(bytes(policy_hash.digest_size) + u32(0x171) + branches)
    assert policy_b.hex() == POLICY_B[policy_hash]


L1, L2 = made(template("L-1")), made(template("L-2"))
assert isinstance(L1, RsaPublic)
assert isinstance(L2, EccPublic)
STRANGERS: dict[str, TpmPublic] = {
    "that may sign": replace(L2, attributes=L2.attributes | ObjectAttributes.SIGN_ENCRYPT),
    "that is not restricted": replace(L2, attributes=L2.attributes ^ ObjectAttributes.RESTRICTED),
    "that is not fixed to its TPM": replace(L2, attributes=L2.attributes ^ ObjectAttributes.FIXED_TPM),
    "with another policy": replace(L2, auth_policy=bytes(32)),
    "without policy": replace(L2, auth_policy=b""),
    "of another curve": replace(L2, curve=CurveId.P384),
    "with another cipher": replace(L2, symmetric=Symmetric(256)),
    "with a scheme": replace(L2, scheme=Scheme(Alg.ECDH, HashAlg.SHA256)),
    "with another name algorithm": replace(L1, name_alg=HashAlg.SHA384),
    "of RSA with an exponent": replace(L1, exponent=3),
    "of RSA with another size": replace(L1, key_bits=3072),
}


@pytest.mark.parametrize("case", STRANGERS)
def test_no_template_fits_a_key(case: str) -> None:
    with pytest.raises(MalformedInput, match="fits no template"):
        identify_ek_template(STRANGERS[case])


def test_an_unknown_template_name_is_refused() -> None:
    with pytest.raises(MalformedInput, match="EK template 'H-5' is unknown"):
        template("H-5")


KEYS = {
    "RSA 2048": (b"\xc1" * 256, ("L-1", "H-1")),
    "RSA 3072": (b"\xc1" * 384, ("H-6",)),
    "P-256": (b"\xc1" * 32, ("L-2", "H-2")),
    "P-384": (b"\xc1" * 48, ("H-3",)),
}


def _made(name: str, unique: bytes) -> TpmPublic:
    public = template(name).public
    if isinstance(public, RsaPublic):
        return replace(public, modulus=unique)
    return replace(public, x=unique, y=unique)


@pytest.mark.parametrize("kind", KEYS)
def test_a_key_has_one_name_whichever_template_it_is_shown_under(kind: str) -> None:
    unique, names = KEYS[kind]
    first = _made(names[0], unique).name()
    assert [identity_name(_made(name, unique)) for name in names] == [first] * len(names)
    assert identity_name(_made(names[0], b"\xc2" + unique[1:])) != first


def test_leading_zeros_of_a_coordinate_make_no_other_name() -> None:
    key = _made("L-2", b"\0" + b"\xc1" * 31)
    assert isinstance(key, EccPublic)
    short = replace(key, x=key.x[1:], y=key.y[1:])
    assert short.name() != key.name()
    assert identity_name(short) == identity_name(key)


def test_a_key_that_no_template_is_for_has_no_name() -> None:
    public = template("L-1").public
    assert isinstance(public, RsaPublic)
    with pytest.raises(MalformedInput, match="no template"):
        identity_name(replace(public, key_bits=1024, modulus=bytes(128)))
