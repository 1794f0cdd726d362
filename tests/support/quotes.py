"""Quotes and certifications signed with a P-256 key in memory, for tests that need no TPM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.evidence.quote import QuotedPcrs, prove_pcr_values
from nodeseal.tpm.algorithms import Alg, CurveId, HashAlg, ObjectAttributes
from nodeseal.tpm.attest import Attest, Certified, ClockInfo, Quoted, encode_attest
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.public import EccPublic, Scheme
from nodeseal.tpm.signature import EccSignature, encode_signature

AK_ATTRIBUTES = (
    ObjectAttributes.FIXED_TPM
    | ObjectAttributes.FIXED_PARENT
    | ObjectAttributes.SENSITIVE_DATA_ORIGIN
    | ObjectAttributes.USER_WITH_AUTH
    | ObjectAttributes.NO_DA
    | ObjectAttributes.RESTRICTED
    | ObjectAttributes.SIGN_ENCRYPT
)
ENDORSEMENT, OWNER = 0x4000000B, 0x40000001
START = ClockInfo(clock=1_000_000_000, reset_count=7, restart_count=0, safe=True)


@dataclass(frozen=True)
class Signed:
    """Quote or certification as a TPM returns it: TPMS_ATTEST and TPMT_SIGNATURE."""

    attest: bytes
    signature: bytes


@dataclass
class SigningKey:
    """P-256 attestation key in software that signs any bytes."""

    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def public(self) -> EccPublic:
        numbers = self.private.public_key().public_numbers()
        return EccPublic(
            name_alg=HashAlg.SHA256,
            attributes=AK_ATTRIBUTES,
            auth_policy=b"",
            symmetric=None,
            scheme=Scheme(Alg.ECDSA, HashAlg.SHA256),
            curve=CurveId.P256,
            x=numbers.x.to_bytes(32, "big"),
            y=numbers.y.to_bytes(32, "big"),
        )

    def verifier(self) -> SignatureVerifier:
        return SignatureVerifier(self.public)

    def sign(self, message: bytes) -> bytes:
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(hashes.SHA256())))
        return encode_signature(EccSignature(HashAlg.SHA256, r, s))

    def qualified_name(self, hierarchy: int = ENDORSEMENT) -> bytes:
        """Return the qualified name of a primary key: over the hierarchy's handle and the key's name."""
        return b"\0\x0b" + HashAlg.SHA256.digest(hierarchy.to_bytes(4, "big") + self.public.name())

    def attest(
        self, attested: Quoted | Certified, extra_data: bytes, clock_info: ClockInfo = START, firmware: int = 1
    ) -> Signed:
        raw = encode_attest(
            Attest(
                qualified_signer=self.qualified_name(),
                extra_data=extra_data,
                clock_info=clock_info,
                firmware_version=firmware,
                attested=attested,
            )
        )
        return Signed(raw, self.sign(raw))


def quoted(selection: PcrSelection, values: Mapping[int, bytes], *, bank: HashAlg = HashAlg.SHA256) -> Quoted:
    """Return the quote info over ``values`` of one bank."""
    return Quoted(selection, pcr_digest(bank, (values[index] for _, index in selection.indices())))


def quoted_pcrs(values: Mapping[HashAlg, Mapping[int, bytes]]) -> QuotedPcrs:
    """Return values as a quote proves them."""
    selection = PcrSelection.of({bank: rows.keys() for bank, rows in values.items()})
    claimed = [values[bank][index] for bank, index in selection.indices()]
    return prove_pcr_values(Quoted(selection, pcr_digest(HashAlg.SHA256, claimed)), HashAlg.SHA256, claimed)
