"""All claims of a log together: of a PCR that is not proved, nothing; what is wrong in any case, always."""

from __future__ import annotations

import pytest

from nodeseal.findings import FindingId
from nodeseal.swtpm.sample_log import SampleBoot
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log_types import EventType
from support.boot_logs import appended, claims_of, good_log, inserted, measured, quote_of
from support.quotes import quoted_pcrs

CHAIN = SampleBoot()
LOG = good_log()


def test_a_log_that_explains_nothing_claims_nothing() -> None:
    claims = claims_of(LOG, quoted_pcrs({HashAlg.SHA256: dict.fromkeys(range(16), b"\1" * 32)}))
    assert claims.proved == frozenset()
    assert not claims.secure_boot.enabled
    assert not any((claims.chain.images, claims.drivers, claims.signers, claims.command_lines))
    assert not any((claims.sections, claims.files, claims.gpt, claims.sbat_level, claims.firmware_version))
    assert [finding.id for finding in claims.findings] == [FindingId.UEFI_REPLAY] * 8


def test_claims_of_another_machines_log_are_those_of_the_pcrs_they_share() -> None:
    other = good_log(SampleBoot(shim=b"another shim", command_line="/vmlinuz init=/bin/sh"))
    claims = claims_of(other, quote_of(LOG))
    assert claims.proved == frozenset(range(16)) - {4, 8}
    assert claims.chain.images == ()
    assert claims.command_lines == ()
    assert claims.secure_boot.enabled
    assert [finding.where for finding in claims.findings] == ["sha256 PCR 4"]


@pytest.mark.parametrize("bank", [HashAlg.SHA256, HashAlg.SHA384, HashAlg.SHA512])
def test_claims_are_the_same_in_every_bank(bank: HashAlg) -> None:
    log = good_log(banks=(bank,))
    claims = claims_of(log, quote_of(log, bank))
    assert claims.bank is bank
    assert claims.secure_boot.enabled
    assert [image.path.rpartition("\\")[2] for image in claims.chain.images] == [
        "shimx64.efi",
        "grubx64.efi",
        "vmlinuz",
    ]
    assert [signer.subject for signer in claims.signers] == ["nodeseal sample signer", "nodeseal sample vendor"]


def test_the_firmwares_version_is_its_first_text() -> None:
    assert claims_of(LOG).firmware_version == "nodeseal sample 1.0"
    assert claims_of(good_log(SampleBoot(firmware_version=""))).firmware_version == ""


@pytest.mark.parametrize("pcr", range(8))
def test_a_separator_with_an_error_is_found(pcr: int) -> None:
    failed = appended(LOG, measured(pcr, EventType.SEPARATOR, b"what went wrong", b"\1\0\0\0"))
    (finding,) = claims_of(failed).findings
    assert finding.id is FindingId.UEFI_FIRMWARE_ERROR
    assert finding.where == f"sha256 PCR {pcr}"
    assert finding.event.startswith(f"event {len(failed.events)} (EV_SEPARATOR")


def test_a_boot_order_with_the_content_of_an_error_is_none() -> None:
    order = measured(1, EventType.EFI_VARIABLE_BOOT, b"BootOrder", b"\1\0\0\0")
    assert claims_of(appended(LOG, order)).findings == ()


def test_what_was_not_extended_in_the_judged_bank_is_no_claim() -> None:
    silent = measured(4, EventType.NO_ACTION, b"not extended")
    other_bank = measured(4, EventType.EFI_BOOT_SERVICES_APPLICATION, b"not extended", bank=HashAlg.SHA384)
    claims = claims_of(appended(LOG, silent, other_bank), quote_of(LOG))
    assert claims.chain == claims_of(LOG).chain


def test_another_text_in_pcr_0_is_no_version() -> None:
    log = inserted(LOG, 0, measured(0, EventType.POST_CODE, b"POST CODE"))
    assert claims_of(log).firmware_version == "nodeseal sample 1.0"
