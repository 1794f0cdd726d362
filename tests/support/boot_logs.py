"""Boot logs for tests: good ones, quotes that prove them, and endless ways to spoil them.

A good log is that of :mod:`nodeseal.swtpm.sample_log`; tests change one fact of it by :func:`replaced`,
:func:`inserted` and :func:`without`. :func:`mutations` spoils the bytes of any log, real ones too, at random but
reproducibly: none of its logs may ever be believed more than the log that it was made of.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random

from nodeseal.boot.claims import BootClaims, boot_claims
from nodeseal.boot.images import BootImage
from nodeseal.boot.loader import MeasuredFile
from nodeseal.boot.proved import ProvedLog, prove_boot_log
from nodeseal.boot.quirks import FirmwareFacts
from nodeseal.evidence.quote import QuotedPcrs
from nodeseal.golden.rules import BootRules, Image, Signer
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import Event, EventLog, decode_event_log, encode_event_log, replay
from nodeseal.uefi.event_log_types import EventType
from support.quotes import quoted_pcrs

GLOBAL = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
SECURITY = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
SHIM = uuid.UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
SHA256 = HashAlg.SHA256


def good_log(chain: SampleBoot = SampleBoot(), banks: tuple[HashAlg, ...] = (SHA256,)) -> EventLog:  # noqa: B008 - frozen
    """Return the log of a machine that boots ``chain``."""
    return decode_event_log(sample_boot_log(chain, banks))


def measured(pcr: int, claimed_type: int, data: bytes, content: bytes | None = None, bank: HashAlg = SHA256) -> Event:
    """Return an event whose digest is of ``content``, or of its data when that is None."""
    return Event(
        pcr=pcr,
        claimed_type=claimed_type,
        digests={bank: bank.digest(data if content is None else content)},
        data=data,
    )


def variable(name: str, content: bytes, vendor: uuid.UUID = GLOBAL) -> bytes:
    """Return a UEFI_VARIABLE_DATA."""
    return vendor.bytes_le + struct.pack("<QQ", len(name), len(content)) + name.encode("utf-16-le") + content


def place_of(log: EventLog, pcr: int, part: bytes = b"", claimed_type: int | None = None) -> int:
    """Return the index in ``log.events`` of the first event of ``pcr`` that has ``part`` in its data."""
    return next(
        index
        for index, event in enumerate(log.events)
        if event.pcr == pcr and part in event.data and claimed_type in (None, event.claimed_type)
    )


def replaced(log: EventLog, index: int, **changes: object) -> EventLog:
    """Return ``log`` with fields of one event changed."""
    events = list(log.events)
    events[index] = replace(events[index], **changes)  # type: ignore[arg-type] # a test's own fields
    return replace(log, events=tuple(events))


def inserted(log: EventLog, index: int, *events: Event) -> EventLog:
    """Return ``log`` with events before the one at ``index``."""
    return replace(log, events=(*log.events[:index], *events, *log.events[index:]))


def appended(log: EventLog, *events: Event) -> EventLog:
    """Return ``log`` with events at its end."""
    return inserted(log, len(log.events), *events)


def without(log: EventLog, index: int) -> EventLog:
    """Return ``log`` without the event at ``index``."""
    return replace(log, events=log.events[:index] + log.events[index + 1 :])


def values_of(log: EventLog, bank: HashAlg = SHA256) -> dict[int, bytes]:
    """Return the values of PCR 0 to 15 on the machine that wrote this log."""
    return {pcr: bytes(bank.digest_size) for pcr in range(16)} | {
        pcr: value for pcr, value in replay(log, bank).items() if pcr in range(16)
    }


def quote_of(log: EventLog, bank: HashAlg = SHA256) -> QuotedPcrs:
    """Return the quoted PCR 0 to 15 of the machine whose log this is."""
    return quoted_pcrs({bank: values_of(log, bank)})


def proved(log: EventLog, quote: QuotedPcrs | None = None) -> ProvedLog:
    """Prove ``log`` by ``quote``, or by its own machine's quote."""
    return prove_boot_log(log, quote or quote_of(log), FirmwareFacts())


def claims_of(log: EventLog, quote: QuotedPcrs | None = None) -> BootClaims:
    """Return the claims of ``log``, proved by ``quote``, or by its own machine's quote."""
    return boot_claims(proved(log, quote))


def rules_from(claims: BootClaims) -> BootRules:
    """Return rules that allow what was claimed and nothing else; what is not there gets no rule."""
    sections: dict[str, frozenset[bytes]] = {}
    for each in claims.sections:
        sections[each.name] = sections.get(each.name, frozenset()) | {each.digest}
    lines = tuple({line.text for line in claims.command_lines if line.text is not None})
    return BootRules(
        bank=claims.bank,
        secure_boot=claims.secure_boot.enabled,
        signers=tuple(Signer(sha256=each.sha256) for each in claims.signers if each.sha256) or None,
        images=_allowed(claims.chain.images) or None,
        drivers=_allowed(claims.drivers),
        dbx=claims.secure_boot.forbidden_images(),
        command_lines=lines or None,
        sections=sections or None,
        files=_allowed(claims.files) or None,
        gpt=frozenset(each.digest for each in claims.gpt) or None,
    )


def _allowed(measured_things: tuple[BootImage, ...] | tuple[MeasuredFile, ...]) -> tuple[Image, ...]:
    return tuple(Image(name="measured", digests=frozenset([each.digest])) for each in measured_things)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """A spoiled log.

    Attributes:
        kind: the change.
        raw: its bytes.
    """

    kind: str
    raw: bytes


def mutations(raw: bytes, count: int, seed: int = 0) -> Iterator[Mutation]:
    """Iterate over ``count`` ways to spoil a log that decodes, the same ones for the same seed."""
    random = Random(seed)  # noqa: S311 - tests must be reproducible
    log = decode_event_log(raw)
    for _ in range(count):
        kind = random.choice((*_ON_EVENTS, *_ON_BYTES))
        if kind in _ON_EVENTS:
            yield Mutation(kind=kind, raw=encode_event_log(replace(log, events=_ON_EVENTS[kind](log.events, random))))
        else:
            yield Mutation(kind=kind, raw=_ON_BYTES[kind](raw, random))


Events = tuple[Event, ...]


def _drop(events: Events, random: Random) -> Events:
    at = random.randrange(len(events))
    return events[:at] + events[at + 1 :]


def _add(events: Events, random: Random) -> Events:
    at, like = random.randrange(len(events) + 1), random.choice(events)
    data = random.randbytes(random.randrange(64))
    new = replace(like, digests={bank: bank.digest(data) for bank in like.digests}, data=data)
    return (*events[:at], new, *events[at:])


def _duplicate(events: Events, random: Random) -> Events:
    at = random.randrange(len(events))
    return (*events[:at], events[at], *events[at:])


def _reorder(events: Events, random: Random) -> Events:
    one, other = random.randrange(len(events)), random.randrange(len(events))
    mixed = list(events)
    mixed[one], mixed[other] = mixed[other], mixed[one]
    return tuple(mixed)


def _changed(events: Events, random: Random, change: Callable[[Event], Event]) -> Events:
    at = random.randrange(len(events))
    return (*events[:at], change(events[at]), *events[at + 1 :])


def _relabel(events: Events, random: Random) -> Events:
    kind = random.choice([each for each in EventType if each is not EventType.NO_ACTION])
    return _changed(events, random, lambda event: replace(event, claimed_type=kind))


def _silence(events: Events, random: Random) -> Events:
    return _changed(events, random, lambda event: replace(event, claimed_type=EventType.NO_ACTION))


def _move(events: Events, random: Random) -> Events:
    pcr = random.randrange(16)
    return _changed(events, random, lambda event: replace(event, pcr=pcr))


def _swap_data(events: Events, random: Random) -> Events:
    other = random.choice(events)
    return _changed(events, random, lambda event: replace(event, data=other.data))


def _spoil_data(events: Events, random: Random) -> Events:
    data = random.randbytes(random.randrange(128))
    return _changed(events, random, lambda event: replace(event, data=data))


def _swap_digest(events: Events, random: Random) -> Events:
    other = random.choice(events)
    return _changed(events, random, lambda event: replace(event, digests=other.digests))


def _truncate(raw: bytes, random: Random) -> bytes:
    return raw[: random.randrange(len(raw))]


def _flip_bit(raw: bytes, random: Random) -> bytes:
    at = random.randrange(len(raw))
    return raw[:at] + bytes([raw[at] ^ 1 << random.randrange(8)]) + raw[at + 1 :]


def _spoil_bytes(raw: bytes, random: Random) -> bytes:
    at, size = random.randrange(len(raw)), random.randrange(1, 9)
    return raw[:at] + random.randbytes(size) + raw[at + size :]


def _cut_out(raw: bytes, random: Random) -> bytes:
    at = random.randrange(len(raw))
    return raw[:at] + raw[at + random.randrange(1, 64) :]


_ON_EVENTS: Mapping[str, Callable[[Events, Random], Events]] = {
    "drop": _drop,
    "add": _add,
    "duplicate": _duplicate,
    "reorder": _reorder,
    "relabel": _relabel,
    "silence": _silence,
    "move": _move,
    "swap data": _swap_data,
    "spoil data": _spoil_data,
    "swap digest": _swap_digest,
}
_ON_BYTES: Mapping[str, Callable[[bytes, Random], bytes]] = {
    "truncate": _truncate,
    "flip bit": _flip_bit,
    "spoil bytes": _spoil_bytes,
    "cut out": _cut_out,
}
