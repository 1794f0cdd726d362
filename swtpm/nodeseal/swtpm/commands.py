"""The TPM commands that a machine's owner and its resource manager send (TPM Library Part 3).

Functions turn values into command bytes; :func:`body` gives what follows the header of a response. All authorisations
are empty passwords (Part 1, "Password Authorizations"): a new TPM has no others.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from nodeseal.errors import Unavailable
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.buffer import Reader, sized, u8, u16, u32
from nodeseal.tpm.handles import PermanentHandle
from nodeseal.tpm.pcr import PCR_BITMAP_SIZE, PCR_COUNT, PcrSelection, decode_pcr_selection
from nodeseal.tpm.public import TpmPublic, encode_public_2b

NO_SESSIONS: Final = 0x8001
SESSIONS: Final = 0x8002
HEADER_SIZE: Final = 10
MAX_COMMAND: Final = 4096
"""Largest command and response of libtpms (TPM2_PT_MAX_COMMAND_SIZE)."""
_EMPTY_PASSWORD: Final = u32(PermanentHandle.PASSWORD) + u16(0) + u8(0) + u16(0)
_SUCCESS: Final = 0
_MAX_PCRS_PER_READ: Final = 8
_CERTIFICATE_NV: Final = 0x42072001
"""TPMA_NV (Part 2): PPWRITE, WRITEDEFINE, PPREAD, OWNERREAD, AUTHREAD, NO_DA, PLATFORMCREATE."""
_NV_CHUNK: Final = 512


class CommandCode(IntEnum):
    """TPM_CC (Part 2)."""

    NV_DEFINE_SPACE = 0x12A
    PCR_ALLOCATE = 0x12B
    CREATE_PRIMARY = 0x131
    NV_WRITE = 0x137
    STARTUP = 0x144
    SHUTDOWN = 0x145
    CONTEXT_LOAD = 0x161
    CONTEXT_SAVE = 0x162
    FLUSH_CONTEXT = 0x165
    GET_CAPABILITY = 0x17A
    PCR_READ = 0x17E
    PCR_EXTEND = 0x182


def command(code: CommandCode, parameters: bytes = b"") -> bytes:
    """Return a command without authorisation; handles, if any, are the start of ``parameters``."""
    return u16(NO_SESSIONS) + u32(HEADER_SIZE + len(parameters)) + u32(code) + parameters


def _authorised(code: CommandCode, handles: tuple[int, ...], parameters: bytes) -> bytes:
    """Return a command whose first handle is authorised by the empty password."""
    rest = b"".join(map(u32, handles)) + u32(len(_EMPTY_PASSWORD)) + _EMPTY_PASSWORD + parameters
    return u16(SESSIONS) + u32(HEADER_SIZE + len(rest)) + u32(code) + rest


def response_code(response: bytes) -> int:
    """Return the TPM_RC of a response."""
    return int.from_bytes(response[6:HEADER_SIZE], "big")


def body(response: bytes, what: str) -> Reader:
    """Return a reader behind the header of a successful response.

    Raises:
        Unavailable: the TPM refused ``what``.
    """
    if response_code(response) != _SUCCESS:
        raise Unavailable(f"{what}: the TPM answered 0x{response_code(response):03x}")
    return Reader(response[HEADER_SIZE:], what)


def startup() -> bytes:
    """TPM2_Startup(CLEAR)."""
    return command(CommandCode.STARTUP, u16(0))


def shutdown() -> bytes:
    """TPM2_Shutdown(CLEAR)."""
    return command(CommandCode.SHUTDOWN, u16(0))


def context_save(handle: int) -> bytes:
    """TPM2_ContextSave. The response's body is the argument of :func:`context_load`."""
    return command(CommandCode.CONTEXT_SAVE, u32(handle))


def context_load(context: bytes) -> bytes:
    """TPM2_ContextLoad."""
    return command(CommandCode.CONTEXT_LOAD, context)


def flush_context(handle: int) -> bytes:
    """TPM2_FlushContext."""
    return command(CommandCode.FLUSH_CONTEXT, u32(handle))


def get_capability(capability: int, first: int, count: int) -> bytes:
    """TPM2_GetCapability."""
    return command(CommandCode.GET_CAPABILITY, u32(capability) + u32(first) + u32(count))


def pcr_extend(pcr: int, digests: Mapping[HashAlg, bytes]) -> bytes:
    """TPM2_PCR_Extend in all given banks. Inactive banks are ignored."""
    values = b"".join(u16(bank) + digest for bank, digest in digests.items())
    return _authorised(CommandCode.PCR_EXTEND, (pcr,), u32(len(digests)) + values)


def pcr_reads(bank: HashAlg) -> tuple[bytes, ...]:
    """TPM2_PCR_Read of all PCRs, in several commands, because each returns at most eight values."""
    starts = range(0, PCR_COUNT, _MAX_PCRS_PER_READ)
    selections = (PcrSelection.of({bank: range(start, start + _MAX_PCRS_PER_READ)}) for start in starts)
    return tuple(command(CommandCode.PCR_READ, selection.encode()) for selection in selections)


def decode_pcr_read(response: bytes) -> dict[int, bytes]:
    """Return the values in the response to one of :func:`pcr_reads`; empty if the bank is not active."""
    reader = body(response, "TPM2_PCR_Read")
    reader.u32("pcrUpdateCounter")
    selection = decode_pcr_selection(reader)
    values = [reader.sized("pcrValues", 64) for _ in range(reader.u32("pcrValues.count"))]
    return {pcr: value for (_, pcr), value in zip(selection.indices() if selection else (), values, strict=True)}


def pcr_allocate(banks: frozenset[HashAlg]) -> bytes:
    """TPM2_PCR_Allocate: all PCRs for these banks and none for the others, from the next reset on."""
    lists = b"".join(
        u16(bank) + u8(PCR_BITMAP_SIZE) + (b"\xff" if bank in banks else b"\0") * PCR_BITMAP_SIZE for bank in HashAlg
    )
    return _authorised(CommandCode.PCR_ALLOCATE, (PermanentHandle.PLATFORM,), u32(len(HashAlg)) + lists)


def create_primary(hierarchy: int, template: TpmPublic) -> bytes:
    """TPM2_CreatePrimary without authorisation value, outside information or creation PCRs."""
    parameters = sized(bytes(4)) + encode_public_2b(template) + sized(b"") + u32(0)
    return _authorised(CommandCode.CREATE_PRIMARY, (hierarchy,), parameters)


def nv_define_certificate(index: int, size: int) -> bytes:
    """TPM2_NV_DefineSpace of the EK Credential Profile: the platform writes, everybody reads."""
    public = u32(index) + u16(HashAlg.SHA256) + u32(_CERTIFICATE_NV) + sized(b"") + u16(size)
    return _authorised(CommandCode.NV_DEFINE_SPACE, (PermanentHandle.PLATFORM,), sized(b"") + sized(public))


def nv_writes(index: int, content: bytes) -> tuple[bytes, ...]:
    """TPM2_NV_Write of ``content``, in pieces that fit the TPM's buffer."""
    return tuple(
        _authorised(
            CommandCode.NV_WRITE, (PermanentHandle.PLATFORM, index), sized(content[at : at + _NV_CHUNK]) + u16(at)
        )
        for at in range(0, len(content), _NV_CHUNK)
    )
