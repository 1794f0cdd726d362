"""Logs of real machines, spoiled in thousands of ways, against the quotes of the machines: never believed about more.

Each log is spoiled by :func:`support.boot_logs.mutations` and the like for IMA: entries dropped, added, doubled,
reordered, relabelled, moved, their data or digests swapped, bytes cut out, changed and cut off. ``make test`` spoils in
the same ways each time; ``make check-slow`` in others and more, and prints the seed. Whatever is trusted still has
every digest that the quote covers, in order, and says nothing that the original did not say.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random

import pytest

from nodeseal.appraisal.capture import CaptureOptions, Observation, capture
from nodeseal.appraisal.kinds.boot import conclude_boot
from nodeseal.appraisal.kinds.boot_rules import judge_boot
from nodeseal.appraisal.kinds.ima_log import ImaRound, ImaVerdict, compile_runtime, judge_ima
from nodeseal.appraisal.kinds.ima_rules import CompiledRuntime, file_fields
from nodeseal.boot.claims import BootClaims
from nodeseal.evidence.claims import Claims
from nodeseal.evidence.logs import ImaDelta
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import FindingId, Severity
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules, Signer
from nodeseal.ids import node_id_of
from nodeseal.ima.log import ImaEntry, claimed_bank, ima_entries, measured_entry, template_hash
from nodeseal.ima.template import ImaFields
from nodeseal.swtpm.sample_log import SampleBoot
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr_usage import IMA_PCR
from nodeseal.uefi.event_log import EventLog, decode_event_log, encode_event_log
from support import ima
from support.boot_logs import claims_of, good_log, mutations, proved, quote_of
from support.data import ROOT
from support.real_machines import is_whole, real_boot_logs
from support.runtime import BEGINNING, at, listing_of, ran
from support.runtime import quote_of as quote_of_entries

SHA256 = HashAlg.SHA256
HERE = (ROOT.parent / "shared" / "data").exists()
SEED = int(os.environ.get("NODESEAL_SEED", "2027"))
BOOT_CASES, IMA_CASES = (2500, 1500) if SEED == 2027 else (8000, 4000)
SLOWEST_SECONDS = 5.0
MORE_MEMORY = 200 * 1024 * 1024
CLAIMS = Claims(boot_id="boot", kernel="6.1", agent_version="1", leases=(), firmware_vendor="", firmware_version="")
QUOTES = str.maketrans("", "", "\"'\\")
CHAINS = (
    SampleBoot(option_rom=b"option ROM"),
    SampleBoot(command_line="root=x", sections=((".linux", b"kernel"), (".initrd", b"initrd"))),
)


class Watch:
    """Sees to it that no case takes long, and that all of them together leave memory as it was."""

    def __init__(self) -> None:
        self._memory = _peak_bytes()
        self._slowest = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._slowest = max(self._slowest, time.perf_counter() - self._started)

    def check(self) -> None:
        assert self._slowest < SLOWEST_SECONDS
        assert _peak_bytes() - self._memory < MORE_MEMORY


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# Boot logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Original:
    """A machine's log, its quote, what it says, and goldens made from it.

    Attributes:
        name: of the machine.
        raw: the log.
        quote: the machine's.
        claims: what the log says.
        digests: what was extended into each PCR.
        exact: a golden of exact values.
        ruled: one that judges by rules whatever can be.
        locked: one that demands secure boot and the signers of this machine.
        is_locked: whether the machine is as that one demands.
    """

    name: str
    raw: bytes
    quote: QuotedPcrs
    claims: BootClaims
    digests: Mapping[int, tuple[bytes, ...]]
    exact: Golden
    ruled: Golden
    locked: Golden
    is_locked: bool


def original(name: str, log: EventLog, raw: bytes) -> Original:
    observation = Observation(
        node_id=node_id_of(b"ek"), boot_id="boot", pcrs=quote_of(log), log=proved(log), claims=claims_of(log)
    )
    claims = claims_of(log)
    signers = tuple(Signer(sha256=signer.sha256) for signer in claims.signers if signer.sha256)
    rules = BootRules(secure_boot=True, signers=signers)
    return Original(
        name=name,
        raw=raw,
        quote=observation.pcrs,
        claims=claims,
        digests=digests_of(log),
        exact=capture([observation], CaptureOptions(name="exact")).golden,
        ruled=capture([observation], CaptureOptions(name="ruled", rules=True)).golden,
        locked=Golden(name="locked", pcrs={}, boot=rules),
        is_locked=not judge_boot(claims, rules),
    )


def digests_of(log: EventLog) -> dict[int, tuple[bytes, ...]]:
    """Return what was extended into each PCR, in order."""
    found: dict[int, tuple[bytes, ...]] = {}
    for event in log.extended():
        if SHA256 in event.digests:
            found[event.pcr] = (*found.get(event.pcr, ()), event.digests[SHA256])
    return found


@pytest.fixture(scope="module")
def originals() -> list[Original]:
    samples = [
        original(f"sample {place}", log, encode_event_log(log)) for place, log in enumerate(map(good_log, CHAINS))
    ]
    real = real_boot_logs() if HERE else ()
    return samples + [original(name, log, raw) for name, raw, log in real if log is not None and is_whole(log)]


def check_claims(claims: BootClaims, before: BootClaims) -> None:
    """Make sure that a log adds nothing to what was proved, and that whatever it leaves out is found to be unread."""
    state = claims.secure_boot
    assert state.values.items() <= before.secure_boot.values.items()
    assert state.objections or (state.values, state.mode) == (before.secure_boot.values, before.secure_boot.mode)
    assert state.objections or state.validation_off is before.secure_boot.validation_off
    assert {signer.sha256 for signer in claims.signers} <= {signer.sha256 for signer in before.signers} | {None}
    assert len(claims.signers) >= len(before.signers)
    lines, lines_before = texts_of(claims), texts_of(before)
    assert lines <= lines_before | {None}
    assert lines_before - {None} <= lines or None in lines or not claims.proved >= {8, 9, 12}
    kept = {line.measurement.digest for line in claims.command_lines} | {file.digest for file in claims.files}
    unread = {line.measurement.digest for line in before.command_lines if line.text is None}
    assert unread <= kept or 9 not in claims.proved
    sections = [(section.name, section.digest) for section in before.sections]
    assert [(section.name, section.digest) for section in claims.sections] == (sections if 11 in claims.proved else [])
    for pcr, now, then in (
        (4, claims.chain.images, before.chain.images),
        (2, claims.drivers, before.drivers),
        (9, claims.files, before.files),
        (5, claims.gpt, before.gpt),
    ):
        assert {each.digest for each in now} >= {each.digest for each in then} or pcr not in claims.proved


def texts_of(claims: BootClaims) -> set[str | None]:
    """Return the command lines; None stands for one that cannot be read. GRUB leaves out quotes when it boots."""
    return {line.text and line.text.translate(QUOTES) for line in claims.command_lines}


def check_boot(one: Original, raw: bytes) -> str:
    """Judge a spoiled log; return what came of it."""
    state, claims = conclude_boot(raw, one.quote, CLAIMS, (one.exact, one.ruled, one.locked))
    wrong = [finding for finding in state.findings if finding.id.severity is not Severity.WARNING]
    if claims is None:
        assert {finding.id for finding in wrong} == {FindingId.UEFI_LOG_MALFORMED}
        return "malformed"
    seen = digests_of(decode_event_log(raw))
    for pcr in claims.proved:
        assert seen.get(pcr, ()) == one.digests.get(pcr, ()), f"PCR {pcr} is believed"
    if wrong:
        return "refused"
    assert claims.proved >= set(range(8))
    exact, ruled = (state.verdicts[golden.digest] for golden in (one.exact, one.ruled))
    assert (exact.findings, exact.differences) == ((), {})
    check_claims(claims, one.claims)
    assert state.verdicts[one.locked.digest].findings or one.is_locked
    return "refused by rules" if ruled.findings else "trusted"


@pytest.mark.timeout(300)  # thousands of appraisals
def test_a_spoiled_boot_log_is_refused_or_says_the_same(originals: list[Original]) -> None:
    came, watch = Counter[str](), Watch()
    for one in originals:
        for spoiled in mutations(one.raw, BOOT_CASES // len(originals) + 1, SEED):
            with watch:
                try:
                    came[check_boot(one, spoiled.raw)] += 1
                except Exception as error:
                    error.add_note(f"{one.name}, {spoiled.kind}, seed {SEED}")
                    raise
    watch.check()
    assert came.total() >= BOOT_CASES
    assert min(came[each] for each in ("malformed", "refused", "refused by rules", "trusted")) > 20


# IMA logs


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What a machine measured after boot, its quote, and a golden that lists it all, if a list can."""

    name: str
    entries: tuple[ImaEntry, ...]
    width: HashAlg
    quote: QuotedPcrs
    golden: CompiledRuntime
    listed: bool


def measured(name: str, entries: tuple[ImaEntry, ...], width: HashAlg) -> Measured:
    quote, golden = quote_of_entries(entries), compile_runtime(listing_of(entries))
    outcome = judge_ima(
        ImaRound(
            delta=ImaDelta(offset=0, entries=ima.log(entries), bank=width), pcrs=quote, goldens=[golden], now=at(0)
        )
    )
    assert outcome.progress is not None
    listed = not outcome.findings and outcome.progress.verdicts[golden.digest] == ImaVerdict()
    return Measured(name=name, entries=entries, width=width, quote=quote, golden=golden, listed=listed)


SAMPLE_RUN = (
    BEGINNING,
    *(ran(f"/usr/bin/{number}", template="ima-sig" if number % 2 else "ima-ng") for number in range(20)),
    ima.violation(b"/var/log/x"),
    ima.entry("ima-buf", ima.EXAMPLES["ima-buf"]),
)
MOST_ENTRIES = 120
"""Of a long log, so that thousands of changes to it can be judged."""


@pytest.fixture(scope="module")
def runs() -> list[Measured]:
    found = [measured("sample", SAMPLE_RUN, HashAlg.SHA1)]
    for path in sorted((ROOT.parent / "shared" / "data" / "ima-logs").glob("**/*.bin")):
        raw = path.read_bytes()
        width = claimed_bank(raw)
        found.append(measured(path.stem, tuple(entry for _, entry in ima_entries(raw, width))[:MOST_ENTRIES], width))
    return found


Entries = tuple[ImaEntry, ...]
TEMPLATES = ("ima", "ima-ng", "ima-sig", "ima-ngv2", "ima-buf", "ima-modsig", "d-ng|n-ng", "n-ng|d-ng", "d|n", "x")


def _altered(entries: Entries, random: Random, change: Callable[[ImaEntry], ImaEntry]) -> Entries:
    place = random.randrange(len(entries))
    return (*entries[:place], change(entries[place]), *entries[place + 1 :])


def _drop(entries: Entries, random: Random) -> Entries:
    place = random.randrange(len(entries))
    return entries[:place] + entries[place + 1 :]


def _add(entries: Entries, random: Random) -> Entries:
    place, like = random.randrange(len(entries) + 1), random.choice(entries)
    new = random.choice([like, measured_entry("ima-ng", random.randbytes(60)), ran("/usr/bin/evil", "evil")])
    return (*entries[:place], new._replace(template_digest=like.template_digest), *entries[place:])


def _reorder(entries: Entries, random: Random) -> Entries:
    mixed = list(entries)
    one, other = random.randrange(len(mixed)), random.randrange(len(mixed))
    mixed[one], mixed[other] = mixed[other], mixed[one]
    return tuple(mixed)


def _relabel(entries: Entries, random: Random) -> Entries:
    template = random.choice(TEMPLATES)
    return _altered(entries, random, lambda entry: entry._replace(template=template))


def _swap_data(entries: Entries, random: Random) -> Entries:
    other = random.choice(entries)
    return _altered(entries, random, lambda entry: entry._replace(data=other.data, template=other.template))


def _swap_digest(entries: Entries, random: Random) -> Entries:
    digest = random.choice([random.choice(entries).template_digest, bytes(len(entries[0].template_digest))])
    return _altered(entries, random, lambda entry: entry._replace(template_digest=digest))


def _move(entries: Entries, random: Random) -> Entries:
    pcr = random.randrange(24)
    return _altered(entries, random, lambda entry: entry._replace(pcr=pcr))


def _truncate(raw: bytes, random: Random) -> bytes:
    return raw[: random.randrange(len(raw))]


def _flip_bit(raw: bytes, random: Random) -> bytes:
    place = random.randrange(len(raw))
    return raw[:place] + bytes([raw[place] ^ 1 << random.randrange(8)]) + raw[place + 1 :]


def _cut_out(raw: bytes, random: Random) -> bytes:
    place = random.randrange(len(raw))
    return raw[:place] + raw[place + random.randrange(1, 80) :]


ON_ENTRIES = (_drop, _add, _reorder, _relabel, _swap_data, _swap_digest, _move)
ON_BYTES = (_truncate, _flip_bit, _cut_out)


def spoiled_runs(entries: Entries, count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    random = Random(seed)  # noqa: S311 - tests must be reproducible
    raw = ima.log(entries)
    for number in range(count):
        if number % 3:
            change = random.choice(ON_ENTRIES)
            yield change.__name__, ima.log(change(entries, random))
        else:
            spoil = random.choice(ON_BYTES)
            yield spoil.__name__, spoil(raw, random)


def files_of(entries: Iterable[ImaEntry]) -> list[ImaFields]:
    return [file_fields(entry) for entry in entries if entry.pcr == IMA_PCR and not entry.violation]


def check_run(one: Measured, raw: bytes) -> str:
    """Judge a spoiled IMA log; return what came of it."""
    delta = ImaDelta(offset=0, entries=raw, bank=one.width)
    outcome = judge_ima(ImaRound(delta=delta, pcrs=one.quote, goldens=[one.golden], now=at(0)))
    if outcome.progress is None:
        found = {finding.id for finding in outcome.findings}
        unproved = {FindingId.IMA_REPLAY, FindingId.IMA_TRIMMED, FindingId.IMA_LOG_MALFORMED, FindingId.IMA_LOG_MISSING}
        assert found <= unproved
        assert found
        return "proves nothing"
    proved = [entry for end, entry in ima_entries(raw, one.width) if end <= outcome.progress.mark.offset]
    seen, true = (
        [template_hash(entry, SHA256) for entry in entries if entry.pcr == IMA_PCR] for entries in (proved, one.entries)
    )
    assert seen == true
    if outcome.findings or outcome.progress.verdicts[one.golden.digest] != ImaVerdict():
        return "refused"
    assert one.listed
    assert files_of(proved) == files_of(one.entries)
    return "trusted"


def test_a_spoiled_ima_log_proves_nothing_or_what_was_measured(runs: list[Measured]) -> None:
    came, watch = Counter[str](), Watch()
    for one in runs:
        for kind, raw in spoiled_runs(one.entries, IMA_CASES // len(runs) + 1, SEED):
            with watch:
                try:
                    came[check_run(one, raw)] += 1
                except Exception as error:
                    error.add_note(f"{one.name}, {kind}, seed {SEED}")
                    raise
    watch.check()
    assert came.total() >= IMA_CASES
    assert all(came[each] for each in ("proves nothing", "refused", "trusted"))
