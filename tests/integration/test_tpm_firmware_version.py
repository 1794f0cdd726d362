"""The firmware version in quotes: a TPM states it plainly by the agent's attestation key, but not by just any key."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tpm2_pytss.constants import ESYS_TR

from nodeseal.agent.tpm import templates
from nodeseal.agent.tpm.connection import Connection, SavedKey
from nodeseal.agent.tpm.device import Device
from nodeseal.appraisal.kinds.platform import believed_firmware
from nodeseal.swtpm.machine import Machine
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Attest, decode_attest
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.tpm.public import decode_public
from support.machines import a_machine, a_vendor

SELECTION = PcrSelection.of({HashAlg.SHA256: range(8)})
UNIQUE = bytes(range(64))


class Elsewhere(Device):
    """An agent that keeps its attestation key, which looks the same, in the owner's hierarchy."""

    def _attestation_key(self) -> SavedKey:
        if self._ak is None:
            self._ak = self._tpm.create_primary(ESYS_TR.OWNER, templates.attestation_key(UNIQUE).encode())
        return self._ak


@pytest.fixture(name="machine", scope="module")
def _machine() -> Iterator[Machine]:
    with a_vendor() as vendor, a_machine(vendor) as machine:
        yield machine


def quote(device: Device) -> tuple[Attest, bytes]:
    """Return a quote and the name of the key that signed it."""
    try:
        attest = decode_attest(device.quote(SELECTION, b"n" * 32).signed.attest)
        return attest, decode_public(device.identity().ak_public).name()
    finally:
        device.close()


def test_the_version_in_a_quote_by_the_agents_key_is_the_tpms_own(machine: Machine) -> None:
    attest, ak_name = quote(Device(Connection(machine.tcti), UNIQUE))
    version = believed_firmware(attest, ak_name)
    shown = Device(Connection(machine.tcti), UNIQUE)
    words = [int(word) for word in shown.identity().firmware.split(".")]
    shown.close()
    assert version is not None
    assert version.to_bytes(8, "big") == b"".join(word.to_bytes(8 // len(words), "big") for word in words)


def test_the_version_in_a_quote_by_a_key_of_another_hierarchy_is_not_believed(machine: Machine) -> None:
    plain, _ = quote(Device(Connection(machine.tcti), UNIQUE))
    attest, ak_name = quote(Elsewhere(Connection(machine.tcti), UNIQUE))
    assert attest.firmware_version != plain.firmware_version
    assert believed_firmware(attest, ak_name) is None
