"""The binary IMA log: entries come out as they went in, and what is no log is refused by name."""

from __future__ import annotations

import hashlib
import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.errors import MalformedInput
from nodeseal.ima.log import (
    MAX_IMA_LOG,
    MAX_TEMPLATE_DATA,
    ImaEntry,
    boot_aggregate_candidates,
    claimed_bank,
    encode_ima_entry,
    ima_entries,
    looks_like_ima_log,
    measured_entry,
    replay_ima,
    template_hash,
)
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from support import ima
from support.ima import decode_ima_log

BANKS = pytest.mark.parametrize("bank", HashAlg, ids=lambda bank: bank.hashlib_name)
GOOD = ima.entry("ima-ng", ima.FILE)


@BANKS
def test_entries_of_every_template_survive_the_file_of_every_bank(bank: HashAlg) -> None:
    entries = ima.examples(bank)
    assert decode_ima_log(ima.log(entries), bank) == entries


@BANKS
def test_the_bank_of_a_file_shows_in_its_entries(bank: HashAlg) -> None:
    assert claimed_bank(ima.log(ima.examples(bank))) is bank


@pytest.mark.parametrize("raw", [pytest.param(b"", id="nothing"), pytest.param(b"no log at all" * 9, id="text")])
def test_what_has_the_width_of_no_bank_is_refused_as_the_classic_file(raw: bytes) -> None:
    assert not looks_like_ima_log(raw)
    with pytest.raises(MalformedInput, match="IMA log"):
        decode_ima_log(raw, claimed_bank(raw))


@BANKS
def test_a_log_shows_by_its_first_bytes_whatever_its_byte_order(bank: HashAlg) -> None:
    raw = ima.log(ima.examples(bank))
    at = 4 + bank.digest_size
    swapped = raw[3::-1] + raw[4:at] + raw[at + 3 : at - 1 : -1] + raw[at + 4 :]
    assert looks_like_ima_log(raw)
    assert looks_like_ima_log(swapped)
    with pytest.raises(MalformedInput, match="is big-endian"):
        decode_ima_log(swapped, claimed_bank(swapped))


def test_a_boot_log_is_no_ima_log() -> None:
    for banks in ((HashAlg.SHA1,), (HashAlg.SHA1, HashAlg.SHA256), tuple(HashAlg)):
        assert not looks_like_ima_log(sample_boot_log(SampleBoot(), banks))


@pytest.mark.parametrize("template", ima.EXAMPLES)
def test_an_entry_cut_anywhere_is_refused(template: str) -> None:
    raw = encode_ima_entry(ima.entry(template, ima.EXAMPLES[template]))
    for size in range(1, len(raw)):
        with pytest.raises(MalformedInput, match="cut off"):
            list(ima_entries(raw[:size]))


@pytest.mark.parametrize("template", ima.EXAMPLES)
def test_one_byte_more_is_refused(template: str) -> None:
    raw = encode_ima_entry(ima.entry(template, ima.EXAMPLES[template]))
    for tail in (b"\0", b"\xff"):
        with pytest.raises(MalformedInput, match="cut off"):
            decode_ima_log(raw + tail)


def test_entries_come_with_the_offsets_at_which_they_end() -> None:
    entries = ima.examples()
    raw = ima.log(entries)
    offsets = [end for end, _ in ima_entries(raw)]
    assert offsets[-1] == len(raw)
    for number, end in enumerate(offsets):
        assert tuple(entry for _, entry in ima_entries(raw, start=end)) == entries[number + 1 :]


def _header(pcr: int = 10, name_size: int = 6, name: bytes = b"ima-ng", size: int = 0) -> bytes:
    return struct.pack("<I20sI", pcr, b"\1" * 20, name_size) + name + struct.pack("<I", size)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        pytest.param(b"", "is empty", id="an empty file"),
        pytest.param(struct.pack(">I", 10) + encode_ima_entry(GOOD)[4:], "big-endian", id="a big-endian log"),
        pytest.param(_header(pcr=24), "names PCR 24", id="a PCR that is none"),
        pytest.param(_header(name_size=0), "a template name of 0 bytes", id="no template"),
        pytest.param(_header(name_size=256), "a template name of 256 bytes", id="a long name of a template"),
        pytest.param(_header(name=b"ima\nng"), "a template name that is no text", id="a newline in a template's name"),
        pytest.param(_header(size=MAX_TEMPLATE_DATA + 1), "at most 1048576", id="too much data"),
        pytest.param(
            struct.pack("<I20sI", 10, b"\1" * 20, 3) + b"ima" + bytes(20) + struct.pack("<I", 256) + bytes(256),
            "a name of 256 bytes, the template ima has 255",
            id="a name that the legacy template cannot hold",
        ),
        pytest.param(
            encode_ima_entry(GOOD._replace(data=GOOD.data.replace(b"tool", b"evil"))),
            "entry 0: its template digest is not the sha1 of its data",
            id="data that its digest does not hash",
        ),
    ],
)
def test_what_is_no_log_is_refused_by_name(raw: bytes, problem: str) -> None:
    with pytest.raises(MalformedInput, match=problem):
        decode_ima_log(raw)


def test_a_legacy_name_has_at_most_255_bytes() -> None:
    for size, fits in ((255, True), (256, False)):
        raw = encode_ima_entry(GOOD._replace(template="ima", data=bytes(20) + struct.pack("<I", size) + b"x" * size))
        if fits:
            assert len(list(ima_entries(raw))) == 1
        else:
            with pytest.raises(MalformedInput, match="a name of 256 bytes"):
                list(ima_entries(raw))


def test_an_entry_may_have_as_much_data_as_the_limit() -> None:
    entry = measured_entry("ima-buf", bytes(MAX_TEMPLATE_DATA))
    assert decode_ima_log(encode_ima_entry(entry)) == (entry,)


def test_a_log_may_have_as_many_bytes_as_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = encode_ima_entry(GOOD)
    monkeypatch.setattr("nodeseal.ima.log.MAX_IMA_LOG", len(raw))
    assert decode_ima_log(raw) == (GOOD,)
    with pytest.raises(MalformedInput, match=f"more than {len(raw)} bytes"):
        decode_ima_log(raw * 2)


def test_a_file_read_as_another_banks_is_refused() -> None:
    for bank in (HashAlg.SHA256, HashAlg.SHA384, HashAlg.SHA512):
        with pytest.raises(MalformedInput):
            decode_ima_log(ima.log(ima.examples()), bank)


def test_a_hostile_log_of_100_megabytes_is_refused_at_once() -> None:
    raw = bytes(100_000_000)
    start = time.process_time()
    with pytest.raises(MalformedInput, match=f"more than {MAX_IMA_LOG} bytes"):
        decode_ima_log(raw)
    assert time.process_time() - start < 1


def test_too_many_entries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodeseal.ima.log.MAX_IMA_ENTRIES", 3)
    assert len(decode_ima_log(ima.log([GOOD] * 3))) == 3
    with pytest.raises(MalformedInput, match="more than 3 entries"):
        decode_ima_log(ima.log([GOOD] * 4))


@BANKS
def test_a_template_hash_covers_the_data_with_its_lengths(bank: HashAlg) -> None:
    assert template_hash(GOOD, bank) == hashlib.new(bank.hashlib_name, GOOD.data).digest()


@BANKS
def test_the_legacy_template_pads_its_name_and_hashes_no_length(bank: HashAlg) -> None:
    entry = ima.entry("ima", ima.LEGACY)
    hashed = ima.LEGACY.digest + b"/usr/bin/tool" + bytes(256 - 13)
    assert template_hash(entry, bank) == hashlib.new(bank.hashlib_name, hashed).digest()


@BANKS
def test_a_violation_extends_all_ones(bank: HashAlg) -> None:
    entry = ima.violation(b"/var/log/journal")
    assert entry.violation
    assert template_hash(entry, bank) == b"\xff" * bank.digest_size


def test_a_name_too_long_for_the_legacy_template_is_not_hashed() -> None:
    entry = ImaEntry(10, b"\1" * 20, "ima", bytes(20) + struct.pack("<I", 256) + bytes(256))
    with pytest.raises(MalformedInput, match="a name of 256 bytes"):
        template_hash(entry, HashAlg.SHA256)


@BANKS
def test_replay_extends_the_entries_of_its_pcr_only(bank: HashAlg) -> None:
    other = measured_entry("ima-ng", GOOD.data, pcr=11)
    value = bytes(bank.digest_size)
    for extended in (template_hash(GOOD, bank), b"\xff" * bank.digest_size):
        value = hashlib.new(bank.hashlib_name, value + extended).digest()
    log = [GOOD, other, ima.violation(b"/x")]
    assert replay_ima(log, bank) == value
    expected = hashlib.new(bank.hashlib_name, bytes(bank.digest_size) + template_hash(GOOD, bank)).digest()
    assert replay_ima(log, bank, pcr=11) == expected


def test_boot_aggregates_are_over_the_pcrs_that_a_kernel_takes() -> None:
    values = {pcr: bytes([pcr]) * 32 for pcr in range(10)}
    to_nine, to_seven = (hashlib.sha256(b"".join(values[n] for n in range(count))).digest() for count in (10, 8))
    assert boot_aggregate_candidates(values, HashAlg.SHA256) == (to_nine, to_seven)
    assert boot_aggregate_candidates({pcr: values[pcr] for pcr in range(8)}, HashAlg.SHA256) == (to_seven,)
    assert boot_aggregate_candidates({pcr: values[pcr] for pcr in range(1, 10)}, HashAlg.SHA256) == ()
    sha1 = {pcr: bytes([pcr]) * 20 for pcr in range(10)}
    eight = HashAlg.SHA1.digest(b"".join(sha1[pcr] for pcr in range(8)))
    assert boot_aggregate_candidates(sha1, HashAlg.SHA1) == (eight,)


@given(
    st.lists(
        st.builds(
            measured_entry,
            st.sampled_from(["ima-ng", "x", "d-ng|sig", "!" * 255]),
            st.binary(max_size=80),
            st.just(HashAlg.SHA256),
            st.integers(0, 23),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_any_entries_survive_a_log(entries: list[ImaEntry]) -> None:
    assert decode_ima_log(ima.log(entries), HashAlg.SHA256) == tuple(entries)
