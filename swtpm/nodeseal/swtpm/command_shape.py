"""Positions of handles and sessions in commands and responses, without knowledge of what a command means.

Like the kernel's resource manager, this module learns from the TPM how many handles each command takes and whether it
returns one (TPMA_CC, TPM Library Part 2).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nodeseal.swtpm import commands
from nodeseal.swtpm.commands import HEADER_SIZE, CommandCode
from nodeseal.tpm.buffer import Reader, u32

_CAP_COMMANDS: Final = 2
_FIRST_COMMAND: Final = 0x11F
_MAX_COMMANDS: Final = 254


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandShape:
    """The handles of one command (TPMA_CC).

    Attributes:
        handles: number of handles that the command takes.
        returns_handle: whether the response starts with a handle.
        flushes: whether the command ends the transient objects that it names.
    """

    handles: int
    returns_handle: bool
    flushes: bool


NO_HANDLES: Final = CommandShape(handles=0, returns_handle=False, flushes=False)


def command_shapes(transact: Callable[[bytes], bytes]) -> dict[int, CommandShape]:
    """Ask the TPM for its commands' attributes (TPM2_GetCapability with TPM_CAP_COMMANDS)."""
    reader = commands.body(
        transact(commands.get_capability(_CAP_COMMANDS, _FIRST_COMMAND, _MAX_COMMANDS)), "TPM_CAP_COMMANDS"
    )
    reader.take(5, "moreData, capability")
    attributes = [reader.u32("command") for _ in range(reader.u32("count"))]
    shapes = {
        each & 0xFFFF: CommandShape(
            handles=each >> 25 & 7, returns_handle=bool(each >> 28 & 1), flushes=bool(each >> 24 & 1)
        )
        for each in attributes
    }
    # its handle is a parameter, but stands where handles stand
    shapes[CommandCode.FLUSH_CONTEXT] = CommandShape(handles=1, returns_handle=False, flushes=False)
    return shapes


def authorisation_sessions(command: bytes, reader: Reader) -> dict[int, bool]:
    """Return the sessions of the authorisation area at ``reader``'s position, and whether each continues.

    TPMS_AUTH_COMMAND; continueSession is bit 0 of TPMA_SESSION (Part 2).
    """
    if int.from_bytes(command[:2], "big") != commands.SESSIONS:
        return {}
    area = reader.take(reader.u32("authorizationSize"), "authorization area")
    sessions, reader, at = dict[int, bool](), Reader(area, "authorization area"), 0
    while at < len(area):
        handle, nonce = reader.u32("sessionHandle"), reader.sized("nonceCaller", 64)
        sessions[handle] = bool(reader.u8("sessionAttributes") & 1)
        at += 9 + len(nonce) + len(reader.sized("hmac", 256))
    return sessions


def with_handles(message: bytes, handles: list[int]) -> bytes:
    """Return a command or response with its handles replaced."""
    return message[:HEADER_SIZE] + b"".join(map(u32, handles)) + message[HEADER_SIZE + 4 * len(handles) :]
