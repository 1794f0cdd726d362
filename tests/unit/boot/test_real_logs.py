"""Logs of real machines, proved by what their TPMs held: claims are what is known of these machines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nodeseal.appraisal.kinds.boot_rules import judge_boot
from nodeseal.boot.claims import BootClaims, boot_claims
from nodeseal.boot.difference import first_difference, reference_events
from nodeseal.boot.proved import ProvedLog, prove_boot_log
from nodeseal.boot.quirks import FirmwareFacts
from nodeseal.boot.secure_boot import SecureBootMode
from nodeseal.errors import MalformedInput
from nodeseal.evidence.quote import QuotedPcrs, prove_pcr_values
from nodeseal.findings import FindingId
from nodeseal.tpm.algorithms import STRONG_HASHES_BY_NAME, HashAlg
from nodeseal.tpm.attest import decode_attest
from nodeseal.uefi.event_log import EventLog, EventLogFormat, decode_event_log
from support.boot_logs import quote_of, rules_from, values_of
from support.data import ROOT, shared_data
from support.quotes import quoted_pcrs

FOLDER = ROOT.parent / "shared" / "data" / "uefi-eventlogs"
NOBODY = FirmwareFacts()
ON = {
    "edk2-keylime-sb": True,
    "gce-cos85": True,
    "gce-rhel8": True,
    "gce-ubuntu2104-nodbx": False,
    "gce-ubuntu2104-nosb": False,
    "lenovo-glinux": False,
    "lenovo-keylime-nosb": False,
    "arch-workstation-a": False,
}
"""Whether secure boot is on, where it is known from the source of the log."""


def _decoded(path: Path) -> EventLog | None:
    try:
        log = decode_event_log(path.read_bytes())
    except MalformedInput:
        return None
    return log if any(bank in log.algorithms for bank in STRONG_HASHES_BY_NAME.values()) else None


LOGS = {path.stem: log for path in sorted(FOLDER.glob("*.bin")) if (log := _decoded(path))}
MACHINES = {name: log for name, log in LOGS.items() if log.form is EventLogFormat.CRYPTO_AGILE and len(log.events) > 10}


def _of_the_tpm(name: str) -> QuotedPcrs | None:
    """Return a quote of the values that the machine's TPM is known to have held."""
    path = FOLDER / f"{name}.bin.pcrs.json"
    known = json.loads(path.read_text())["banks"] if path.exists() else {}
    values = {
        STRONG_HASHES_BY_NAME[bank]: {int(pcr): bytes.fromhex(value) for pcr, value in pcrs.items()}
        for bank, pcrs in known.items()
        if bank in STRONG_HASHES_BY_NAME
    }
    return quoted_pcrs(values) if values else None


def _proved(name: str) -> ProvedLog:
    return prove_boot_log(LOGS[name], _of_the_tpm(name) or quote_of(LOGS[name], _bank(LOGS[name])), NOBODY)


def _bank(log: EventLog) -> HashAlg:
    return max(bank for bank in log.algorithms if bank in STRONG_HASHES_BY_NAME.values())


def _claims(name: str) -> BootClaims:
    return boot_claims(_proved(name))


def test_the_logs_are_there() -> None:
    shared_data("uefi-eventlogs")
    assert len(MACHINES) > 25


@pytest.mark.parametrize("name", MACHINES)
def test_firmware_pcrs_replay_to_what_the_tpm_held(name: str) -> None:
    quoted = _of_the_tpm(name)
    if quoted is None:
        pytest.skip("what this machine's TPM held is not known")
    result = prove_boot_log(MACHINES[name], quoted, NOBODY)
    assert result.findings == ()
    assert result.unexplained == ()
    assert {pcr for pcr in range(8) if quoted.get(result.bank, pcr) is not None} <= result.proved


@pytest.mark.parametrize(("name", "on"), ON.items())
def test_secure_boot_is_as_it_is_known_to_be(name: str, on: bool) -> None:  # noqa: FBT001 - a table
    shared_data("uefi-eventlogs", f"{name}.bin")
    state = _claims(name).secure_boot
    assert state.proved
    assert state.enabled is on
    assert state.objections == ()
    assert not state.validation_off


@pytest.mark.parametrize("name", MACHINES)
def test_claims_make_sense(name: str) -> None:
    claims = _claims(name)
    if claims.secure_boot.enabled:
        assert claims.secure_boot.mode is SecureBootMode.USER
        assert claims.secure_boot.values["PK"]
        assert claims.signers
    assert all(signer.sha256 for signer in claims.signers)
    assert all(image.path.isprintable() for image in (*claims.chain.images, *claims.drivers))
    assert not any(line.text is None for line in claims.command_lines if line.source != "efi-stub")


@pytest.mark.parametrize("name", MACHINES)
def test_rules_that_allow_what_was_measured_are_satisfied(name: str) -> None:
    claims = boot_claims(_of_its_own(MACHINES[name], _bank(MACHINES[name])))
    unread = [line.measurement for line in claims.command_lines if line.text is None]
    found = [str(objection.about) for objection in judge_boot(claims, rules_from(claims))]
    assert found == [str(each) for each in unread if rules_from(claims).command_lines]


@pytest.mark.parametrize("name", MACHINES)
def test_the_first_difference_to_every_other_machine_is_named(name: str) -> None:
    bank = _bank(MACHINES[name])
    ours, quoted = _of_its_own(MACHINES[name], bank), values_of(MACHINES[name], bank)
    assert not any(first_difference(ours, reference_events(ours.log, (bank,)), pcr) for pcr in range(16))
    for other in MACHINES.values():
        if bank in other.algorithms:
            reference, values = reference_events(other, (bank,)), values_of(other, bank)
            differing = [pcr for pcr in range(1, 16) if values[pcr] != quoted[pcr]]
            assert all(first_difference(ours, reference, pcr) for pcr in differing)


@pytest.mark.parametrize("name", MACHINES)
def test_another_machines_quote_is_explained_as_far_as_its_pcrs_are_the_same(name: str) -> None:
    bank = _bank(MACHINES[name])
    own = values_of(MACHINES[name], bank)
    for other in MACHINES.values():
        if bank in other.algorithms:
            values = values_of(other, bank)
            result = prove_boot_log(MACHINES[name], quoted_pcrs({bank: values}), NOBODY)
            assert result.proved == {pcr for pcr in range(16) if values[pcr] == own[pcr]}
            assert len(result.findings) == len([pcr for pcr in range(8) if values[pcr] != own[pcr]])


def _of_its_own(log: EventLog, bank: HashAlg) -> ProvedLog:
    return prove_boot_log(log, quote_of(log, bank), NOBODY)


@pytest.mark.parametrize(
    ("folder", "unexplained"), [("agent-x1c-good-1", ()), ("agent-x1c-failed-1", (0,)), ("agent-x1c-failed-2", (0,))]
)
@pytest.mark.parametrize("firmware", [NOBODY, FirmwareFacts(vendor="LENOVO", version="N32ET68W (1.44 )")])
def test_a_genuine_quote_that_the_log_does_not_explain_is_refused(
    folder: str, unexplained: tuple[int, ...], firmware: FirmwareFacts
) -> None:
    quoted = decode_attest(shared_data("quotes", folder, "quote.attest.bin").read_bytes()).quoted
    banks = json.loads(shared_data("quotes", folder, "pcrs.json").read_text())
    assert quoted.selection is not None
    values = [bytes.fromhex(banks[bank.hashlib_name][str(pcr)]) for bank, pcr in quoted.selection.indices()]
    log = LOGS["lenovo-x1c-good"]
    result = prove_boot_log(log, prove_pcr_values(quoted, HashAlg.SHA256, values), firmware)
    assert result.unexplained == unexplained
    assert len(result.findings) == len(unexplained)


@pytest.mark.parametrize("name", [name for name, log in LOGS.items() if log.form is EventLogFormat.CCEL])
def test_a_log_of_a_confidential_machine_explains_no_tpm(name: str) -> None:
    result = prove_boot_log(LOGS[name], quote_of(LOGS[name], HashAlg.SHA384), NOBODY)
    assert result.proved == frozenset()
    assert [finding.id for finding in result.findings] == [FindingId.UEFI_LOG_MALFORMED]
