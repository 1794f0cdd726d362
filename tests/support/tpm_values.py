"""Good values of TPM structures; tests change one fact of them."""

from __future__ import annotations

from nodeseal.tpm.algorithms import Alg, CurveId, HashAlg, ObjectAttributes
from nodeseal.tpm.attest import Attest, Certified, ClockInfo, Created, Quoted
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.tpm.public import EccPublic, RsaPublic, Scheme, Symmetric, TpmPublic

SELECTION = PcrSelection.of({HashAlg.SHA256: (0, 1, 7), HashAlg.SHA1: (10, 23)})
CLOCK = ClockInfo(clock=1_234_567_890_123, reset_count=7, restart_count=2, safe=True)
NAME = b"\0\x0b" + bytes(range(32))


def attest(attested: Quoted | Certified | Created | None = None, extra_data: bytes = b"nonce") -> Attest:
    """Return an attestation, of a quote by default."""
    return Attest(
        qualified_signer=NAME,
        extra_data=extra_data,
        clock_info=CLOCK,
        firmware_version=0x2019_1023_0016_3636,
        attested=attested or Quoted(SELECTION, bytes(range(32))),
    )


ATTESTED: dict[str, Quoted | Certified | Created] = {
    "a quote": Quoted(SELECTION, bytes(32)),
    "a quote of nothing": Quoted(None, bytes(32)),
    "a certification": Certified(NAME, NAME[::-1]),
    "a creation": Created(NAME, bytes(48)),
}

ECC = EccPublic(
    name_alg=HashAlg.SHA256,
    attributes=ObjectAttributes.FIXED_TPM | ObjectAttributes.RESTRICTED | ObjectAttributes.SIGN_ENCRYPT,
    auth_policy=b"",
    symmetric=None,
    scheme=Scheme(Alg.ECDSA, HashAlg.SHA256),
    curve=CurveId.P256,
    x=bytes.fromhex("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"),
    y=bytes.fromhex("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"),
)
RSA = RsaPublic(
    name_alg=HashAlg.SHA384,
    attributes=ObjectAttributes.FIXED_TPM | ObjectAttributes.RESTRICTED | ObjectAttributes.DECRYPT,
    auth_policy=bytes(range(48)),
    symmetric=Symmetric(256),
    scheme=None,
    key_bits=2048,
    exponent=0,
    modulus=bytes(range(256)),
)
PUBLICS: dict[str, TpmPublic] = {"an ECC signing key": ECC, "an RSA storage key": RSA}
