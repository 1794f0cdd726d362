"""Write ``quotes.json``: quotes by fixed keys, and for each whether it verifies or which finding it must give.

After a change that is meant to change vectors: ``python tests/vectors/quotes-generate.py``.
Keys and signatures (RFC 6979) are deterministic, so the file does not change unless the vectors do.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

ALGORITHMS = {"sha1": 4, "sha256": 11, "sha384": 12, "sha512": 13}
HASHES = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}  # noqa: S303 - to be refused
CURVES = {"P-256": (ec.SECP256R1(), 32), "P-384": (ec.SECP384R1(), 48), "P-521": (ec.SECP521R1(), 66)}
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
Banks = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class Quote:
    """A quote to be: everything that a case may change, independent of the code under test."""

    curve: str = "P-256"
    hash: str = "sha256"
    secret: int = 7
    verified_by: int = 7
    magic: bytes = b"\xffTCG"
    type: int = 0x8018
    nonce: bytes = bytes(range(20))
    given_nonce: bytes = bytes(range(20))
    banks: Banks = (("sha256", (0, 1, 7)),)
    select_size: int = 3
    tail: bytes = b""
    signature_tail: bytes = b""
    shown: tuple[int, ...] = field(default=())
    r: int | None = None
    s: int | None = None

    def values(self) -> list[bytes]:
        """Return the value of each PCR: its index, repeated."""
        sizes = {name: HASHES[name].digest_size for name in ALGORITHMS}
        return [bytes([index]) * sizes[bank] for bank, indices in self.banks for index in indices]

    def attest(self) -> bytes:
        """Return the TPMS_ATTEST."""
        digest = _hash(self.hash, b"".join(self.values()))
        selection = struct.pack(">I", len(self.banks)) + b"".join(
            struct.pack(">HB", ALGORITHMS[bank], self.select_size)
            + sum(1 << index for index in indices).to_bytes(self.select_size, "little")
            for bank, indices in self.banks
        )
        head = self.magic + struct.pack(">H", self.type) + _sized(b"\0\x0b" + bytes(32)) + _sized(self.nonce)
        return head + struct.pack(">QIIBQ", 1000, 1, 0, 1, 42) + selection + _sized(digest) + self.tail

    def signature(self) -> bytes:
        """Return the TPMT_SIGNATURE."""
        ecdsa = ec.ECDSA(HASHES[self.hash], deterministic_signing=True)
        r, s = decode_dss_signature(_key(self.curve, self.secret).sign(self.attest(), ecdsa))
        parts = (part.to_bytes(CURVES[self.curve][1], "big") for part in (self._or(self.r, r), self._or(self.s, s)))
        return struct.pack(">HH", 0x18, ALGORITHMS[self.hash]) + b"".join(map(_sized, parts)) + self.signature_tail

    def public(self) -> str:
        """Return the PEM of the key that the verifier is given."""
        form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        return _key(self.curve, self.verified_by).public_key().public_bytes(*form).decode()

    def pcrs(self) -> dict[str, dict[str, str]]:
        """Return the PCR file, with values swapped if ``shown`` says so."""
        values = self.values()
        order = self.shown or range(len(values))
        shown = iter([values[at].hex() for at in order])
        return {bank: {str(index): next(shown) for index in indices} for bank, indices in self.banks}

    @staticmethod
    def _or(given: int | None, otherwise: int) -> int:
        return otherwise if given is None else given


def _key(curve: str, secret: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(secret, CURVES[curve][0])


def _hash(name: str, content: bytes) -> bytes:
    state = hashes.Hash(HASHES[name])
    state.update(content)
    return state.finalize()


def _sized(content: bytes) -> bytes:
    return struct.pack(">H", len(content)) + content


GOOD = Quote()
ALL = tuple(range(24))
CASES: dict[str, tuple[str, Quote]] = {
    "a plain good quote": ("verified", GOOD),
    "P-384 with SHA-384": ("verified", replace(GOOD, curve="P-384", hash="sha384")),
    "P-521 with SHA-512": ("verified", replace(GOOD, curve="P-521", hash="sha512")),
    "P-256 with SHA-384": ("verified", replace(GOOD, hash="sha384")),
    "all PCRs of three banks, largest first": (
        "verified",
        replace(GOOD, banks=(("sha512", ALL), ("sha256", ALL), ("sha1", ALL))),
    ),
    "bitmaps of four bytes": ("verified", replace(GOOD, select_size=4)),
    "a bank that selects nothing": ("verified", replace(GOOD, banks=(("sha1", ()), ("sha256", (0,))))),
    "no nonce": ("verified", replace(GOOD, nonce=b"", given_nonce=b"")),
    "a nonce of 64 bytes": ("verified", replace(GOOD, nonce=bytes(64), given_nonce=bytes(64))),
    "a wrong magic": ("quote.malformed", replace(GOOD, magic=b"\xffTCH")),
    "the type of a certification": ("quote.malformed", replace(GOOD, type=0x8017)),
    "trailing bytes": ("quote.malformed", replace(GOOD, tail=b"\0")),
    "another nonce": ("quote.nonce", replace(GOOD, given_nonce=bytes(20))),
    "a nonce that only begins right": ("quote.nonce", replace(GOOD, given_nonce=bytes(range(19)))),
    "a selection of nothing": ("quote.selection", replace(GOOD, banks=())),
    "a bank named twice": ("quote.malformed", replace(GOOD, banks=(("sha256", (0,)), ("sha256", (1,))))),
    "bitmaps of eight bytes": ("quote.malformed", replace(GOOD, select_size=8)),
    "PCR 24": ("quote.malformed", replace(GOOD, select_size=4, banks=(("sha256", (24,)),))),
    "values permuted between registers": ("pcr.digest", replace(GOOD, shown=(1, 0, 2))),
    "another key": ("quote.signature", replace(GOOD, verified_by=8)),
    "r of zero": ("quote.signature", replace(GOOD, r=0)),
    "s of zero": ("quote.signature", replace(GOOD, s=0)),
    "r of the order": ("quote.signature", replace(GOOD, r=ORDER)),
    "s of the order": ("quote.signature", replace(GOOD, s=ORDER)),
    "trailing bytes behind the signature": ("malformed", replace(GOOD, signature_tail=b"\0")),
    "SHA-1": ("quote.algorithm", replace(GOOD, hash="sha1")),
}


def vectors() -> list[dict[str, object]]:
    """Return all cases as plain values."""
    return [
        {
            "name": name,
            "expected": expected,
            "attest": quote.attest().hex(),
            "signature": quote.signature().hex(),
            "public": quote.public(),
            "nonce": quote.given_nonce.hex(),
            "pcrs": quote.pcrs(),
        }
        for name, (expected, quote) in CASES.items()
    ]


if __name__ == "__main__":
    Path(__file__).with_name("quotes.json").write_text(json.dumps(vectors(), indent=1) + "\n")
