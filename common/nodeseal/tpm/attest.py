"""What a TPM signs: TPMS_ATTEST of quotes, certifications and creations (TPM Library Part 2, "Attestation Structures").

Decoding proves nothing. Only a structure that starts with TPM_GENERATED_VALUE can come from a TPM's own attestation
commands, because a restricted key refuses to sign outside data that starts so (TPM2_Hash and TPM2_Sign, Part 3).
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
    """Time and resets of the TPM (TPMS_CLOCK_INFO), obfuscated for keys outside the endorsement hierarchy.

    Attributes:
        clock: milliseconds the TPM has been powered, over its whole life.
        reset_count: TPM resets since the TPM was last cleared.
        restart_count: resumes and restarts since the last reset.
        safe: no greater value of ``clock`` was ever reported before an unorderly shutdown.
    """

    clock: int
    reset_count: int
    restart_count: int
    safe: bool


@dataclass(frozen=True, slots=True)
class Quoted:
    """TPMS_QUOTE_INFO.

    Attributes:
        selection: what was quoted; None when nothing was, which no caller may take for a proof.
        pcr_digest: digest over the selected values, by the hash of the signing scheme (TPM2_Quote, Part 3).
    """

    selection: PcrSelection | None
    pcr_digest: bytes


@dataclass(frozen=True, slots=True)
class Certified:
    """TPMS_CERTIFY_INFO: the TPM holds an object of this name."""

    name: bytes
    qualified_name: bytes


@dataclass(frozen=True, slots=True)
class Created:
    """TPMS_CREATION_INFO: the TPM created an object of this name."""

    object_name: bytes
    creation_hash: bytes


class Attest(NamedTuple):
    """TPMS_ATTEST; a plain tuple, because one is made in every round of every node.

    Attributes:
        qualified_signer: qualified name of the signing key.
        extra_data: what the caller asked to have signed along: the nonce or binding.
        clock_info: time and resets.
        firmware_version: the TPM vendor's number.
        attested: what was attested.
    """

    qualified_signer: bytes
    extra_data: bytes
    clock_info: ClockInfo
    firmware_version: int
    attested: Quoted | Certified | Created

    @property
    def quoted(self) -> Quoted:
        """What was quoted.

        Raises:
            MalformedInput: this attests something else.
        """
        if not isinstance(self.attested, Quoted):
            raise MalformedInput(f"TPMS_ATTEST: a quote is due, this is {type(self.attested).__name__}")
        return self.attested

    @property
    def certified(self) -> Certified:
        """What was certified.

        Raises:
            MalformedInput: this attests something else.
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
    """Decode TPMU_ATTEST; cached, because a node whose PCRs rest quotes the same bytes round after round."""
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
