"""IMA logs of real machines, measured by a machine with a software TPM, quoted and sent by its agent.

The files of each are listed from itself: it is trusted under that list, and not when one file is another, when one
entry is dropped, or when the list is another machine's. What no list can allow (SHA-1 digests, templates without digest
and name) is refused, because of what the entries are, not because of the log's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations

import pytest

from nodeseal.appraisal.kinds.ima_rules import file_fields
from nodeseal.appraisal.offline import appraise_folder, observe
from nodeseal.errors import MalformedInput
from nodeseal.evidence.folder import EvidenceFolder
from nodeseal.evidence.logs import ImaDelta
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.rules import RuntimeRules
from nodeseal.ima.log import (
    ImaEntry,
    boot_aggregate_candidates,
    claimed_bank,
    ima_entries,
    measured_entry,
    template_hash,
)
from nodeseal.ima.template import ImaFields, encode_template
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import replay
from support import ima
from support.data import shared_data
from support.real_machines import Observed, captured, is_whole, real_boot_logs
from support.runtime import listing_of

SHA1, SHA256 = HashAlg.SHA1, HashAlg.SHA256
UNLISTABLE = {
    FindingId.IMA_BUFFER,
    FindingId.IMA_CARRIED,
    FindingId.IMA_SIGNATURE,
    FindingId.IMA_TEMPLATE,
    FindingId.IMA_UNKNOWN_FILE,
    FindingId.IMA_VIOLATION,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What one real machine measured after boot, and the evidence of a machine that measured the same."""

    name: str
    entries: tuple[ImaEntry, ...]
    folder: EvidenceFolder

    @property
    def rules(self) -> RuntimeRules:
        runtime = listing_of(observe(self.folder).ima).runtime
        assert runtime is not None
        return runtime

    @property
    def listable(self) -> bool:
        """Whether every entry names a file by a digest that a list can hold."""
        return all(map(is_listable, self.entries))


def is_listable(entry: ImaEntry) -> bool:
    try:
        fields = file_fields(entry)
    except MalformedInput:
        return False
    return entry.violation or fields.algorithm == "sha256"


def real_runtimes() -> Iterator[tuple[str, tuple[ImaEntry, ...]]]:
    """Iterate names and entries of every log, as the kernel's plain file has them: with template digests of SHA-1."""
    folder = shared_data("ima-logs")
    for path in sorted(folder.glob("**/*.bin")):
        raw = path.read_bytes()
        entries = [entry for _, entry in ima_entries(raw, claimed_bank(raw))]
        plain = (bytes(20) if entry.violation else template_hash(entry, SHA1) for entry in entries)
        again = zip(entries, plain, strict=True)
        name = str(path.relative_to(folder).with_suffix(""))
        yield name, tuple(entry._replace(template_digest=digest) for entry, digest in again)


def boot_of(entries: tuple[ImaEntry, ...]) -> bytes | None:
    """Return the real boot log whose PCRs make the boot aggregate that these entries begin with, if there is one."""
    try:
        first = file_fields(entries[0])
    except MalformedInput:
        return None
    for _, raw, log in real_boot_logs():
        if log is not None and is_whole(log) and first.algorithm == "sha256":
            values = {pcr: bytes(32) for pcr in range(10)} | replay(log, SHA256)
            if first.digest in boot_aggregate_candidates(values, SHA256):
                return raw
    return None


def ran(observed: Observed, name: str, entries: tuple[ImaEntry, ...]) -> Ran:
    """Let a machine measure the same: after its own boot aggregate, unless it can boot as the real one did."""
    boot = boot_of(entries)
    observed.machine.boot(boot or sample_boot_log(SampleBoot()), ima=boot is None)
    observed.machine.replay_ima(ima.log(entries[boot is None :]))
    return Ran(name=name, entries=entries[1:], folder=observed.keep())


@pytest.fixture(scope="module")
def runtimes(observed: Observed) -> list[Ran]:
    return [ran(observed, name, entries) for name, entries in real_runtimes()]


def judged(each: Ran, rules: RuntimeRules) -> tuple[Finding, ...]:
    appraisal = appraise_folder(each.folder, [captured(each.folder, "listed", rules)])
    assert appraisal.trusted is not bool(appraisal.findings)
    return appraisal.findings


def test_the_whole_log_is_proved_by_the_quote(runtimes: list[Ran]) -> None:
    for each in runtimes:
        seen = observe(each.folder)
        assert (seen.findings, seen.ima[1:]) == ((), each.entries), each.name
    assert len(runtimes) > 8
    assert any(boot_of(entries) for _, entries in real_runtimes())


def test_a_machine_is_trusted_under_the_list_of_what_it_ran_and_never_by_what_no_list_can_hold(
    runtimes: list[Ran],
) -> None:
    trusted = 0
    for each in runtimes:
        found = {finding.id for finding in judged(each, each.rules)}
        if each.listable:
            assert found == set(), each.name
            trusted += 1
        else:
            assert found, each.name
            assert found <= UNLISTABLE, each.name
    assert 5 <= trusted < len(runtimes)


def test_under_the_list_of_another_machine_the_files_that_differ_are_named(runtimes: list[Ran]) -> None:
    compared = 0
    for ours, theirs in permutations([each for each in runtimes if each.listable], 2):
        listed = theirs.rules.files
        strange = {
            path for path, contents in ours.rules.files.items() if not set(contents) <= set(listed.get(path, ()))
        }
        if strange:
            compared += 1
            places = [finding.where.rpartition(", golden ") for finding in judged(ours, theirs.rules)]
            named = {path for path, golden, _ in places if golden}
            assert named, (ours.name, theirs.name)
            assert named <= strange | (ours.rules.buffers or {}).keys(), (ours.name, theirs.name)
    assert compared >= 2


def test_a_log_without_one_of_its_entries_proves_nothing(runtimes: list[Ran]) -> None:
    for each in runtimes:
        delta = each.folder.evidence.ima
        assert delta is not None
        entries = [entry for _, entry in ima_entries(delta.entries)]
        for gone in {1, len(entries) // 2, len(entries) - 1}:
            if entries[gone].pcr != 10:
                continue
            forged = ImaDelta(offset=0, entries=ima.log(entries[:gone] + entries[gone + 1 :]))
            evidence = each.folder.evidence._replace(ima=forged)
            found = judged(replace(each, folder=replace(each.folder, evidence=evidence)), each.rules)
            assert {finding.id for finding in found} == {FindingId.IMA_REPLAY}, (each.name, gone)


def test_a_machine_that_ran_another_content_of_one_file_is_refused_and_the_file_named(
    observed: Observed, runtimes: list[Ran]
) -> None:
    for each in [one for one in runtimes if one.listable]:
        place = next(at for at, entry in enumerate(each.entries) if is_file(entry))
        fields = file_fields(each.entries[place])
        other = replace(fields, digest=SHA256.digest(b"something else"), signature=b"")
        forged = list(each.entries)
        forged[place] = entry_of(other)
        observed.machine.boot(sample_boot_log(SampleBoot()), ima=True)
        observed.machine.replay_ima(ima.log(forged))
        (finding,) = judged(replace(each, folder=observed.keep()), each.rules)
        assert finding.id is FindingId.IMA_CHANGED_FILE
        assert finding.where.startswith(fields.path.decode())


def is_file(entry: ImaEntry) -> bool:
    return entry.pcr == 10 and not entry.violation and file_fields(entry).buffer is None


def entry_of(fields: ImaFields) -> ImaEntry:
    return measured_entry("ima-ng", encode_template("ima-ng", fields))
