"""A kernel that measures files, and a verifier that appraises its log round by round."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from nodeseal.appraisal.kinds.ima_log import (
    ImaMark,
    ImaOutcome,
    ImaProgress,
    ImaRound,
    ImaVerdict,
    compile_runtime,
    judge_ima,
)
from nodeseal.evidence.logs import ImaDelta
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.model import Golden
from nodeseal.golden.paths import path_text
from nodeseal.golden.rules import FileDigest, RuntimeRules
from nodeseal.ima.log import ImaEntry, boot_aggregate_candidates, replay_ima
from nodeseal.ima.template import ImaFields, parse_template
from nodeseal.tpm.algorithms import HashAlg
from support import ima
from support.quotes import quoted_pcrs

SHA256 = HashAlg.SHA256
START = datetime(2026, 1, 2, 3, 0, tzinfo=UTC)
BOOT_PCRS = {index: bytes([index + 1]) * 32 for index in range(10)}
AGGREGATE = ImaFields(
    algorithm="sha256", digest=boot_aggregate_candidates(BOOT_PCRS, SHA256)[0], path=b"boot_aggregate"
)
BEGINNING = ima.entry("ima-ng", AGGREGATE)


def at(minutes: int) -> datetime:
    """Return a moment after :data:`START`."""
    return START + timedelta(minutes=minutes)


def content(text: str) -> bytes:
    """Return the digest of a file that says ``text``."""
    return SHA256.digest(text.encode())


def fields(path: str, text: str = "good", signature: bytes = b"") -> ImaFields:
    """Return the template fields of such a file."""
    return ImaFields(algorithm="sha256", digest=content(text), path=path.encode(), signature=signature)


def ran(path: str, text: str = "good", template: str = "ima-ng") -> ImaEntry:
    """Return the entry of a file that was run."""
    kind = "ima" if template.endswith("v2") else ""
    digest = content(text)
    return ima.entry(template, ImaFields(algorithm="sha256", digest=digest, path=path.encode(), digest_type=kind))


def quote_of(entries: Iterable[ImaEntry], *banks: HashAlg) -> QuotedPcrs:
    """Return the quote of a machine that has measured ``entries``: SHA-256, and PCR 10 of ``banks``."""
    measured = tuple(entries)
    others = {bank: {10: replay_ima(measured, bank)} for bank in banks}
    return quoted_pcrs({SHA256: {**BOOT_PCRS, 10: replay_ima(measured, SHA256)}, **others})


def golden_of(rules: RuntimeRules, name: str = "good") -> Golden:
    """Return a golden with these runtime rules."""
    return Golden(name=name, pcrs={SHA256: {4: frozenset({b"4" * 32})}}, runtime=rules)


def listing(*paths: str, **more: object) -> Golden:
    """Return a golden that knows these files with the content ``good``."""
    files = {path: (FileDigest(digest=content("good")),) for path in paths}
    return golden_of(RuntimeRules(files=files, **more))  # type: ignore[arg-type]  # rules by name


def listing_of(entries: Iterable[ImaEntry], name: str = "captured") -> Golden:
    """Return the golden that allows exactly what these entries say, violations included."""
    files = {"/never/run": {content("good")}}
    buffers: dict[str, set[bytes]] = {}
    violations: set[str] = set()
    for entry in entries:
        said = parse_template(entry.template, entry.data)
        path = path_text(said.path)
        if entry.violation:
            violations.add(path)
        elif said.buffer is not None:
            buffers.setdefault(path, set()).add(said.digest)
        elif said.algorithm == "sha256" and said.path != AGGREGATE.path:
            files.setdefault(path, set()).add(said.digest)
    rules = RuntimeRules(
        files={path: tuple(FileDigest(digest=digest) for digest in sorted(known)) for path, known in files.items()},
        violations=frozenset(violations),
        buffers={name: frozenset(known) for name, known in buffers.items()} or None,
    )
    return golden_of(rules, name)


@dataclass
class Scene:
    """A machine's log, and the verifier's knowledge of it.

    Attributes:
        goldens: the active ones.
        entries: everything that was measured.
        progress: the verifier's state in memory.
        mark: the verifier's state in its database.
    """

    goldens: tuple[Golden, ...]
    entries: tuple[ImaEntry, ...] = (BEGINNING,)
    progress: ImaProgress | None = None
    mark: ImaMark | None = None
    outcomes: list[ImaOutcome] = field(default_factory=list)

    def round(
        self, minutes: int, *measured: ImaEntry, whole: bool = False, ahead: tuple[ImaEntry, ...] = ()
    ) -> ImaOutcome:
        """Measure files, and judge a round; entries that are ``ahead`` of the quote are in the log already."""
        self.entries += measured
        offset = self.progress.mark.offset if self.progress and not whole else 0
        return self.send(minutes, ima.log(self.entries + ahead)[offset:], offset)

    def send(self, minutes: int, log: bytes | None, offset: int = 0, pcrs: QuotedPcrs | None = None) -> ImaOutcome:
        """Judge a round that brings these bytes."""
        delta = None if log is None else ImaDelta(offset=offset, entries=log)
        judging = [compile_runtime(golden) for golden in self.goldens]
        outcome = judge_ima(
            ImaRound(
                delta=delta,
                progress=self.progress,
                mark=self.mark,
                pcrs=pcrs or quote_of(self.entries),
                goldens=judging,
                now=at(minutes),
            )
        )
        self.progress = outcome.progress
        self.mark = outcome.progress.kept if outcome.progress else self.mark
        self.outcomes.append(outcome)
        return outcome

    def restart_verifier(self) -> None:
        """Forget the state that is only in memory."""
        self.progress = None

    def verdict(self, golden: Golden | None = None) -> ImaVerdict:
        """Return the verdict so far of ``golden``, or of the first one."""
        assert self.progress is not None
        return self.progress.verdicts[(golden or self.goldens[0]).digest]


def ids(findings: Iterable[Finding]) -> list[FindingId]:
    """Return which findings these are."""
    return [finding.id for finding in findings]
