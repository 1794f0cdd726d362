"""The device's order of commands, with a connection that fails on command."""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import SimpleNamespace
from typing import Any

import pytest

from nodeseal.agent.tpm.device import Device
from nodeseal.agent.tpm.failures import TpmFailed


class FullOfSessions:
    """A connection to a TPM whose sessions are all taken."""

    def __init__(self) -> None:
        self.reset: list[int] = []
        self.esys = SimpleNamespace(pcr_reset=lambda pcr: self.reset.append(int(pcr)))

    def session(self, *_: object, **__: object) -> AbstractContextManager[Any]:
        raise TpmFailed("TPM2_StartAuthSession", 0x903)


def test_leases_end_although_the_tpm_has_no_session_for_a_new_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    connection: Any = FullOfSessions()
    monkeypatch.setattr(Device, "_endorsement_key", lambda _: SimpleNamespace(key=None))
    with pytest.raises(TpmFailed):
        Device(connection, bytes(64)).begin_epoch()
    assert connection.reset == [23]
