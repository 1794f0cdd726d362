"""Make a golden from what machines have proved, and say how far it can be relied on.

One boot of one machine shows values; only several boots and machines show which of them hold still. A PCR that differs
between boots of one machine would refuse that machine after its next reboot, so its value is never pinned. A rule over
its events replaces the value where possible; otherwise the PCR is left open, and the capture says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from nodeseal.boot.claims import BootClaims
from nodeseal.boot.difference import first_difference, reference_events
from nodeseal.boot.proved import ProvedLog
from nodeseal.errors import MalformedInput
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.golden.model import Golden
from nodeseal.golden.parts import MAX_NAME
from nodeseal.golden.patterns import pattern_fault
from nodeseal.golden.rules import BootRules, Image, ReferenceEvent, RuntimeRules, Signer
from nodeseal.ids import NodeId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr_usage import COMMAND_LINE_PCRS, IDENTITY_PCR, IMA_PCR, SECURE_BOOT_PCR, STATIC_PCRS, STUB_PCR
from nodeseal.uefi.event_log_types import EventType

_RULE_PCRS: Final = frozenset({2, 4, 5, 7, 8, 9, 11, 12})
"""PCRs whose values rules can take the place of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One boot of one machine, as proved.

    Attributes:
        node_id: id of the machine.
        boot_id: id of the boot.
        pcrs: values that a quote covers.
        log: the boot log held against them; None: there is none.
        claims: what that log says; None: there is no log.
    """

    node_id: NodeId
    boot_id: str
    pcrs: QuotedPcrs
    log: ProvedLog | None = None
    claims: BootClaims | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureOptions:
    """Options of a capture.

    Attributes:
        name: name of the golden.
        pcrs: PCRs to pin; empty: all that are quoted and hold still, except the one that tells machines apart.
        rules: whether rules replace values where possible.
        runtime: the runtime rules of the golden, or None.
    """

    name: str
    pcrs: frozenset[int] = frozenset()
    rules: bool = False
    runtime: RuntimeRules | None = None


_MATTERING: Final = frozenset({0, 1, 2, 3, 4, SECURE_BOOT_PCR})
"""PCRs of firmware, its settings, what it ran and by whose keys; boots differ in them only after a change."""


class Stability(Enum):
    """Whether a PCR holds still, as several boots and machines show."""

    ONE_BOOT = "seen in one boot of each machine only"
    SAME = "the same in every boot of every machine"
    BY_MACHINE = "differs between machines, the same in every boot of each"
    BY_BOOT = "differs between boots of one machine"


class PcrCoverage(Enum):
    """How the golden judges a PCR."""

    VALUE = "pinned"
    RULES = "judged by rules over its events"
    OPEN = "left open"


@dataclass(frozen=True, slots=True, kw_only=True)
class PcrNote:
    """Note on one PCR of a captured golden.

    Attributes:
        bank: its bank.
        pcr: its index.
        stability: whether it holds still.
        values: how many values were seen.
        judged: how the golden judges it.
        difference: the first event in which two of the boots differ, or an empty string.
    """

    bank: HashAlg
    pcr: int
    stability: Stability
    values: int
    judged: PcrCoverage
    difference: str = ""

    @property
    def said(self) -> str:
        """The note in words, without the PCR."""
        count = f", {self.values} values" if self.values > 1 else ""
        why = f" ({self.difference})" if self.difference else ""
        return f"{self.stability.value}{count}; {self.judged.value}{why}"

    def __str__(self) -> str:
        return f"{self.bank.hashlib_name} PCR {self.pcr}: {self.said}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A golden and how far to rely on it.

    Attributes:
        golden: the golden, not yet active anywhere.
        notes: one for each quoted PCR that could be pinned.
        words: what firmware measured into PCR 7 in words, on any of the machines.
    """

    golden: Golden
    notes: tuple[PcrNote, ...]
    words: tuple[str, ...] = ()

    def left_open(self) -> tuple[PcrNote, ...]:
        """Return the notes on PCRs that matter and that nothing judges, since they differ between boots."""
        return tuple(note for note in self.notes if note.judged is PcrCoverage.OPEN and note.pcr in _MATTERING)


def capture(observations: Sequence[Observation], wanted: CaptureOptions) -> Captured:
    """Return a golden that every one of ``observations`` matches.

    Raises:
        MalformedInput: there are none, they were quoted over different PCRs, a wanted PCR was not quoted or cannot be
            pinned, or nothing would judge what boots.
    """
    places = _places(observations, wanted)
    notes = tuple(_note(observations, bank, pcr, wanted) for bank, pcr in places)
    pinned: dict[HashAlg, dict[int, frozenset[bytes]]] = {}
    for note in notes:
        if note.judged is PcrCoverage.VALUE:
            pinned.setdefault(note.bank, {})[note.pcr] = _values(observations, note.bank, note.pcr)
    golden = Golden(
        name=wanted.name,
        pcrs=pinned,
        boot=_rules(observations, notes),
        runtime=wanted.runtime,
        reference=_reference(observations[0], {bank for bank, _ in places}),
    )
    if not golden.looks_at_boot:
        raise MalformedInput(
            f"golden capture: nothing that holds still judges what boots ({_about(notes, 4)})",
            remedy="give evidence with boot logs that replay, so that rules can judge the boot images",
        )
    said = (word.text for each in observations if each.claims for word in each.claims.secure_boot.words)
    return Captured(golden=golden, notes=notes, words=tuple(dict.fromkeys(said)))


def _places(observations: Sequence[Observation], wanted: CaptureOptions) -> list[tuple[HashAlg, int]]:
    if not observations:
        raise MalformedInput("golden capture: names no evidence")
    selections = {each.pcrs.selection for each in observations}
    if len({frozenset(bank for bank, _ in each.banks) for each in selections}) > 1:
        raise MalformedInput(
            "golden capture: the nodes quote different PCR banks", remedy="capture a golden of each kind of machine"
        )
    if len(selections) > 1:
        raise MalformedInput("golden capture: the evidence is over different PCRs", remedy="collect it anew")
    quoted = {pcr for _, pcr in observations[0].pcrs.selection.indices()}
    if not wanted.pcrs <= quoted:
        raise MalformedInput(f"golden capture: PCRs {sorted(wanted.pcrs - quoted)} are not quoted")
    chosen = wanted.pcrs or {pcr for pcr in quoted if pcr in STATIC_PCRS} - {IMA_PCR, IDENTITY_PCR}
    return [(bank, pcr) for bank, pcr in observations[0].pcrs.selection.indices() if pcr in chosen]


def _note(observations: Sequence[Observation], bank: HashAlg, pcr: int, wanted: CaptureOptions) -> PcrNote:
    stability = _stability(observations, bank, pcr)
    one_chain = pcr != 4 or _same_length(observations)  # noqa: PLR2004 - PCR 4
    has_rules = one_chain and all(_can_rule(each, bank, pcr) for each in observations)
    if has_rules and (wanted.rules or stability is Stability.BY_BOOT or _has_phases(observations, pcr)):
        judged = PcrCoverage.RULES
    else:
        judged = PcrCoverage.OPEN if stability is Stability.BY_BOOT else PcrCoverage.VALUE
    return PcrNote(
        bank=bank,
        pcr=pcr,
        stability=stability,
        values=len(_values(observations, bank, pcr)),
        judged=judged,
        difference=_difference(observations, bank, pcr),
    )


def _stability(observations: Sequence[Observation], bank: HashAlg, pcr: int) -> Stability:
    by_node: dict[NodeId, set[bytes | None]] = {}
    boots: dict[NodeId, set[str]] = {}
    for each in observations:
        by_node.setdefault(each.node_id, set()).add(each.pcrs.get(bank, pcr))
        boots.setdefault(each.node_id, set()).add(each.boot_id)
    if any(len(values) > 1 for values in by_node.values()):
        return Stability.BY_BOOT
    if all(len(ids) == 1 for ids in boots.values()):
        return Stability.ONE_BOOT
    return Stability.SAME if len(_values(observations, bank, pcr)) == 1 else Stability.BY_MACHINE


def _values(observations: Iterable[Observation], bank: HashAlg, pcr: int) -> frozenset[bytes]:
    return frozenset(value for each in observations if (value := each.pcrs.get(bank, pcr)) is not None)


def _can_rule(observation: Observation, bank: HashAlg, pcr: int) -> bool:
    """Tell whether rules can judge a PCR: the log explains it in that bank, and says what rules need."""
    claims = observation.claims
    if claims is None or claims.bank is not bank or pcr not in claims.proved or pcr not in _RULE_PCRS:
        return False
    needs = {
        2: bool(claims.drivers),
        4: bool(claims.chain.images),
        5: bool(claims.gpt),
        7: claims.secure_boot.enabled and bool(claims.signers) and all(signer.sha256 for signer in claims.signers),
        8: _knows_command_lines(claims),
        9: bool(claims.files) and (_knows_command_lines(claims) or not _texts(claims)),
        11: bool(claims.sections) and all(section.name for section in claims.sections),
        12: _knows_command_lines(claims),
    }
    return needs[pcr]


def _knows_command_lines(claims: BootClaims) -> bool:
    texts = _texts(claims)
    known = bool(texts) and len(texts) == len(claims.command_lines) and claims.proved.issuperset(COMMAND_LINE_PCRS)
    return known and not any(map(pattern_fault, texts))


def _words_on_dma(claims: BootClaims) -> list[str]:
    return [word.text for word in claims.secure_boot.words if word.is_about_dma]


def _texts(claims: BootClaims) -> list[str]:
    return [line.text for line in claims.command_lines if line.text is not None]


def _same_length(observations: Iterable[Observation]) -> bool:
    """Tell whether all machines ran as many images, so that one chain can describe them."""
    return len({len(each.claims.chain.images) for each in observations if each.claims is not None}) == 1


def _has_phases(observations: Iterable[Observation], pcr: int) -> bool:
    """Tell whether systemd moves this PCR on while the machine runs."""
    return pcr == STUB_PCR and any(each.log is not None and each.log.phases for each in observations)


def _difference(observations: Sequence[Observation], bank: HashAlg, pcr: int) -> str:
    first = observations[0]
    other = next((o for o in observations if o.pcrs.get(bank, pcr) != first.pcrs.get(bank, pcr)), None)
    if other is None or other.log is None or first.log is None or other.log.bank is not bank:
        return ""
    return first_difference(other.log, reference_events(first.log.log, (bank,)), pcr)


def _settings(claims: Sequence[BootClaims]) -> frozenset[bytes]:
    """Return settings of systemd-boot, and what the rule on them would take for some; empty: there are none."""
    found = (conf.digest for each in claims for conf in (*each.loader_conf, *each.maybe_loader_conf))
    return frozenset(found) if any(each.loader_conf for each in claims) else frozenset()


def _rules(observations: Sequence[Observation], notes: Iterable[PcrNote]) -> BootRules | None:
    """Return rules for the PCRs that rules judge; each rule allows what any of the boots did."""
    ruled = {note.pcr for note in notes if note.judged is PcrCoverage.RULES}
    claims = [each.claims for each in observations if each.claims is not None]
    if not ruled or not claims:
        return None
    drivers = _by_name((image.path, image.digest) for each in claims for image in each.drivers)
    files = _by_name((file.name, file.digest) for each in claims for file in each.files)
    sections = _by_name((section.name, section.digest) for each in claims for section in each.sections)
    addons = _by_name((addon.name, addon.digest) for each in claims for addon in each.addons)
    settings = _settings(claims)
    lines = {text for each in claims for text in _texts(each)}
    knows_lines = all(map(_knows_command_lines, claims)) and not ruled.isdisjoint(COMMAND_LINE_PCRS)
    return BootRules(
        bank=claims[0].bank,
        secure_boot=7 in ruled,  # noqa: PLR2004 - PCR 7, as the numbers below
        dma_protection=7 in ruled and not any(_words_on_dma(each) for each in claims),  # noqa: PLR2004
        signers=_signers(claims) if 7 in ruled else None,  # noqa: PLR2004
        images=_chain(claims) if 4 in ruled else None,  # noqa: PLR2004
        drivers=_images(drivers) if 2 in ruled else None,  # noqa: PLR2004
        files=_images(files) if 9 in ruled else None,  # noqa: PLR2004
        sections=sections if 11 in ruled else None,  # noqa: PLR2004
        gpt=frozenset(table.digest for each in claims for table in each.gpt) if 5 in ruled else None,  # noqa: PLR2004
        loader_conf=settings if settings and 5 in ruled else None,  # noqa: PLR2004
        command_lines=tuple(sorted(lines)) if knows_lines else None,
        addons=_images(addons) if addons and knows_lines else None,
    )


def _chain(claims: Sequence[BootClaims]) -> tuple[Image, ...]:
    """Return the images in their order, each place with what ran there on any of the machines."""
    places = zip(*(each.chain.images for each in claims), strict=True)
    return tuple(
        Image(name=f"{number}. {place[0].path}"[:MAX_NAME], digests=frozenset(image.digest for image in place))
        for number, place in enumerate(places, start=1)
    )


def _signers(claims: Iterable[BootClaims]) -> tuple[Signer, ...]:
    found = {signer.sha256: signer.subject for each in claims for signer in each.signers if signer.sha256}
    return tuple(Signer(sha256=sha256, name=subject) for sha256, subject in sorted(found.items()))


def _by_name(pairs: Iterable[tuple[str, bytes]]) -> dict[str, frozenset[bytes]]:
    found: dict[str, frozenset[bytes]] = {}
    for name, digest in pairs:
        found[name] = found.get(name, frozenset()) | {digest}
    return found


def _images(digests: Mapping[str, frozenset[bytes]]) -> tuple[Image, ...]:
    return tuple(Image(name=name, digests=allowed) for name, allowed in digests.items())


def _reference(observation: Observation, banks: Iterable[HashAlg]) -> tuple[ReferenceEvent, ...]:
    """Return the events of the first boot, with systemd's words behind them."""
    log = observation.log
    if log is None:
        return ()
    kept = tuple(bank for bank in banks if bank in log.log.algorithms)
    words = tuple(
        ReferenceEvent(
            pcr=pcr,
            claimed_type=EventType.EVENT_TAG,
            digests={bank: bank.digest(word.encode()) for bank in kept},
            what=f"systemd: {word}",
        )
        for pcr in sorted(log.proved)
        for word in log.words(pcr)
    )
    return tuple(event for event in reference_events(log.log, kept) if event.pcr in log.proved) + words


def _about(notes: Iterable[PcrNote], pcr: int) -> str:
    return "; ".join(str(note) for note in notes if note.pcr == pcr) or f"PCR {pcr} was not quoted"
