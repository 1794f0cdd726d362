"""TPMS_ATTEST, which a TPM signs: quotes, certifications and creations (TPM Library Part 2, "Attestation Structures").

Decoding proves nothing. A structure that starts with TPM_GENERATED_VALUE and is signed by a restricted key comes from
the TPM's own commands: such a key signs no outside data with that start (TPM2_Hash and TPM2_Sign, Part 3).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from nodeseal.errors import MalformedInput
from nodeseal.tpm.buffer import MAX_DIGEST, MAX_NAME, Reader, sized
from nodeseal.tpm.pcr import PcrSelection, decode_pcr_selection

GENERATED_VALUE = 0xFF544347
"""TPM_GENERATED_VALUE (Part 2, TPM_GENERATED): the bytes ``ff`` ``TCG``."""
CERTIFY = 0x8017
QUOTE = 0x8018
CREATION = 0x801A

_HEAD = struct.Struct(">IH")
_CLOCK = struct.Struct(">QIIBQ")
_EMPTY_SELECTION = bytes(4)


class ClockInfo(NamedTuple):
    """Time and resets of the TPM (TPMS_CLOCK_INFO); obfuscated for keys outside the endorsement hierarchy.

    Attributes:
        clock: milliseconds under power since the TPM was last cleared.
        reset_count: TPM resets since the TPM was last cleared.
        restart_count: resumes and restarts since the last reset.
        safe: whether the TPM has never reported a greater ``clock``; after a sudden loss of power it may have.
    """

    clock: int
    reset_count: int
    restart_count: int
    safe: bool


@dataclass(frozen=True, slots=True)
class Quoted:
    """TPMS_QUOTE_INFO.

    Attributes:
        selection: the PCRs that were quoted. None: no PCR was, so the quote proves nothing about PCRs.
        pcr_digest: digest over the selected values, by the hash of the signing scheme (TPM2_Quote, Part 3).
    """

    selection: PcrSelection | None
    pcr_digest: bytes


@dataclass(frozen=True, slots=True)
class Certified:
    """TPMS_CERTIFY_INFO: the TPM holds the object of this name."""

    name: bytes
    qualified_name: bytes


@dataclass(frozen=True, slots=True)
class Created:
    """TPMS_CREATION_INFO: the TPM created the object of this name."""

    object_name: bytes
    creation_hash: bytes


class Attest(NamedTuple):
    """TPMS_ATTEST. A plain tuple, because every round of every node makes one.

    Attributes:
        qualified_signer: qualified name of the signing key.
        extra_data: data of the caller that is signed along: the nonce or binding.
        clock_info: time and resets.
        firmware_version: the TPM vendor's number.
        attested: the attested facts.
    """

    qualified_signer: bytes
    extra_data: bytes
    clock_info: ClockInfo
    firmware_version: int
    attested: Quoted | Certified | Created

    @property
    def quoted(self) -> Quoted:
        """The quote in it.

        Raises:
            MalformedInput: not a quote.
        """
        if not isinstance(self.attested, Quoted):
            raise MalformedInput(f"TPMS_ATTEST: a quote is due, this is {type(self.attested).__name__}")
        return self.attested

    @property
    def certified(self) -> Certified:
        """The certification in it.

        Raises:
            MalformedInput: not a certification.
        """
        if not isinstance(self.attested, Certified):
            raise MalformedInput(f"TPMS_ATTEST: a certification is due, this is {type(self.attested).__name__}")
        return self.attested


def decode_attest(raw: bytes) -> Attest:
    """Decode a TPMS_ATTEST (without the size of a TPM2B_ATTEST).

    Raises:
        MalformedInput: wrong magic, a type that is not quote, certify or creation, or malformed fields.
    """
    reader = Reader(raw, "TPMS_ATTEST")
    magic, kind = reader.unpack(_HEAD, "magic")
    if magic != GENERATED_VALUE:
        raise reader.fault("magic", f"is 0x{magic:08x}: no TPM made this")
    signer = reader.sized("qualifiedSigner", MAX_NAME)
    extra_data = reader.sized("extraData", MAX_NAME)
    clock, resets, restarts, safe, firmware = reader.unpack(_CLOCK, "clockInfo")
    if safe > 1:
        raise reader.fault("clockInfo.safe", f"is {safe}, neither 0 nor 1")
    clock_info = ClockInfo(clock, resets, restarts, safe == 1)
    return Attest(signer, extra_data, clock_info, firmware, _decode_attested(kind, reader.rest()))


@lru_cache(maxsize=16_384)
def _decode_attested(kind: int, raw: bytes) -> Quoted | Certified | Created:
    """Decode TPMU_ATTEST. Cached: a node whose PCRs do not change quotes the same bytes in every round."""
    reader = Reader(raw, "TPMS_ATTEST.attested")
    attested = _read_attested(reader, kind)
    reader.end()
    return attested


def _read_attested(reader: Reader, kind: int) -> Quoted | Certified | Created:
    if kind == QUOTE:
        return Quoted(decode_pcr_selection(reader), reader.sized("pcrDigest", MAX_DIGEST))
    if kind == CERTIFY:
        return Certified(reader.sized("name", MAX_NAME), reader.sized("qualifiedName", MAX_NAME))
    if kind == CREATION:
        return Created(reader.sized("objectName", MAX_NAME), reader.sized("creationHash", MAX_DIGEST))
    raise MalformedInput(f"TPMS_ATTEST: type is 0x{kind:04x}, neither quote, certify nor creation")


def encode_attest(attest: Attest) -> bytes:
    """Return the TPMS_ATTEST that decodes to ``attest``."""
    clock = attest.clock_info
    kind, attested = _encode_attested(attest.attested)
    return b"".join(
        (
            _HEAD.pack(GENERATED_VALUE, kind),
            sized(attest.qualified_signer),
            sized(attest.extra_data),
            _CLOCK.pack(clock.clock, clock.reset_count, clock.restart_count, clock.safe, attest.firmware_version),
            attested,
        )
    )


def _encode_attested(attested: Quoted | Certified | Created) -> tuple[int, bytes]:
    match attested:
        case Quoted(selection, pcr_digest):
            return QUOTE, (selection.encode() if selection else _EMPTY_SELECTION) + sized(pcr_digest)
        case Certified(name, qualified_name):
            return CERTIFY, sized(name) + sized(qualified_name)
        case Created(object_name, creation_hash):
            return CREATION, sized(object_name) + sized(creation_hash)
