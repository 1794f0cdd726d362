"""IMA logs of real machines: good under a list made of themselves, and proved by nothing but their own quote (r02)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from nodeseal.appraisal.kinds.ima_log import ImaOutcome, ImaRound, ImaVerdict, compile_runtime, judge_ima
from nodeseal.evidence.logs import ImaDelta
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import FindingId
from nodeseal.ima.log import ImaEntry, ima_entries, replay_ima
from nodeseal.tpm.algorithms import HashAlg
from support import ima
from support.damage import flipped
from support.data import shared_data
from support.quotes import quoted_pcrs
from support.runtime import SHA256, at, ids, listing, listing_of

SHA1, SHA384, SHA512 = HashAlg.SHA1, HashAlg.SHA384, HashAlg.SHA512
Values = dict[HashAlg, dict[int, bytes]]


def known(path: Path, key: str) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(path.read_text())[key]
    return found


def kvt(bank: HashAlg) -> tuple[bytes, QuotedPcrs]:
    """A virtual machine's log in the file of one bank; its boot PCRs are not known, so SHA-256 is not quoted."""
    folder = shared_data("ima-logs", "ibm-kvt")
    name = f"binary_runtime_measurements_{bank.hashlib_name}"
    values = json.loads((folder / f"{name}.expected.json").read_text())["tpm_pcr10"]
    pcr10 = {strong: {10: bytes.fromhex(values[strong.hashlib_name])} for strong in (SHA384, SHA512)}
    return (folder / f"{name}.bin").read_bytes(), quoted_pcrs(pcr10)


def laptop() -> tuple[bytes, QuotedPcrs]:
    """A laptop's log with measured buffers, and the quote of its boot."""
    folder = shared_data("ima-logs", "x1c-hahuri")
    boot = known(shared_data("uefi-eventlogs", "lenovo-x1c-hahuri-sdboot.bin.pcrs.json"), "banks")["sha256"]
    pcr10 = known(folder / "ima.expected.json", "tpm_pcrs")["sha256"]["10"]
    values = {int(index): bytes.fromhex(value) for index, value in boot.items() if int(index) < 10}
    return (folder / "ima.bin").read_bytes(), quoted_pcrs({SHA256: {**values, 10: bytes.fromhex(pcr10)}})


def server() -> tuple[bytes, QuotedPcrs]:
    """A server's log with SHA-1 digests of files and violations, and the quote of two banks."""
    folder = shared_data("ima-logs", "h12ssl")
    boot = known(shared_data("uefi-eventlogs", "h12ssl-supermicro-values.bin.pcrs.json"), "banks")["sha1"]
    pcr10 = known(folder / "values.expected.json", "tpm_pcrs")
    values = {int(index): bytes.fromhex(value) for index, value in boot.items() if int(index) < 8}
    quoted = {
        SHA1: {**values, 10: bytes.fromhex(pcr10["sha1"]["10"])},
        SHA256: {10: bytes.fromhex(pcr10["sha256"]["10"])},
    }
    return (folder / "values.bin").read_bytes(), quoted_pcrs(quoted)


Load = Callable[[], tuple[bytes, QuotedPcrs]]
LOGS: dict[str, tuple[Load, HashAlg]] = {
    "laptop": (laptop, SHA1),
    **{f"virtual machine, {bank.name} file": (partial(kvt, bank), bank) for bank in HashAlg},
}
ALL_LOGS = {**LOGS, "server": (server, SHA1)}


def entries_of(raw: bytes, bank: HashAlg) -> tuple[ImaEntry, ...]:
    return tuple(entry for _, entry in ima_entries(raw, bank))


def judge(raw: bytes, bank: HashAlg, pcrs: QuotedPcrs, listed: tuple[ImaEntry, ...]) -> ImaOutcome:
    goldens = [compile_runtime(listing_of(listed))]
    return judge_ima(ImaRound(delta=ImaDelta(offset=0, entries=raw, bank=bank), pcrs=pcrs, goldens=goldens, now=at(0)))


@pytest.mark.parametrize("name", LOGS)
def test_a_real_log_is_good_under_a_list_made_of_itself(name: str) -> None:
    load, bank = LOGS[name]
    raw, pcrs = load()
    outcome = judge(raw, bank, pcrs, entries_of(raw, bank))
    assert outcome.findings == ()
    assert outcome.progress is not None
    assert outcome.progress.mark.offset == len(raw)
    assert list(outcome.progress.verdicts.values()) == [ImaVerdict()]


@pytest.mark.parametrize("name", LOGS)
def test_a_real_log_judged_piece_by_piece_comes_to_the_same(name: str) -> None:
    load, bank = LOGS[name]
    raw, pcrs = load()
    entries = entries_of(raw, bank)
    goldens, progress = [compile_runtime(listing_of(entries))], None
    ends = [0, *(end for end, _ in ima_entries(raw, bank))]
    for start, end in pairwise([*ends[::7], ends[-1]]):
        delta = ImaDelta(offset=start, entries=raw[start:end], bank=bank)
        outcome = judge_ima(
            ImaRound(
                delta=delta,
                progress=progress,
                pcrs=_after(pcrs, entries[: ends.index(end)]),
                goldens=goldens,
                now=at(0),
            )
        )
        progress = outcome.progress
        assert outcome.findings == ()
    assert progress == judge(raw, bank, pcrs, entries).progress


def _after(pcrs: QuotedPcrs, entries: tuple[ImaEntry, ...]) -> QuotedPcrs:
    """Return what the machine would have quoted after these entries."""
    values: Values = {}
    for (bank, index), value in pcrs.items():
        values.setdefault(bank, {})[index] = replay_ima(entries, bank) if index == 10 else value
    return quoted_pcrs(values)


def mutations(entries: tuple[ImaEntry, ...]) -> Iterator[tuple[ImaEntry, ...]]:
    """Yield the log with each of some twenty entries dropped, doubled, moved back, changed, or made a violation."""
    for at_entry in range(0, len(entries) - 1, max(1, len(entries) // 20)):
        before, one, other, rest = entries[:at_entry], entries[at_entry], entries[at_entry + 1], entries[at_entry + 2 :]
        if one.pcr != 10 or other.pcr != 10 or one.violation:
            continue
        yield (*before, other, *rest)
        yield (*before, one, one, other, *rest)
        yield (*before, one._replace(data=flipped(one.data)), other, *rest)
        yield (*before, one._replace(template_digest=bytes(len(one.template_digest))), other, *rest)
        yield (*before, one._replace(pcr=11), other, *rest)
        if one.data != other.data:
            yield (*before, other, one, *rest)


@pytest.mark.parametrize("name", ALL_LOGS)
def test_r02_a_real_log_with_one_entry_dropped_doubled_moved_or_changed_proves_nothing(name: str) -> None:
    load, bank = ALL_LOGS[name]
    raw, pcrs = load()
    forged = list(mutations(entries_of(raw, bank)))
    assert len(forged) > 50
    for entries in forged:
        outcome = judge(ima.log(entries), bank, pcrs, ())
        trimmed = b"boot_aggregate" not in b"".join(entry.data for entry in entries[:16])
        assert ids(outcome.findings) == [FindingId.IMA_TRIMMED if trimmed else FindingId.IMA_REPLAY]
        assert outcome.progress is None


def test_a_real_log_of_sha1_digests_is_proved_but_its_files_are_not_known() -> None:
    raw, pcrs = server()
    entries = entries_of(raw, SHA1)
    outcome = judge(raw, SHA1, pcrs, entries)
    assert outcome.findings == ()
    assert outcome.progress is not None
    (verdict,) = outcome.progress.verdicts.values()
    assert set(ids(verdict.findings)) == {FindingId.IMA_UNKNOWN_FILE}
    assert len(verdict.findings) + verdict.more == sum(not entry.violation for entry in entries) - 1
    assert all("ima_hash=sha256" in finding.expected for finding in verdict.findings)


def test_r03_the_violations_of_a_real_log_are_found_even_where_every_path_is_excluded() -> None:
    raw, pcrs = server()
    goldens = [compile_runtime(listing("/usr/bin/never-run", excludes=("/",)))]
    outcome = judge_ima(ImaRound(delta=ImaDelta(offset=0, entries=raw), pcrs=pcrs, goldens=goldens, now=at(0)))
    assert outcome.progress is not None
    (verdict,) = outcome.progress.verdicts.values()
    assert ids(verdict.findings) == [FindingId.IMA_VIOLATION] * 9


def test_r04_a_real_log_read_after_the_quote_is_proved_up_to_it() -> None:
    folder = shared_data("ima-logs", "h12ssl")
    raw = (folder / "binary.bin").read_bytes()
    entries = entries_of(raw, SHA1)
    sha1 = bytes.fromhex(known(folder / "binary.expected.json", "tpm_pcrs")["sha1"]["10"])
    pcrs = _after(quoted_pcrs({SHA1: {10: sha1}, SHA256: {10: bytes(32)}}), entries[:-1])
    assert pcrs.get(SHA1, 10) == sha1
    outcome = judge(raw, SHA1, pcrs, ())
    assert outcome.progress is not None
    assert outcome.progress.mark.offset == len(ima.log(entries[:-1]))
