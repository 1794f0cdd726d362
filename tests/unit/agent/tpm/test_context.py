"""Saved contexts: what crosses the transport, and what is left in memory; the transport is a fake."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from tpm2_pytss.TCTI import ffi

from nodeseal.agent.tpm.context import SavedContext
from nodeseal.agent.tpm.failures import TpmBusy, TpmForgot, TpmLost
from nodeseal.tpm.buffer import u16, u32
from support.leases import saved_context

CONTEXT = bytes(range(200))
HANDLE = 0x80000001


class Transport:
    """A TPM that answers what a test says.

    Attributes:
        answer: the next response.
        broken: code with which the transport itself fails.
        sent: commands in order.
    """

    def __init__(self, answer: bytes, broken: int = 0) -> None:
        self.answer, self.broken = answer, broken
        self.sent: list[bytes] = []
        self._tcti_context = ffi.NULL
        self._v1 = SimpleNamespace(transmit=self._transmit, receive=self._receive)

    def _transmit(self, _context: Any, size: int, command: Any) -> int:
        self.sent.append(bytes(ffi.buffer(command, size)))
        return self.broken

    def _receive(self, _context: Any, size: Any, response: Any, _timeout: int) -> int:
        assert size[0] >= len(self.answer)
        ffi.memmove(response, self.answer, len(self.answer))
        size[0] = len(self.answer)
        return 0


def response(body: bytes = b"", code: int = 0) -> bytes:
    return u16(0x8001) + u32(10 + len(body)) + u32(code) + body


def tcti(answer: bytes, broken: int = 0) -> Any:
    return Transport(answer, broken)


def saved() -> SavedContext:
    context = SavedContext()
    context.save(tcti(response(CONTEXT)), HANDLE)
    return context


def test_the_key_under_a_handle_is_saved() -> None:
    transport, context = tcti(response(CONTEXT)), SavedContext()
    assert context.wiped
    context.save(transport, HANDLE)
    assert transport.sent == [u16(0x8001) + u32(14) + u32(0x162) + u32(HANDLE)]
    assert not context.wiped


def test_what_was_saved_is_loaded_as_often_as_it_is_needed() -> None:
    context = saved()
    for _ in range(2):
        transport = tcti(response(u32(HANDLE)))
        assert context.load(transport) == HANDLE
        assert transport.sent == [u16(0x8001) + u32(210) + u32(0x161) + CONTEXT]


def test_a_wiped_context_is_zeros_and_never_sent() -> None:
    context, transport = saved(), tcti(response(u32(HANDLE)))
    context.wipe()
    assert context.wiped
    assert not any(context._memory)
    with pytest.raises(TpmForgot, match="wiped"):
        context.load(transport)
    assert transport.sent == []


def test_a_key_that_could_not_be_saved_is_not_there() -> None:
    context = SavedContext()
    with pytest.raises(TpmBusy, match="TPM2_ContextSave"):
        context.save(tcti(response(code=0x922)), HANDLE)
    assert context.wiped


@pytest.mark.parametrize(
    ("transport", "kind"),
    [
        pytest.param(tcti(response(code=0x1DF)), TpmForgot, id="the TPM was reset since"),
        pytest.param(tcti(response(code=0x902)), TpmBusy, id="the TPM is full"),
        pytest.param(tcti(b"", broken=0xA000A), TpmLost, id="the connection broke"),
    ],
)
def test_a_failure_is_sorted_as_those_of_the_stack_are(transport: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="TPM2_ContextLoad"):
        saved().load(transport)


def test_nothing_of_a_context_is_shown() -> None:
    assert "secret" not in repr(saved_context(b"secret"))
