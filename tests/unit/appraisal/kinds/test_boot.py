"""What is concluded from a boot log: by bank, within bounds, and for which PCR values."""

from __future__ import annotations

from dataclasses import replace

from nodeseal.appraisal.kinds.boot import boot_pcrs_sha256, conclude_boot
from nodeseal.appraisal.kinds.kind import MAX_FINDINGS
from nodeseal.evidence.quote import QuotedPcrs, prove_pcr_values
from nodeseal.findings import FindingId
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules, Image
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Quoted
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.uefi.event_log import EventLog, decode_event_log, encode_event_log, replay
from support.rounds import CLAIMS, GOLDEN

SHA256, SHA384 = HashAlg.SHA256, HashAlg.SHA384
CHAIN = SampleBoot()
LOG = decode_event_log(sample_boot_log(CHAIN, (SHA256, SHA384)))
IMAGES = tuple(
    Image(name=name, digests=frozenset({SHA256.digest(content)}))
    for name, content in (("shim", CHAIN.shim), ("grub", CHAIN.boot_loader), ("kernel", CHAIN.kernel))
)
USUAL = replace(GOLDEN, boot=BootRules(bank=SHA256, images=IMAGES))


def proved(*banks: HashAlg, log: EventLog = LOG, selection: range = range(10)) -> QuotedPcrs:
    """Return the PCRs that ``log`` leads to, as if they were quoted."""
    quoted = PcrSelection.of(dict.fromkeys(banks, selection))
    replayed = {bank: replay(log, bank) for bank in banks}
    values = [replayed[bank].get(pcr, bytes(bank.digest_size)) for bank, pcr in quoted.indices()]
    return prove_pcr_values(Quoted(quoted, pcr_digest(SHA256, values)), SHA256, values)


def found(log: EventLog, pcrs: QuotedPcrs, golden: Golden = USUAL) -> set[FindingId]:
    state, _ = conclude_boot(encode_event_log(log), pcrs, CLAIMS, [golden])
    return {finding.id for finding in state.verdicts[golden.digest].findings}


def test_rules_are_held_against_the_bank_that_they_name() -> None:
    assert found(LOG, proved(SHA256, SHA384)) == set()
    assert found(LOG, proved(SHA256)) == set()
    assert FindingId.UEFI_IMAGE in found(LOG, proved(SHA384))


def test_a_log_that_lies_in_the_bank_of_the_rules_is_found_by_those_rules() -> None:
    events = [replace(event, digests={**event.digests, SHA256: b"l" * 32}) for event in LOG.events if event.pcr == 2]
    lie = replace(LOG, events=(*(event for event in LOG.events if event.pcr != 2), *events))
    state, claims = conclude_boot(encode_event_log(lie), proved(SHA256, SHA384), CLAIMS, [USUAL])
    assert claims is not None
    assert claims.bank is SHA384
    assert state.findings == ()
    assert [each.id for each in state.verdicts[USUAL.digest].findings] == [FindingId.UEFI_REPLAY]


def test_of_many_findings_the_first_are_kept_and_the_rest_counted() -> None:
    image = next(event for event in LOG.events if event.pcr == 4 and b"vmlinuz" in event.data.replace(b"\0", b""))
    others = [replace(image, digests={bank: bank.digest(b"%d" % n) for bank in image.digests}) for n in range(150)]
    many = replace(LOG, events=(*LOG.events, *others))
    state, _ = conclude_boot(encode_event_log(many), proved(SHA256, log=many), CLAIMS, [USUAL])
    verdict = state.verdicts[USUAL.digest]
    assert len(verdict.findings) == MAX_FINDINGS
    assert verdict.more == 50


def test_every_bank_index_and_value_of_a_boot_pcr_makes_a_difference() -> None:
    seen = [
        proved(SHA256),
        proved(SHA384),
        proved(SHA256, SHA384),
        proved(SHA256, selection=range(2, 3)),
        proved(SHA256, selection=range(3, 4)),
        proved(SHA256, log=replace(LOG, events=LOG.events[:-1])),
    ]
    assert len({boot_pcrs_sha256(pcrs) for pcrs in seen}) == len(seen)


def test_pcrs_that_no_boot_log_speaks_of_make_none() -> None:
    assert boot_pcrs_sha256(proved(SHA256, selection=range(10))) == boot_pcrs_sha256(
        proved(SHA256, selection=range(11)),
    )


def test_a_quirk_is_reported_once_and_speaks_against_no_golden_of_any_bank() -> None:
    silent = replace(LOG, events=tuple(event for event in LOG.events if not event.data.startswith(b"Exit Boot")))
    claims = replace(CLAIMS, firmware_vendor="HP")
    state, _ = conclude_boot(encode_event_log(silent), proved(SHA256, SHA384), claims, [USUAL])
    assert [finding.id for finding in state.findings] == [FindingId.UEFI_QUIRK]
    assert state.verdicts[USUAL.digest].findings == ()
