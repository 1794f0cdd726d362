"""What the TPM and the stack below it answer when something fails, sorted by what the caller does next.

Response codes: TPM 2.0 Part 2, TPM_RC; layers of the TSS: TCG TSS 2.0 Overview and Common Structures, "TSS2_RC".
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tpm2_pytss.TSS2_Exception import TSS2_Exception

from nodeseal.errors import Unavailable

_LAYERS_OF_THE_TPM = (0, 11)
"""The TPM itself, and the kernel's resource manager when it answers in the TPM's place."""
_BUSY = frozenset(
    {
        0x902,  # TPM_RC_OBJECT_MEMORY: other users of the TPM hold all slots
        0x903,  # TPM_RC_SESSION_MEMORY
        0x904,  # TPM_RC_MEMORY
        0x905,  # TPM_RC_SESSION_HANDLES
        0x906,  # TPM_RC_OBJECT_HANDLES
        0x908,  # TPM_RC_YIELDED
        0x909,  # TPM_RC_CANCELED
        0x90A,  # TPM_RC_TESTING
        0x920,  # TPM_RC_NV_RATE
        0x922,  # TPM_RC_RETRY
        0x923,  # TPM_RC_NV_UNAVAILABLE
    }
)
_FORGOTTEN = frozenset(
    {
        0x100,  # TPM_RC_INITIALIZE: reset, and nobody called TPM2_Startup yet
        0x08B,  # TPM_RC_HANDLE
        0x09F,  # TPM_RC_INTEGRITY: a context saved before the reset
        0x910,  # TPM_RC_REFERENCE_H0: the handle is gone
        0x911,  # TPM_RC_REFERENCE_H1
        0x918,  # TPM_RC_REFERENCE_S0: the session is gone
    }
)
_NV_UNINITIALIZED = 0x14A
_PASSWORD = frozenset(
    {
        0x08E,  # TPM_RC_AUTH_FAIL
        0x0A2,  # TPM_RC_BAD_AUTH
    }
)
_POLICY = frozenset(
    {
        0x09D,  # TPM_RC_POLICY_FAIL: the policy's digest is not the key's: PCRs have other values
        0x128,  # TPM_RC_PCR_CHANGED: they moved while the session was open
    }
)


class TpmFailed(Unavailable):
    """The TPM or the stack below it refused a command.

    Attributes:
        code: the response code without layer, handle, parameter and session numbers.
    """

    def __init__(self, message: str, code: int) -> None:
        remedy = "see the agent's log; check that the TPM is present and not in lockout"
        if code in _PASSWORD:
            remedy = "if the endorsement hierarchy has a password, name its file in endorsement_auth_file"
        super().__init__(message, remedy=remedy)
        self.code = code


class TpmBusy(TpmFailed):
    """The same command may succeed in a moment."""


class TpmLost(TpmFailed):
    """Connection, handles or saved contexts are gone: the TPM was reset or its connection broke."""


class TpmForgot(TpmLost):
    """The TPM itself reports that handles or saved contexts are from before its last reset."""


class TpmUnwritten(TpmFailed):
    """An NV index is defined, and nobody has written it yet."""


class TpmPolicyFailed(TpmFailed):
    """The TPM refused to use a key, because the PCRs are not what the key's policy asks for."""


@contextmanager
def wrapped(what: str) -> Iterator[None]:
    """Turn the stack's exceptions into :class:`TpmFailed` and its kinds; ``what`` names the command."""
    try:
        yield
    except TSS2_Exception as error:
        code = int(error.error) & 0xFFFF
        kind = _kind(int(error.rc) >> 16, code)
        raise kind(f"{what}: {error} (0x{int(error.rc):x})", code) from error


def _kind(layer: int, code: int) -> type[TpmFailed]:
    if layer not in _LAYERS_OF_THE_TPM:
        return TpmLost
    if code in _FORGOTTEN:
        return TpmForgot
    if code in _BUSY:
        return TpmBusy
    if code == _NV_UNINITIALIZED:
        return TpmUnwritten
    return TpmPolicyFailed if code in _POLICY else TpmFailed
