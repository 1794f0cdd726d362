"""IMA logs of real machines: every file of the data folder reads, and replays to what the TPMs had."""

from __future__ import annotations

import json
from collections import Counter
from itertools import accumulate
from typing import Any

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.ima.log import (
    ImaEntry,
    boot_aggregate_candidates,
    claimed_bank,
    encode_ima_entry,
    replay_ima,
    template_hash,
)
from nodeseal.ima.signature import decode_ima_signature
from nodeseal.ima.template import encode_template, parse_template
from nodeseal.ima.text import ima_text_entries, looks_like_ima_text
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import decode_event_log
from nodeseal.uefi.event_log import replay as replay_boot_log
from support.data import ROOT, shared_data
from support.ima import decode_ima_log, parse_ima_text

LOGS = ROOT.parent / "shared" / "data" / "ima-logs"
BINARY = sorted(str(path.relative_to(LOGS)) for path in LOGS.rglob("*.bin"))
LISTS = sorted(str(path.relative_to(LOGS)) for path in LOGS.rglob("*.txt") if path.name != "imakvtpcr10.txt")
KVT = "ibm-kvt/binary_runtime_measurements_{}.bin"


def read(name: str) -> tuple[ImaEntry, ...]:
    raw = shared_data("ima-logs", name).read_bytes()
    return decode_ima_log(raw, claimed_bank(raw))


def expected(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shared_data("ima-logs", name).with_suffix(".expected.json").read_text())
    return found


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_log_survives_decoding_and_encoding(name: str) -> None:
    entries = read(name)
    assert b"".join(map(encode_ima_entry, entries)) == shared_data("ima-logs", name).read_bytes()
    for entry in entries:
        assert encode_template(entry.template, parse_template(entry.template, entry.data)) == entry.data


@pytest.mark.parametrize("name", BINARY)
def test_a_binary_log_has_the_entries_that_are_expected(name: str) -> None:
    facts, entries = expected(name), read(name)
    assert len(entries) == facts["entries"]
    if "templates" in facts:
        assert dict(Counter(entry.template for entry in entries)) == facts["templates"]
        assert {str(pcr): n for pcr, n in Counter(entry.pcr for entry in entries).items()} == facts["pcr_indexes"]
        assert sum(entry.violation for entry in entries) == facts["violations"]


@pytest.mark.parametrize("bank", HashAlg, ids=lambda bank: bank.hashlib_name)
@pytest.mark.parametrize("of", HashAlg, ids=lambda bank: f"file of {bank.hashlib_name}")
def test_the_file_of_each_bank_replays_to_the_tpm_in_every_bank(of: HashAlg, bank: HashAlg) -> None:
    name = KVT.format(of.hashlib_name)
    assert replay_ima(read(name), bank).hex() == expected(name)["tpm_pcr10"][bank.hashlib_name]


def test_the_files_of_four_banks_hold_the_same_entries() -> None:
    logs = [[(each.pcr, each.template, each.data) for each in read(KVT.format(of.hashlib_name))] for of in HashAlg]
    assert logs[0] == logs[1] == logs[2] == logs[3]


@pytest.mark.parametrize("bank", [HashAlg.SHA1, HashAlg.SHA256], ids=lambda bank: bank.hashlib_name)
@pytest.mark.parametrize("name", ["h12ssl/values.bin", "x1c-hahuri/ima.bin"])
def test_a_whole_log_replays_to_the_tpm_of_its_machine(name: str, bank: HashAlg) -> None:
    assert replay_ima(read(name), bank).hex() == expected(name)["tpm_pcrs"][bank.hashlib_name]["10"]


def test_a_log_read_after_the_tpm_replays_to_it_one_entry_early() -> None:
    name = "h12ssl/binary.bin"
    facts, entries, bank = expected(name), read(name), HashAlg.SHA1
    extends = [template_hash(entry, bank) for entry in entries]
    values = accumulate(extends, lambda value, extend: bank.digest(value + extend), initial=bytes(20))
    fits = [count for count, value in enumerate(values) if value.hex() == facts["tpm_pcrs"]["sha1"]["10"]]
    assert fits == [facts["sha1_pcr10_fits_after_entries"]]


@pytest.mark.parametrize(
    ("name", "boot_log", "bank"),
    [
        pytest.param("h12ssl/binary.bin", "h12ssl-supermicro-2022.bin", HashAlg.SHA1, id="SHA-1 over PCR 0-7"),
        pytest.param("h12ssl/values.bin", "h12ssl-supermicro-values.bin", HashAlg.SHA1, id="the same, another boot"),
        pytest.param("x1c-hahuri/ima.bin", "lenovo-x1c-hahuri-sdboot.bin", HashAlg.SHA256, id="SHA-256 over PCR 0-9"),
    ],
)
def test_the_boot_aggregate_is_of_the_boot_logs_pcrs(name: str, boot_log: str, bank: HashAlg) -> None:
    log = decode_event_log(shared_data("uefi-eventlogs", boot_log).read_bytes())
    pcrs = {pcr: bytes(bank.digest_size) for pcr in range(10)} | replay_boot_log(log, bank)
    first = parse_template(read(name)[0].template, read(name)[0].data)
    assert first.path == b"boot_aggregate"
    assert first.algorithm == bank.hashlib_name
    assert first.digest == boot_aggregate_candidates(pcrs, bank)[0]


def test_every_entry_of_ibms_sampler_says_what_it_should() -> None:
    said = [(each.template, parse_template(each.template, each.data)) for each in read("ibm-imatest-templates.bin")]
    lib = b"/usr/lib/modules/5.4.0-rc7+/kernel/drivers/gpu/drm/drm_panel_orientation_quirks.ko"
    aggregate = b"boot_aggregate"
    assert [(template, fields.algorithm, fields.path, fields.digest_type) for template, fields in said] == [
        ("d-ng|sig", "sha1", b"", ""),
        ("n-ng|d-ng", "sha1", aggregate, ""),
        ("n-ng|sig|d-ng", "sha1", aggregate, ""),
        ("n-ng|sig", "", aggregate, ""),
        ("n", "", aggregate, ""),
        ("sig", "", b"", ""),
        ("ima", "sha1", aggregate, ""),
        ("ima-ng", "sha1", aggregate, ""),
        ("ima-sig", "sha1", aggregate, ""),
        ("ima-modsig", "sha256", lib, ""),
        ("ima-sig", "sha256", b"/usr/lib/systemd/systemd", ""),
        ("ima-sig", "sha256", b"/usr/lib/systemd/systemd", ""),
        ("ima-sigv2", "sha256", b"/tmp/lower/lower/lower-file.txt", "ima"),
        ("ima-buf", "sha256", b".builtin_trusted_keys", ""),
        ("evm-sig", "sha256", b"/tmp/lower/lower/foo-evmsig-4.txt", ""),
        ("ima-ngv2", "sha256", aggregate, "ima"),
        ("ima-modsig", "sha256", b"/boot/vmlinuz-6.1.6-200.fc37.x86_64", ""),
    ]
    rsa, ecdsa = (decode_ima_signature(said[at][1].signature) for at in (10, 11))
    assert (rsa.key_id.hex(), len(rsa.signature), ecdsa.key_id.hex()) == ("6e6c1046", 256, "f1f2ba3c")
    buffer = said[13][1].buffer
    assert buffer is not None
    assert HashAlg.SHA256.digest(buffer) == said[13][1].digest
    evm = dict(said[14][1].others)
    assert evm["xattrnames"] == b"security.selinux|security.ima\0"
    assert evm["imode"] == (0o100644).to_bytes(2, "little")
    assert dict(said[16][1].others)["modsig"].startswith(b"\x30\x82")


def test_21_files_of_a_virtual_machine_are_signed() -> None:
    said = [parse_template(each.template, each.data) for each in read(KVT.format("sha256"))]
    signatures = [decode_ima_signature(fields.signature) for fields in said if fields.signature]
    assert len(signatures) == 21
    assert {signature.hash_alg.name for signature in signatures} == {"sha256"}


def test_the_ascii_list_is_the_binary_log_read_later() -> None:
    binary = read("h12ssl/binary.bin")
    lines = parse_ima_text(shared_data("ima-logs", "h12ssl", "ascii.txt").read_bytes())
    assert len(lines) == 2380
    assert lines[: len(binary)] == binary


@pytest.mark.parametrize("name", LISTS)
def test_every_ascii_list_is_read_and_its_digests_checked(name: str) -> None:
    raw = shared_data("ima-logs", name).read_bytes()
    assert looks_like_ima_text(raw)
    entries = tuple(ima_text_entries(raw))
    assert all(parse_template(each.template, each.data).path for each in entries)
    made_up = ("bad-signatures.txt", "policy-log-sm3_256.txt", "policy-log-unknown.txt")
    if name.endswith(made_up):
        with pytest.raises(MalformedInput, match=r"its template digest is not the sha\d+ of its data"):
            parse_ima_text(raw)
    else:
        assert parse_ima_text(raw) == entries


@pytest.mark.parametrize("algorithm", ["sha1", "sha256", "sha384", "sha512", "sm3_256", "unknown"])
def test_the_algorithm_of_a_list_is_told_as_it_is_written(algorithm: str) -> None:
    raw = shared_data("ima-logs", "keylime-ascii", f"policy-log-{algorithm}.txt").read_bytes()
    assert {parse_template(each.template, each.data).algorithm for each in ima_text_entries(raw)} == {algorithm}


def test_a_key_put_on_a_keyring_is_measured_whole() -> None:
    (entry,) = parse_ima_text(shared_data("ima-logs", "keylime-ascii", "keyrings.txt").read_bytes())
    fields = parse_template(entry.template, entry.data)
    assert fields.path == b".ima"
    assert fields.buffer is not None
    assert HashAlg.SHA256.digest(fields.buffer) == fields.digest
    assert fields.digest.hex().startswith("a7d52aaa")
