"""IMA logs: against the two digests that each entry needs, against Keylime, and by how much is new."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Final, Self

from benchmarks.harness import PAIRS, Missing, Result, pinned, rate, ratios
from benchmarks.keylime import PROCESS_MEASUREMENT_LIST, Keylime
from nodeseal.appraisal.kinds.ima_log import ImaProgress, ImaRound, compile_runtime, judge_ima
from nodeseal.evidence.logs import ImaDelta
from nodeseal.evidence.quote import QuotedPcrs, prove_pcr_values
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import FileDigest, RuntimeRules
from nodeseal.ima.log import ImaEntry, boot_aggregate_candidates, encode_ima_entry, measured_entry, replay_ima
from nodeseal.ima.template import ImaFields, encode_template
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Quoted
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from nodeseal.tpm.pcr_usage import IMA_PCR

ENTRIES: Final = 10_000
LISTED: Final = 30_000
"""Files of the allow list: about what a server has in /usr."""
SHARES: Final = (1, 10, 100, 1_000, 10_000)
_NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_BANK: Final = HashAlg.SHA256
_BOOT: Final = {index: hashlib.sha256(bytes([index])).digest() for index in range(IMA_PCR)}
_TEMPLATE: Final = "ima-ng"


@dataclass(frozen=True, slots=True, kw_only=True)
class SameLog:
    """A log, and what allows it, as Keylime takes them.

    Attributes:
        lines: ``ascii_runtime_measurements``.
        digests: allowed digests in hex, by path.
        pcr: the quoted SHA-256 PCR 10 in hex.
    """

    lines: tuple[str, ...]
    digests: dict[str, list[str]]
    pcr: str

    @classmethod
    def of(cls, entries: tuple[ImaFields, ...], listed: tuple[ImaFields, ...], value: bytes) -> Self:
        """Return the log of these entries."""
        return cls(
            lines=tuple(map(_line, entries)),
            digests={fields.path.decode(): [fields.digest.hex()] for fields in (*listed, entries[0])},
            pcr=value.hex(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Node:
    """A node whose log is allowed whole."""

    golden: Golden
    entries: tuple[ImaEntry, ...]

    def quote(self, count: int) -> QuotedPcrs:
        """Return the quote after ``count`` entries."""
        values = [*_BOOT.values(), replay_ima(self.entries[:count], _BANK)]
        selection = PcrSelection.of({_BANK: range(len(values))})
        return prove_pcr_values(Quoted(selection, pcr_digest(_BANK, values)), _BANK, values)

    def judge(self, known: int = 0, progress: ImaProgress | None = None) -> Callable[[], ImaProgress]:
        """Return the judgement of a round that brings all but ``known`` entries."""
        offset = sum(len(encode_ima_entry(entry)) for entry in self.entries[:known])
        delta = ImaDelta(offset=offset, entries=b"".join(map(encode_ima_entry, self.entries[known:])))
        round_ = ImaRound(
            delta=delta,
            progress=progress,
            pcrs=self.quote(len(self.entries)),
            goldens=[compile_runtime(self.golden)],
            now=_NOW,
        )
        return lambda: _good(judge_ima(round_).progress)

    def known(self, count: int) -> ImaProgress:
        """Return what is known after ``count`` entries."""
        return _Node(golden=self.golden, entries=self.entries[:count]).judge()()


def over_hashlib() -> Result:
    """Return entries appraised over bare pairs of digests."""
    with pinned(0):
        node = _node()
        judge = node.judge()
        datas = [entry.data for entry in node.entries]
        runs = ratios(lambda: rate(lambda: _count(judge)), lambda: rate(lambda: _bare(datas)))
    note = f"whole log of {ENTRIES} entries, all of them among the {LISTED} files that the golden lists"
    return Result.of(runs, against="hashlib: SHA-256 of each entry's data and of each extend", note=note)


def over_keylime() -> Result:
    """Return entries appraised over Keylime's, on the same log and allow list."""
    with pinned(0):
        node, listed = _node(), _files(LISTED)
        judge = node.judge()
        log = SameLog.of((_aggregate(), *listed[: ENTRIES - 1]), listed, replay_ima(node.entries, _BANK))
        with Keylime(asdict(log), "keylime_ima_worker.py") as keylime:
            runs = ratios(lambda: rate(lambda: _count(judge)), keylime.per_second)
    return Result.of(runs, against=PROCESS_MEASUREMENT_LIST, note=f"{ENTRIES} entries, {LISTED} files listed")


def cost_by_news() -> Result:
    """Return the time of a round that brings a tenth of a log over a tenth of the time of one that brings all."""
    with pinned(0):
        node = _node()
        whole = node.judge()
        rounds = {count: node.judge(ENTRIES - count, node.known(ENTRIES - count)) for count in SHARES[:-1]}
        tenth = rounds[ENTRIES // 10]
        runs = tuple(_seconds(tenth) / (_seconds(whole) / 10) for _ in range(PAIRS))
        curve = ", ".join(
            f"{count}: {_seconds(judge) * 1e6:.0f}" for count, judge in {**rounds, ENTRIES: whole}.items()
        )
    note = f"of a log of {ENTRIES} entries; µs of processor time by new entries: {curve}"
    return Result.of(runs, against="a tenth of what the whole log costs", note=note)


def _node() -> _Node:
    listed = _files(LISTED)
    files = {fields.path.decode(): (FileDigest(digest=fields.digest),) for fields in listed}
    measured = (_aggregate(), *listed[: ENTRIES - 1])
    return _Node(
        golden=Golden(name="bench", pcrs={_BANK: {4: frozenset({_BOOT[4]})}}, runtime=RuntimeRules(files=files)),
        entries=tuple(measured_entry(_TEMPLATE, encode_template(_TEMPLATE, fields)) for fields in measured),
    )


def _files(count: int) -> tuple[ImaFields, ...]:
    paths = [
        f"/usr/lib/x86_64-linux-gnu/package-{number // 40}/lib{number}.so.{number % 7}".encode()
        for number in range(count)
    ]
    return tuple(ImaFields(algorithm="sha256", digest=hashlib.sha256(path).digest(), path=path) for path in paths)


def _aggregate() -> ImaFields:
    return ImaFields(algorithm="sha256", digest=boot_aggregate_candidates(_BOOT, _BANK)[0], path=b"boot_aggregate")


def _line(fields: ImaFields) -> str:
    digest = hashlib.sha1(encode_template(_TEMPLATE, fields), usedforsecurity=False).hexdigest()
    return f"{IMA_PCR} {digest} {_TEMPLATE} {fields.algorithm}:{fields.digest.hex()} {fields.path.decode()}"


def _good(progress: ImaProgress | None) -> ImaProgress:
    if progress is None or any(verdict.findings for verdict in progress.verdicts.values()):
        raise Missing("the log is not judged good")
    return progress


def _count(judge: Callable[[], ImaProgress]) -> int:
    judge()
    return ENTRIES


def _bare(datas: list[bytes]) -> int:
    value, sha256 = bytes(_BANK.digest_size), hashlib.sha256
    for data in datas:
        value = sha256(value + sha256(data).digest()).digest()
    return len(datas)


def _seconds(judge: Callable[[], ImaProgress]) -> float:
    """Return the processor time of one judgement, by many."""
    start = time.process_time()
    judge()
    times = max(3, int(0.1 / max(time.process_time() - start, 1e-5)))
    start = time.process_time()
    for _ in range(times):
        judge()
    return (time.process_time() - start) / times
