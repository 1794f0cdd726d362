"""PCR 7: the first measured state before the separator counts, and whoever vouched for an image is seen."""

from __future__ import annotations

import hashlib
import struct

import pytest

from nodeseal.boot.secure_boot import SecureBoot, SecureBootMode
from nodeseal.findings import FindingId
from nodeseal.swtpm.sample_log import DB_CERTIFICATE, REVOKED_IMAGE, VENDOR_CERTIFICATE, SampleBoot
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import Event, EventLog
from nodeseal.uefi.event_log_types import EventType
from nodeseal.uefi.signature_database import SignatureEntry
from support.boot_logs import (
    GLOBAL,
    SECURITY,
    SHIM,
    appended,
    claims_of,
    good_log,
    inserted,
    measured,
    place_of,
    quote_of,
    replaced,
    values_of,
    variable,
    without,
)
from support.quotes import quoted_pcrs
from support.uefi import decode_signature_database

CONFIG, AUTHORITY = EventType.EFI_VARIABLE_DRIVER_CONFIG, EventType.EFI_VARIABLE_AUTHORITY
LOG = good_log()
OFF = good_log(SampleBoot(secure_boot=False))
SEPARATOR = place_of(LOG, 7, claimed_type=EventType.SEPARATOR)
OWNER = SECURITY.bytes_le


def _flag(name: str, value: int) -> Event:
    return measured(7, CONFIG, variable(name, bytes([value])))


def _with_content(log: EventLog, name: str, content: bytes) -> EventLog:
    """Change a state variable on the machine itself: digest and data."""
    at = place_of(log, 7, name.encode("utf-16-le"), CONFIG)
    vendor = SECURITY if name.startswith("db") else GLOBAL
    return inserted(without(log, at), at, measured(7, CONFIG, variable(name, content, vendor)))


def _entries(state: SecureBoot, *names: str) -> list[SignatureEntry]:
    return [entry for name in names for entry in decode_signature_database(state.values[name])]


def test_a_machine_with_secure_boot_on_says_so_with_its_keys() -> None:
    state = claims_of(LOG).secure_boot
    assert state.proved
    assert state.enabled
    assert state.mode is SecureBootMode.USER
    assert [entry.data for entry in _entries(state, "PK", "KEK", "db")] == [DB_CERTIFICATE] * 3
    assert [entry.data for entry in _entries(state, "dbx")] == [REVOKED_IMAGE]
    assert state.forbidden_images() == {REVOKED_IMAGE}
    assert not state.validation_off
    assert state.objections == ()


@pytest.mark.parametrize(
    ("sentence", "log"),
    [
        ("it is off", OFF),
        ("the variable has no data", _with_content(LOG, "SecureBoot", b"")),
        ("the variable has two bytes", _with_content(LOG, "SecureBoot", b"\1\0")),
        ("it was not measured", without(LOG, place_of(LOG, 7, "SecureBoot".encode("utf-16-le")))),
        (
            "a variable of another vendor",
            inserted(OFF, 0, measured(7, CONFIG, variable("SecureBoot", b"\1", SHIM))),
        ),
    ],
)
def test_anything_but_a_measured_1_is_off(sentence: str, log: EventLog) -> None:
    assert not claims_of(log).secure_boot.enabled, sentence


def test_nothing_is_said_of_a_pcr_7_that_is_not_proved() -> None:
    claims = claims_of(LOG, quoted_pcrs({HashAlg.SHA256: values_of(LOG) | {7: b"\1" * 32}}))
    assert not claims.secure_boot.proved
    assert claims.secure_boot.values == {}
    assert claims.signers == ()


def test_without_a_separator_nobody_knows_when_firmware_was_done() -> None:
    assert not claims_of(without(LOG, SEPARATOR)).secure_boot.proved


@pytest.mark.parametrize("value", [bytes(4), b"\xff" * 4])
def test_both_values_of_a_separator_end_the_firmwares_state(value: bytes) -> None:
    log = inserted(without(LOG, SEPARATOR), SEPARATOR, measured(7, EventType.SEPARATOR, value))
    assert claims_of(log).secure_boot.proved


def test_an_error_separator_does_not_end_it() -> None:
    log = inserted(without(LOG, SEPARATOR), SEPARATOR, measured(7, EventType.SEPARATOR, b"\1\0\0\0"))
    assert not claims_of(log).secure_boot.proved


def test_a_separator_may_come_twice() -> None:
    assert claims_of(inserted(LOG, SEPARATOR, LOG.events[SEPARATOR])).secure_boot.enabled


@pytest.mark.parametrize("claimed_type", [CONFIG, AUTHORITY, EventType.IPL, EventType.EVENT_TAG])
def test_state_forged_after_the_separator_is_not_believed_whatever_it_is_called(claimed_type: EventType) -> None:
    forged = measured(7, claimed_type, variable("SecureBoot", b"\1"))
    state = claims_of(appended(OFF, forged)).secure_boot
    assert not state.enabled
    (objection,) = state.objections
    assert objection.id is FindingId.UEFI_AFTER_SEPARATOR
    assert "SecureBoot" in objection.expected
    assert f"event {len(OFF.events) + 1} " in objection.finding().event


@pytest.mark.parametrize("name", ["SecureBoot", "PK", "dbx"])
def test_state_that_is_measured_only_after_the_separator_is_not_believed(name: str) -> None:
    at = place_of(LOG, 7, name.encode("utf-16-le"), CONFIG)
    state = claims_of(appended(without(LOG, at), LOG.events[at])).secure_boot
    assert name not in state.values
    assert [finding.id for finding in state.objections] == [FindingId.UEFI_AFTER_SEPARATOR]


def test_the_first_value_before_the_separator_counts() -> None:
    at = place_of(OFF, 7, claimed_type=EventType.SEPARATOR)
    state = claims_of(inserted(OFF, at, _flag("SecureBoot", 1))).secure_boot
    assert not state.enabled
    assert [finding.id for finding in state.objections] == [FindingId.UEFI_AFTER_SEPARATOR]


@pytest.mark.parametrize("name", ["PK", "KEK", "db", "dbx"])
def test_a_database_measured_again_is_found(name: str) -> None:
    at = place_of(LOG, 7, name.encode("utf-16-le"), CONFIG)
    state = claims_of(appended(LOG, LOG.events[at])).secure_boot
    assert [finding.id for finding in state.objections] == [FindingId.UEFI_AFTER_SEPARATOR]


def test_relabelled_events_mean_what_their_digests_prove() -> None:
    log = LOG
    for index, event in enumerate(LOG.events):
        if event.pcr == 7:
            log = replaced(log, index, claimed_type=EventType.IPL)
    before, after = claims_of(LOG), claims_of(log, quote_of(LOG))
    assert after.secure_boot == before.secure_boot
    assert [each.sha256 for each in after.signers] == [each.sha256 for each in before.signers]
    assert after.sbat_level == before.sbat_level


def test_data_swapped_under_the_same_digest_is_not_believed() -> None:
    at = place_of(OFF, 7, "SecureBoot".encode("utf-16-le"))
    claims = claims_of(replaced(OFF, at, data=variable("SecureBoot", b"\1")), quote_of(OFF))
    assert not claims.secure_boot.enabled
    assert [each.sha256 for each in claims.signers] == [None]
    assert [finding.id for finding in claims.secure_boot.objections] == [FindingId.UEFI_EVENT]


@pytest.mark.parametrize(
    ("sentence", "log", "mode"),
    [
        ("no platform key is setup mode", _with_content(LOG, "PK", b""), SecureBootMode.SETUP),
        ("SetupMode says so", inserted(LOG, SEPARATOR, _flag("SetupMode", 1)), SecureBootMode.SETUP),
        ("AuditMode says so", inserted(LOG, SEPARATOR, _flag("AuditMode", 1)), SecureBootMode.AUDIT),
        ("DeployedMode says so", inserted(LOG, SEPARATOR, _flag("DeployedMode", 1)), SecureBootMode.DEPLOYED),
        (
            "flags of 0 say nothing",
            inserted(LOG, SEPARATOR, _flag("AuditMode", 0), _flag("SetupMode", 0)),
            SecureBootMode.USER,
        ),
        (
            "a platform key that was not measured",
            without(LOG, place_of(LOG, 7, "PK".encode("utf-16-le"))),
            SecureBootMode.UNKNOWN,
        ),
    ],
)
def test_the_mode_follows_from_the_variables(sentence: str, log: EventLog, mode: SecureBootMode) -> None:
    assert claims_of(log).secure_boot.mode is mode, sentence


def test_authorities_are_known_by_their_certificates() -> None:
    firmware, shim = claims_of(LOG).signers
    assert (firmware.variable, firmware.sha256) == ("db", hashlib.sha256(DB_CERTIFICATE).digest())
    assert firmware.subject == "nodeseal sample signer"
    assert (shim.variable, shim.sha256) == ("Shim", hashlib.sha256(VENDOR_CERTIFICATE).digest())


def test_a_variables_name_cannot_drive_a_terminal() -> None:
    log = appended(LOG, measured(7, AUTHORITY, variable("db\x1b[2J", OWNER + DB_CERTIFICATE, SECURITY)))
    assert claims_of(log).signers[-1].variable == "db\\x1b[2J"


def test_a_hash_may_be_an_authority() -> None:
    digest = hashlib.sha256(b"an image").digest()
    log = appended(LOG, measured(7, AUTHORITY, variable("db", OWNER + digest, SECURITY)))
    signer = claims_of(log).signers[-1]
    assert signer.sha256 == hashlib.sha256(digest).digest()
    assert signer.subject == ""


def test_an_authority_before_the_separator_is_one_too() -> None:
    log = inserted(LOG, SEPARATOR, measured(7, AUTHORITY, variable("db", OWNER + VENDOR_CERTIFICATE, SECURITY)))
    claims = claims_of(log)
    assert claims.signers[0].sha256 == hashlib.sha256(VENDOR_CERTIFICATE).digest()
    assert claims.secure_boot.objections == ()


def test_an_authority_measured_before_db_is_not_taken_for_db() -> None:
    first = measured(7, AUTHORITY, variable("db", OWNER + VENDOR_CERTIFICATE, SECURITY))
    claims = claims_of(inserted(LOG, 0, first))
    assert [entry.data for entry in _entries(claims.secure_boot, "db")] == [DB_CERTIFICATE]
    assert len(claims.signers) == 3


@pytest.mark.parametrize(
    ("sentence", "event"),
    [
        ("data that no digest covers", measured(7, AUTHORITY, variable("db", OWNER + DB_CERTIFICATE), b"other")),
        ("no certificate and no hash", measured(7, AUTHORITY, variable("db", b"\7" * 33, SECURITY))),
        ("no variable", measured(7, AUTHORITY, b"\0\1\2\3\4")),
        ("a setting of two bytes", measured(7, AUTHORITY, variable("Setting", b"\1\2", SHIM))),
        ("a text called SbatLevel", measured(7, AUTHORITY, variable("SbatLevel", b"evil", SHIM))),
        ("a SbatLevel called otherwise", measured(7, AUTHORITY, variable("Level", b"sbat,1", SHIM))),
        ("unread data called a separator", measured(7, EventType.SEPARATOR, bytes(4), b"other")),
        ("unread data called an action", measured(7, EventType.EFI_ACTION, b"harmless", b"other")),
    ],
)
def test_what_cannot_be_read_is_an_authority_that_nobody_knows(sentence: str, event: Event) -> None:
    signer = claims_of(appended(LOG, event)).signers[-1]
    assert signer.sha256 is None, sentence
    assert signer.subject == ""


@pytest.mark.parametrize(
    ("sentence", "data"),
    [
        ("a flag of shim", variable("MokListTrusted", b"\1", SHIM)),
        (
            "a list of keys that shim might use",
            variable("MokList", LOG.events[place_of(LOG, 7, "db".encode("utf-16-le"), CONFIG)].data[36:], SHIM),
        ),
        ("an action of firmware", b"DMA Protection Disabled"),
    ],
)
def test_settings_are_no_authorities(sentence: str, data: bytes) -> None:
    claims = claims_of(appended(LOG, measured(7, AUTHORITY, data)))
    assert len(claims.signers) == 2, sentence
    assert claims.secure_boot.objections == ()


def test_old_shim_logs_one_byte_more_than_it_hashes() -> None:
    data = variable("Shim", VENDOR_CERTIFICATE, SHIM)
    log = appended(LOG, measured(7, AUTHORITY, data + b"\xaf", data))
    assert claims_of(log).signers[-1].sha256 == hashlib.sha256(VENDOR_CERTIFICATE).digest()


def test_a_firmware_debugger_voids_the_state() -> None:
    log = inserted(LOG, SEPARATOR, measured(7, EventType.EFI_ACTION, b"UEFI Debug Mode"))
    assert claims_of(log).secure_boot.validation_off


@pytest.mark.parametrize(
    ("name", "content", "off"),
    [(b"MokSBState\0", b"\1", True), (b"MokSBState\0", b"\0", False), (b"MokListTrusted\0", b"\1", False)],
)
def test_shim_that_checks_nothing_voids_the_state(name: bytes, content: bytes, off: bool) -> None:  # noqa: FBT001
    log = appended(LOG, measured(14, EventType.IPL, name, content))
    assert claims_of(log).secure_boot.validation_off is off


def test_sbat_level_is_shims_text() -> None:
    assert claims_of(LOG).sbat_level == "sbat,1,2023012900\\nshim,2\\ngrub,3\\n"


def test_only_hashes_in_dbx_forbid_images() -> None:
    certificates = LOG.events[place_of(LOG, 7, "db".encode("utf-16-le"), CONFIG)].data[36:]
    state = claims_of(_with_content(LOG, "dbx", certificates)).secure_boot
    assert [entry.kind for entry in _entries(state, "dbx")] == ["x509"]
    assert state.forbidden_images() == frozenset()


def test_a_dbx_that_does_not_decode_forbids_nothing() -> None:
    broken = struct.pack("<16sIII", b"\1" * 16, 10_000, 0, 48)
    state = claims_of(_with_content(LOG, "dbx", broken)).secure_boot
    assert state.forbidden_images() == frozenset()


def test_an_unreadable_certificate_has_no_subject() -> None:
    log = appended(LOG, measured(7, AUTHORITY, variable("db", OWNER + b"\x30\x02\x05\x00", SECURITY)))
    assert claims_of(log).signers[-1].subject == "(unreadable)"


def test_variables_of_the_global_vendor_and_of_the_databases_are_not_mixed_up() -> None:
    log = inserted(
        without(LOG, place_of(LOG, 7, "dbx".encode("utf-16-le"))), 0, measured(7, CONFIG, variable("dbx", b"", GLOBAL))
    )
    assert "dbx" not in claims_of(log).secure_boot.values
