"""A boot log in the round that brings it: parsed, replayed into the quote, and judged, against P-256 verifications."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.harness import Missing, Result, pinned, rate, ratios
from benchmarks.openssl import VERIFY, p256_verifies_per_second
from nodeseal.appraisal.capture import CaptureOptions, Observation, capture
from nodeseal.appraisal.kinds.boot import conclude_boot
from nodeseal.boot.claims import boot_claims
from nodeseal.boot.proved import prove_boot_log
from nodeseal.boot.quirks import FirmwareFacts
from nodeseal.errors import MalformedInput
from nodeseal.evidence.claims import Claims
from nodeseal.evidence.quote import QuotedPcrs, prove_pcr_values
from nodeseal.golden.model import Golden
from nodeseal.ids import node_id_of
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Quoted
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.uefi.event_log import Event, EventLog, EventLogFormat, decode_event_log, encode_event_log, replay
from nodeseal.uefi.event_log_types import EventType

EVENTS: Final = range(95, 121)
"""How long a log may be to count as one of about 100 events."""
_REAL_LOGS: Final = Path(__file__).resolve().parents[2] / "shared" / "data" / "uefi-eventlogs"
"""Logs of other people's machines, where there are some; not part of this repository."""
_BANK: Final = HashAlg.SHA256
_SELECTION: Final = PcrSelection.of({_BANK: range(16)})
_CLAIMS: Final = Claims(boot_id="3f0c7c9e-0000-4000-8000-000000000001", kernel="6.1.0-31-amd64", agent_version="0.1.0")


class BootRound(NamedTuple):
    """What :func:`conclude_boot` takes."""

    raw: bytes
    pcrs: QuotedPcrs
    claims: Claims
    goldens: tuple[Golden, ...]


def in_verifies() -> Result:
    """Return what a boot log costs, as a number of P-256 verifications."""
    with pinned(0):
        logs, what = _logs()
        rounds = [_round(raw) for raw in logs]
        runs = ratios(p256_verifies_per_second, lambda: rate(_concluding(itertools.cycle(rounds), len(rounds))))
    note = f"{what}, each under a golden with all rules that it can meet, and its events for reference"
    return Result.of(runs, unit="count", against=VERIFY, note=note)


def _logs() -> tuple[list[bytes], str]:
    real = [raw for path in sorted(_REAL_LOGS.glob("*.bin")) if _is_about_right(raw := path.read_bytes())]
    if real:
        return real, f"{len(real)} logs of real machines with {EVENTS[0]} to {EVENTS[-1]} events in turn"
    sample = _sample()
    return [encode_event_log(sample)], f"a log of nodeseal's own with {len(sample.events)} events"


def _is_about_right(raw: bytes) -> bool:
    try:
        log = decode_event_log(raw)
    except MalformedInput:
        return False
    return log.form is EventLogFormat.CRYPTO_AGILE and _BANK in log.algorithms and len(log.events) in EVENTS


def _sample() -> EventLog:
    """Return the sample log with commands of GRUB, until it is as long as real ones."""
    log = decode_event_log(sample_boot_log(SampleBoot(), (_BANK,)))
    commands = (f"setparams item{number}" for number in range(EVENTS[0] - len(log.events)))
    return replace(log, events=(*log.events, *map(_command, commands)))


def _command(text: str) -> Event:
    return Event(
        pcr=8,
        claimed_type=EventType.IPL,
        digests={_BANK: _BANK.digest(text.encode())},
        data=f"grub_cmd: {text}".encode(),
    )


def _round(raw: bytes) -> BootRound:
    log = decode_event_log(raw)
    replayed = replay(log, _BANK)
    values = [replayed.get(index, bytes(_BANK.digest_size)) for _, index in _SELECTION.indices()]
    pcrs = prove_pcr_values(Quoted(_SELECTION, pcr_digest(_BANK, values)), _BANK, values)
    proved = prove_boot_log(log, pcrs, FirmwareFacts())
    node_id = node_id_of(b"a TPM")
    seen = Observation(node_id=node_id, boot_id=_CLAIMS.boot_id, pcrs=pcrs, log=proved, claims=boot_claims(proved))
    golden = capture([seen], CaptureOptions(name="bench", rules=True)).golden
    round_ = BootRound(raw, pcrs, _CLAIMS, (golden,))
    if any(verdict.findings or verdict.differences for verdict in conclude_boot(*round_)[0].verdicts.values()):
        raise Missing("a log is not judged good by its own golden")
    return round_


def _concluding(rounds: Iterator[BootRound], count: int) -> Callable[[], int]:
    def work() -> int:
        for each in itertools.islice(rounds, count):
            conclude_boot(*each)
        return count

    return work
