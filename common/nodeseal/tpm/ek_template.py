"""Templates of endorsement keys: TCG EK Credential Profile for TPM Family 2.0, v2.5, Annex B.

Low range (L-1, L-2): unique holds zeros, use by PolicySecret(endorsement). High range (H-1 to H-7): unique is empty,
use by password or PolicyB. H-5 (SM2) is left out, because nodeseal accepts no SM2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import CurveId, HashAlg, ObjectAttributes
from nodeseal.tpm.policy import policy_or, policy_secret_endorsement
from nodeseal.tpm.public import EccPublic, RsaPublic, Symmetric, TpmPublic

_COMMON = (
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
    | ObjectAttributes.ADMIN_WITH_POLICY
    | ObjectAttributes.RESTRICTED
    | ObjectAttributes.DECRYPT
)
_POLICY_C = {
    HashAlg.SHA256: bytes.fromhex("3767e2edd43ff45a3a7e1eaefcef78643dca964632e7aad82c673a30d8633fde"),
    HashAlg.SHA384: bytes.fromhex(
        "d6032ce61f2fb3c240eb3cf6a33237ef2b6a16f4293c22b455e261cffd217ad5b4947c2d73e63005eed2dc2b3593d165"
    ),
    HashAlg.SHA512: bytes.fromhex(
        "589ee1e146544716e8deafe6db247b01b81e9f9c7dd16b814aa159138749105f"
        "ba5388dd1dea702f35240c184933121e2c61b8f50d3ef91393a49a38c3f73fc8"
    ),
}
"""PolicyC: TPM2_PolicyAuthorizeNV over the profile's policy index I-1, I-2 or I-3."""


@dataclass(frozen=True, slots=True)
class EkTemplate:
    """One template of the profile.

    Attributes:
        name: the profile's name, ``L-1`` to ``H-7``.
        public: input of TPM2_CreatePrimary, unique included.
        certificate_nv_index: NV index of the certificate (the profile's low and high range).
    """

    name: str
    public: TpmPublic
    certificate_nv_index: int

    def made(self, public: TpmPublic) -> bool:
        """Tell whether ``public`` is a key made from this template: only unique differs."""
        return type(public) is type(self.public) and _blank(public) == _blank(self.public)


def template(name: str) -> EkTemplate:
    """Return the template called ``name``.

    Raises:
        MalformedInput: the profile has no such template, or nodeseal does not accept it.
    """
    if name not in _BY_NAME:
        raise MalformedInput(f"EK template {name[:16]!a} is unknown", remedy=f"use one of {', '.join(_BY_NAME)}")
    return _BY_NAME[name]


def identify_ek_template(public: TpmPublic) -> EkTemplate:
    """Return the template that ``public`` was made from.

    Raises:
        MalformedInput: made from none of them.
    """
    for each in TEMPLATES:
        if each.made(public):
            return each
    raise MalformedInput("endorsement key: its public area fits no template of the TCG EK Credential Profile")


def identity_name(public: TpmPublic) -> bytes:
    """Return the name that identifies an endorsement key, whichever template its public area shows.

    Certificates and TPM2_MakeCredential prove the key only, not the attributes and the policy that its holder shows
    with it. So that a key has one name, the name is taken of the first template for keys of its kind.

    Raises:
        MalformedInput: the profile has no template for keys of its kind.
    """
    for each in TEMPLATES:
        form = each.public
        if isinstance(public, RsaPublic) and isinstance(form, RsaPublic) and public.key_bits == form.key_bits:
            return replace(form, modulus=public.modulus.rjust(form.key_bits // 8, b"\0")).name()
        if isinstance(public, EccPublic) and isinstance(form, EccPublic) and public.curve is form.curve:
            size = form.curve.coordinate_size
            return replace(form, x=public.x.rjust(size, b"\0"), y=public.y.rjust(size, b"\0")).name()
    raise MalformedInput("endorsement key: no template of the TCG EK Credential Profile is for such a key")


def _blank(public: TpmPublic) -> bytes:
    """Return the public area without unique, which stands at its end."""
    if isinstance(public, RsaPublic):
        return public.encode()[: -2 - len(public.modulus)]
    return public.encode()[: -4 - len(public.x) - len(public.y)]


def _policy_b(policy_hash: HashAlg) -> bytes:
    return policy_or((policy_secret_endorsement(policy_hash), _POLICY_C[policy_hash]), policy_hash)


def _rsa(key_bits: int, name_alg: HashAlg, aes_bits: int) -> RsaPublic:
    return RsaPublic(
        name_alg=name_alg,
        attributes=_COMMON | ObjectAttributes.USER_WITH_AUTH,
        auth_policy=_policy_b(name_alg),
        symmetric=Symmetric(aes_bits),
        scheme=None,
        key_bits=key_bits,
        exponent=0,
        modulus=b"",
    )


def _ecc(curve: CurveId, name_alg: HashAlg, aes_bits: int) -> EccPublic:
    return EccPublic(
        name_alg=name_alg,
        attributes=_COMMON | ObjectAttributes.USER_WITH_AUTH,
        auth_policy=_policy_b(name_alg),
        symmetric=Symmetric(aes_bits),
        scheme=None,
        curve=curve,
        x=b"",
        y=b"",
    )


_H1 = _rsa(2048, HashAlg.SHA256, 128)
_H2 = _ecc(CurveId.P256, HashAlg.SHA256, 128)
_POLICY_A = policy_secret_endorsement(HashAlg.SHA256)
TEMPLATES = (
    EkTemplate("L-1", replace(_H1, attributes=_COMMON, auth_policy=_POLICY_A, modulus=bytes(256)), 0x01C00002),
    EkTemplate("L-2", replace(_H2, attributes=_COMMON, auth_policy=_POLICY_A, x=bytes(32), y=bytes(32)), 0x01C0000A),
    EkTemplate("H-1", _H1, 0x01C00012),
    EkTemplate("H-2", _H2, 0x01C00014),
    EkTemplate("H-3", _ecc(CurveId.P384, HashAlg.SHA384, 256), 0x01C00016),
    EkTemplate("H-4", _ecc(CurveId.P521, HashAlg.SHA512, 256), 0x01C00018),
    EkTemplate("H-6", _rsa(3072, HashAlg.SHA384, 256), 0x01C0001C),
    EkTemplate("H-7", _rsa(4096, HashAlg.SHA384, 256), 0x01C0001E),
)
"""All templates nodeseal accepts, in the profile's order."""
_BY_NAME = {each.name: each for each in TEMPLATES}
