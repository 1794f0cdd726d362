from __future__ import annotations

import pytest
from tpm2_pytss.TSS2_Exception import TSS2_Exception

from nodeseal.agent.tpm.failures import (
    TpmBusy,
    TpmFailed,
    TpmForgot,
    TpmLost,
    TpmPolicyFailed,
    TpmUnwritten,
    wrapped,
)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        pytest.param(0x922, TpmBusy, id="the TPM asks to repeat the command"),
        pytest.param(0x908, TpmBusy, id="the TPM yielded"),
        pytest.param(0xB0922, TpmBusy, id="the kernel's resource manager asks in the TPM's place"),
        pytest.param(0x902, TpmBusy, id="other users hold all object slots"),
        pytest.param(0x100, TpmForgot, id="the TPM was reset and not started up"),
        pytest.param(0x1DF, TpmForgot, id="a context from before the reset"),
        pytest.param(0x18B, TpmForgot, id="a handle that is gone"),
        pytest.param(0xA000A, TpmLost, id="the connection broke"),
        pytest.param(0x70007, TpmLost, id="the stack lost its sequence"),
        pytest.param(0x99D, TpmPolicyFailed, id="the policy's digest is not the key's"),
        pytest.param(0x128, TpmPolicyFailed, id="a PCR moved under an open session"),
        pytest.param(0x14A, TpmUnwritten, id="an NV index that was never written"),
        pytest.param(0x921, TpmFailed, id="lockout"),
        pytest.param(0x98E, TpmFailed, id="an authorisation failed"),
    ],
)
def test_response_codes_are_sorted_by_what_the_caller_does(code: int, kind: type[TpmFailed]) -> None:
    with pytest.raises(TpmFailed) as caught, wrapped("TPM2_Something"):
        raise TSS2_Exception(code)
    assert type(caught.value) is kind
    assert str(caught.value).startswith("TPM2_Something: ")
    assert f"0x{code:x}" in str(caught.value)


@pytest.mark.parametrize("code", [0x98E, 0x9A2])
def test_a_refused_password_says_where_it_is_set(code: int) -> None:
    with pytest.raises(TpmFailed) as caught, wrapped("TPM2_CreatePrimary"):
        raise TSS2_Exception(code)
    assert "endorsement_auth_file" in caught.value.remedy
