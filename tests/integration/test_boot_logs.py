"""Boot logs of real machines, extended into a TPM, leave the PCRs that they replay to."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.swtpm.machine import Machine
from nodeseal.uefi.event_log import EventLog, decode_event_log, replay
from support.data import shared_data
from support.machines import a_machine, a_vendor


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with a_vendor() as vendor, a_machine(vendor, banks=("sha1", "sha256", "sha384", "sha512")) as machine:
        yield machine


def _logs() -> Iterator[tuple[str, EventLog, bytes]]:
    for path in sorted(shared_data("uefi-eventlogs").glob("*.bin")):
        with contextlib.suppress(MalformedInput):
            raw = path.read_bytes()
            yield path.stem, decode_event_log(raw), raw


def test_real_logs_replay_to_what_a_tpm_makes_of_them(machine: Machine) -> None:
    wrong, compared = [], 0
    for name, log, raw in _logs():
        machine.boot(raw)
        for bank in log.algorithms:
            read = machine.read_pcrs(bank.hashlib_name)
            for pcr, value in replay(log, bank).items():
                compared += 1
                if read[pcr] != value:
                    wrong.append((name, bank.name, pcr))
    assert wrong == []
    assert compared > 900
