"""Golden measurements: the PCR values that a trustworthy machine may have (DESIGN §6).

.. code-block:: yaml

    format: nodeseal/golden/1
    name: rack-a
    pcrs:
      sha256:
        "0": ["<64 hex digits>"]          # every value that is allowed; a PCR that is not named may have any
        "4": ["<64 hex digits>", "<64 hex digits>"]

A golden's identity is the SHA-256 of its content in canonical JSON, so neither comments nor the order of keys and
values matter, and an edited golden is another one. A file that says nothing (no bank, no PCR, no value), or
anything this module does not know, is refused: nothing configured means nothing trusted. SHA-1 banks are refused
too: whoever can make two boot components with one SHA-1 can swap them.

Which PCRs may be pinned follows the PC Client Platform TPM Profile ("PCR Initial and Reset Values"): those that
only a reset of the platform clears and that hold still while a node runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nodeseal.documents import encode_json
from nodeseal.errors import MalformedInput
from nodeseal.golden.rules import ALWAYS, BootRules, PlatformRules, ReferenceEvent, RuntimeRules, Window
from nodeseal.ids import Digest, digest_of, parse_name
from nodeseal.tcg.algorithms import HashAlg

FORMAT = "nodeseal/golden/1"
DEFAULT_CAP_PCR = 15
MAX_VALUES = 64
"""Values that one PCR may have; more would be a rule, not a measurement."""

BANKS = {bank.hashlib_name: bank for bank in (HashAlg.SHA256, HashAlg.SHA384, HashAlg.SHA512)}
_LAST_PCR = 23
_NOT_PINNABLE = {
    10: "it changes with every file that IMA measures",
    DEFAULT_CAP_PCR: "it is the cap PCR, which must be zero on every trusted node",
    16: "any process may reset it",
    23: "any process may reset it",
}

PcrValues = Mapping[HashAlg, Mapping[int, frozenset[bytes]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Allowed PCR values under a name. Two goldens are equal when their digests are.

    Attributes:
        name: for people; part of the identity.
        pcrs: allowed values by bank and PCR.
        boot: rules over the boot log, for what exact values would be too narrow.
        runtime: rules over the IMA log; None: what runs after boot is not judged.
        platform: rules over the TPM.
        valid: when the golden counts.
        nodes: labels that a node must have for the golden to count for it; empty: any node.
        reference: what a machine measured when the golden was made; explains, never judges.
        digest: SHA-256 of the content in canonical JSON.

    Raises:
        MalformedInput: a bad name, a PCR that must not be pinned, no value, or one of the wrong size.
    """

    name: str
    pcrs: PcrValues = field(compare=False)
    boot: BootRules | None = field(default=None, compare=False)
    runtime: RuntimeRules | None = field(default=None, compare=False)
    platform: PlatformRules | None = field(default=None, compare=False)
    valid: Window = field(default=ALWAYS, compare=False)
    nodes: Mapping[str, str] = field(default_factory=dict, compare=False)
    reference: tuple[ReferenceEvent, ...] = field(default=(), compare=False)
    digest: Digest = field(init=False)

    def __post_init__(self) -> None:
        parse_name(self.name, "golden name")
        if not self.pcrs or not all(self.pcrs.values()):
            raise MalformedInput(f"golden {self.name}: a golden needs at least one bank, and a bank at least one PCR")
        for bank, pcr, allowed in _rows(self.pcrs):
            if bank not in BANKS.values():
                raise MalformedInput(f"golden {self.name}: {bank.hashlib_name} is not a bank that goldens may pin")
            if problem := shortfall(bank, pcr, allowed):
                raise MalformedInput(f"golden {self.name}: {bank.hashlib_name} PCR {pcr} is not {problem}")
        frozen = {bank: MappingProxyType(dict(sorted(self.pcrs[bank].items()))) for bank in sorted(self.pcrs)}
        object.__setattr__(self, "pcrs", MappingProxyType(frozen))
        object.__setattr__(self, "digest", digest_of(encode_json(_document(self))))

    def rows(self) -> Iterator[tuple[HashAlg, int, frozenset[bytes]]]:
        """Iterate (bank, PCR, allowed values), banks and PCRs ascending."""
        return _rows(self.pcrs)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenDifference:
    """One PCR that two goldens do not allow the same values for.

    Attributes:
        bank: its bank.
        pcr: its index.
        before: values the first golden allows; empty: it does not pin this PCR.
        after: values the second one allows.
    """

    bank: HashAlg
    pcr: int
    before: frozenset[bytes]
    after: frozenset[bytes]


def diff_goldens(before: Golden, after: Golden) -> tuple[GoldenDifference, ...]:
    """Return the PCRs whose allowed values differ, banks and PCRs ascending."""
    old, new = ({(bank, pcr): allowed for bank, pcr, allowed in g.rows()} for g in (before, after))
    nothing: frozenset[bytes] = frozenset()
    rows = ((place, old.get(place, nothing), new.get(place, nothing)) for place in sorted(old.keys() | new.keys()))
    return tuple(
        GoldenDifference(bank=bank, pcr=pcr, before=was, after=now) for (bank, pcr), was, now in rows if was != now
    )


def _rows(pcrs: PcrValues) -> Iterator[tuple[HashAlg, int, frozenset[bytes]]]:
    for bank, values in pcrs.items():
        for pcr, allowed in values.items():
            yield bank, pcr, allowed


def _document(golden: Golden) -> dict[str, object]:
    banks = {
        bank.hashlib_name: {str(pcr): sorted(value.hex() for value in allowed) for pcr, allowed in pcrs.items()}
        for bank, pcrs in golden.pcrs.items()
    }
    return {"format": FORMAT, "name": golden.name, "pcrs": banks}


def shortfall(bank: HashAlg, pcr: int, allowed: frozenset[bytes]) -> str:
    """Say what one PCR's entry is not, or nothing."""
    if pcr in _NOT_PINNABLE:
        return f"a PCR that a golden may pin: {_NOT_PINNABLE[pcr]}"
    if not 0 <= pcr <= _LAST_PCR:
        return f"the number of a PCR (0 to {_LAST_PCR})"
    if not allowed:
        return "a list of at least one allowed value"
    if any(len(value) != bank.digest_size for value in allowed):
        return f"a list of {bank.hashlib_name} digests ({bank.digest_size} bytes in hex)"
    return ""
