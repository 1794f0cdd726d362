"""Boot logs of real machines, extended into a TPM, quoted by the agent, kept as evidence and judged offline.

Each machine is trusted under the golden that is captured from it, and untrusted under every other machine's, with the
event in which the two boots first differ. What a log is, decides what must come of it: its bytes, never its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import pytest

from nodeseal.appraisal.offline import appraise_folder
from nodeseal.evidence.folder import EvidenceFolder
from nodeseal.findings import FindingId
from nodeseal.golden.document import dump_golden, parse_golden
from nodeseal.golden.model import Golden
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import EventLog, EventLogFormat
from support.real_machines import FIRMWARE_PCRS, SHA2, Observed, captured, is_whole, real_boot_logs

SHA256 = HashAlg.SHA256


@dataclass(frozen=True, slots=True, kw_only=True)
class Booted:
    """One real machine's boot, and what was kept of it."""

    name: str
    raw: bytes
    log: EventLog
    folder: EvidenceFolder
    golden: Golden

    @property
    def pcrs(self) -> dict[int, frozenset[bytes]]:
        return dict(self.golden.pcrs[SHA256])

    def digests(self, pcr: int) -> list[tuple[int, bytes]]:
        """Number and digest of every event that was extended into a PCR."""
        extended = {id(event) for event in self.log.extended()}
        return [
            (number, event.digests[SHA256])
            for number, event in self.log.numbered()
            if event.pcr == pcr and id(event) in extended
        ]


@pytest.fixture(scope="module")
def machines(observed: Observed) -> list[Booted]:
    found = []
    for name, raw, log in real_boot_logs():
        if log is not None and is_whole(log):
            folder = observed.booted(raw)
            found.append(Booted(name=name, raw=raw, log=log, folder=folder, golden=captured(folder, name)))
    return found


def test_every_machine_is_trusted_under_the_golden_captured_from_it(machines: list[Booted]) -> None:
    refused = {}
    for each in machines:
        appraisal = appraise_folder(each.folder, [each.golden])
        if not appraisal.trusted or appraisal.findings:
            refused[each.name] = [str(finding) for finding in appraisal.findings]
    assert refused == {}
    assert len(machines) >= 40


@pytest.mark.timeout(300)  # two thousand appraisals
def test_no_machine_is_trusted_under_anothers_golden_and_the_first_event_that_differs_is_named(
    machines: list[Booted],
) -> None:
    wrong, pairs = [], 0
    for ours, theirs in permutations(machines, 2):
        differing = [pcr for pcr, allowed in sorted(theirs.pcrs.items()) if ours.pcrs[pcr] != allowed]
        appraisal = appraise_folder(ours.folder, [theirs.golden])
        assert appraisal.trusted is not bool(differing), (ours.name, theirs.name)
        if not differing:
            continue
        pairs += 1
        found = [finding for finding in appraisal.findings if finding.id is FindingId.PCR_MISMATCH]
        places = [f"sha256 PCR {pcr}, golden {theirs.name}" for pcr in differing]
        assert [finding.where for finding in found] == places, (ours.name, theirs.name)
        for pcr, finding in zip(differing, found, strict=True):
            if not all(part in finding.event for part in first_difference(ours, theirs, pcr)):
                wrong.append((ours.name, str(finding)))
    assert wrong == []
    assert pairs > 1500


def first_difference(ours: Booted, theirs: Booted, pcr: int) -> list[str]:
    """Return what a finding must say: which of our events differs first, and the digest that stands against it."""
    mine, golden = ours.digests(pcr), theirs.digests(pcr)
    at = next(
        (at for at, (one, other) in enumerate(zip(mine, golden, strict=False)) if one[1] != other[1]),
        min(len(mine), len(golden)),
    )
    if at == len(mine):
        return ["after the last event", golden[at][1].hex()[:16]]
    number, digest = mine[at]
    if at == len(golden) or [d for _, d in mine[at + 1 :]] == [d for _, d in golden[at:]]:
        return [f"event {number} ", digest.hex()[:16]]
    return [f"event {number} ", golden[at][1].hex()[:16]]


@pytest.fixture(scope="module")
def ruled(machines: list[Booted]) -> dict[str, Golden]:
    """Goldens by machine that judge by rules over events wherever they can."""
    return {each.name: captured(each.folder, each.name, rules=True) for each in machines}


def test_every_machine_is_trusted_by_rules_over_its_own_events(
    machines: list[Booted], ruled: dict[str, Golden]
) -> None:
    for each in machines:
        appraisal = appraise_folder(each.folder, [ruled[each.name]])
        assert appraisal.findings == (), (each.name, [str(finding) for finding in appraisal.findings])
    rules = [golden.boot for golden in ruled.values() if golden.boot is not None]
    assert len(rules) == len(machines)
    assert 5 < sum(rule.secure_boot for rule in rules) < len(rules)


def test_rules_over_the_events_of_other_machines_trust_no_machine_that_booted_other_images(
    machines: list[Booted], ruled: dict[str, Golden]
) -> None:
    for each in machines:
        others = [ruled[other.name] for other in machines if other.pcrs[4] != each.pcrs[4]]
        assert len(others) > 30
        assert not appraise_folder(each.folder, others).trusted, each.name


def test_goldens_of_real_machines_survive_being_written_down(machines: list[Booted], ruled: dict[str, Golden]) -> None:
    for golden in (*(each.golden for each in machines), *ruled.values()):
        assert parse_golden(dump_golden(golden), golden.name) == golden


def test_every_bank_that_a_log_has_can_be_judged(observed: Observed, machines: list[Booted]) -> None:
    several = 0
    for each in machines:
        banks = tuple(bank for bank in SHA2 if bank in each.log.algorithms)
        if len(banks) > 1:
            several += 1
            folder = observed.booted(each.raw, banks)
            golden = captured(folder, each.name)
            assert tuple(golden.pcrs) == banks
            assert appraise_folder(folder, [golden]).findings == (), each.name
    assert several >= 5


# What a log is, decides what comes of it. One that explains no quoted bank is sent by a machine that is as its golden
# wants it, so that it is refused for the log alone.


def fate(log: EventLog | None) -> str:
    """Return what must come of a log for its form, its banks and the PCRs that it extends."""
    if log is None:
        return "malformed"
    if log.form is not EventLogFormat.CRYPTO_AGILE or SHA256 not in log.algorithms:
        return f"{log.form.value} of {', '.join(bank.hashlib_name for bank in log.algorithms)}"
    return "whole" if is_whole(log) else "fragment"


def test_every_log_is_whole_or_a_fragment_or_explains_no_quoted_bank() -> None:
    fates: dict[str, int] = {}
    for _, _, log in real_boot_logs():
        fates[fate(log)] = fates.get(fate(log), 0) + 1
    assert fates.keys() == {
        "whole",
        "fragment",
        "malformed",
        "sha1 of sha1",
        "ccel of sha384",
        "crypto-agile of sha384",
    }
    assert fates["whole"] > 40


def test_a_fragment_is_refused_for_every_boot_pcr_that_it_leaves_out(observed: Observed) -> None:
    fragments = [(name, raw, log) for name, raw, log in real_boot_logs() if log is not None and fate(log) == "fragment"]
    assert len(fragments) > 3
    for name, raw, log in fragments:
        folder = observed.booted(raw)
        appraisal = appraise_folder(folder, [captured(folder, name)])
        assert not appraisal.trusted, name
        absent = sorted(FIRMWARE_PCRS - {event.pcr for event in log.extended()})
        due = [(FindingId.PCR_UNEXTENDED, f"sha256 PCR {pcr}") for pcr in absent]
        assert [(finding.id, finding.where) for finding in appraisal.findings] == due, name


def test_what_is_no_log_of_the_quoted_bank_is_refused_for_that_alone(observed: Observed) -> None:
    golden = captured(observed.booted(sample_boot_log(SampleBoot())), "sample")
    refused = 0
    for name, raw, log in real_boot_logs():
        if raw and fate(log) not in ("whole", "fragment"):
            observed.machine.boot_log_file.write_bytes(raw)
            appraisal = appraise_folder(observed.keep(), [golden])
            assert [finding.id for finding in appraisal.findings] == [FindingId.UEFI_LOG_MALFORMED], name
            assert not appraisal.trusted
            refused += 1
    assert refused > 10


def test_a_log_of_another_machine_is_refused_in_every_pcr_that_it_does_not_explain(
    observed: Observed, machines: list[Booted]
) -> None:
    sample = observed.booted(sample_boot_log(SampleBoot()))
    golden = captured(sample, "sample")
    pcrs = golden.pcrs[SHA256]
    for each in machines:
        observed.machine.boot_log_file.write_bytes(each.raw)
        appraisal = appraise_folder(observed.keep(), [golden])
        assert not appraisal.trusted, each.name
        due = [f"sha256 PCR {pcr}" for pcr in FIRMWARE_PCRS if each.pcrs[pcr] != pcrs[pcr]]
        found = [finding.where for finding in appraisal.findings if finding.id is FindingId.UEFI_REPLAY]
        assert (found, len(appraisal.findings)) == (due, len(due)), each.name
