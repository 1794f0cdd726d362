"""Saved contexts of keys (TPM2_ContextSave and TPM2_ContextLoad, TPM Library Part 3), each in memory that can be wiped.

A context is all that it takes to use a key in this TPM until the next reset. The stack would keep copies of it: of the
last context in its own state, and of commands and responses in memory that it frees as it is. So these two commands go
past the stack, straight to its transport. They have the same layout, a header and TPMS_CONTEXT, so the response of one
becomes the command of the other where it lies, and no copy is made.
"""

from __future__ import annotations

from typing import Any, Final

from tpm2_pytss.constants import TPM2_CC, TPM2_ST
from tpm2_pytss.TCTI import TCTI, ffi
from tpm2_pytss.TSS2_Exception import TSS2_Exception

from nodeseal.agent.tpm.failures import TpmForgot, wrapped
from nodeseal.crypto.secret import allocate, wipe
from nodeseal.tpm.buffer import u16, u32

_MAX_RESPONSE: Final = 4096
"""Bytes of the largest response (TPM_PT_MAX_RESPONSE_SIZE of the TPMs in use)."""
_HEADER_SIZE: Final = 10
_FOREVER: Final = -1
_RC_HANDLE: Final = 0x08B
_SHORT: Final = 64
"""Room for a command or response that holds a handle."""


class SavedContext:
    """One saved context. The memory returns to the system, which zeroes it, when the last reference is gone."""

    def __init__(self) -> None:
        self._memory: Final = allocate(_MAX_RESPONSE)
        self._size = 0

    def wipe(self) -> None:
        """Overwrite the context; from then on nobody can load it."""
        self._size = 0
        wipe(self._memory)

    @property
    def wiped(self) -> bool:
        """Whether there is nothing to load."""
        return self._size == 0

    def save(self, tcti: TCTI, handle: int) -> None:
        """Let the TPM save the object under a TPM handle here."""
        command = memoryview(bytearray(_command(TPM2_CC.ContextSave, _HEADER_SIZE + 4) + u32(handle)))
        with wrapped("TPM2_ContextSave"):
            self._size = _exchange(tcti, command, self._memory)

    def load(self, tcti: TCTI) -> int:
        """Let the TPM load the object, and return its TPM handle.

        Raises:
            TpmForgot: the context was wiped.
        """
        size = self._size
        if not size:
            raise TpmForgot("the saved key was wiped", _RC_HANDLE)
        self._memory[:_HEADER_SIZE] = _command(TPM2_CC.ContextLoad, size)
        response = memoryview(bytearray(_SHORT))
        with wrapped("TPM2_ContextLoad"):
            _exchange(tcti, self._memory[:size], response)
        return int.from_bytes(response[_HEADER_SIZE : _HEADER_SIZE + 4], "big")


def _command(code: int, size: int) -> bytes:
    return u16(TPM2_ST.NO_SESSIONS) + u32(size) + u32(code)


def _exchange(tcti: TCTI, command: memoryview, response: memoryview) -> int:
    """Send one command and receive its response, with no memory between; return the response's size."""
    context, calls = tcti._tcti_context, tcti._v1  # noqa: SLF001  # its public methods copy
    _check(calls.transmit(context, len(command), _pointer(command)))
    size = ffi.new("size_t *", len(response))
    _check(calls.receive(context, size, _pointer(response), _FOREVER))
    _check(int.from_bytes(response[6:_HEADER_SIZE], "big"))
    return int(size[0])


def _pointer(memory: memoryview) -> Any:  # the binding's type for a pointer
    return ffi.from_buffer("uint8_t[]", memory)


def _check(code: int) -> None:
    if code:
        raise TSS2_Exception(code)
