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

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nodeseal.documents import Fields, encode_json
from nodeseal.errors import MalformedInput
from nodeseal.ids import Digest, digest_of, parse_name
from nodeseal.settings import parse_yaml
from nodeseal.tcg.algorithms import HashAlg

FORMAT = "nodeseal/golden/1"
DEFAULT_CAP_PCR = 15
MAX_VALUES = 64
"""Values that one PCR may have; more would be a rule, not a measurement."""

_BANKS = {bank.hashlib_name: bank for bank in (HashAlg.SHA256, HashAlg.SHA384, HashAlg.SHA512)}
_INDEX = re.compile(r"0|[1-9][0-9]?")
_HEX = re.compile(r"([0-9a-f]{2})+")
_LAST_PCR = 23
_NOT_PINNABLE = {
    10: "it changes with every file that IMA measures",
    DEFAULT_CAP_PCR: "it is the cap PCR, which must be zero on every trusted node",
    16: "any process may reset it",
    23: "any process may reset it",
}

_PcrValues = Mapping[HashAlg, Mapping[int, frozenset[bytes]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Allowed PCR values under a name. Two goldens are equal when their digests are.

    Attributes:
        name: for people; part of the identity.
        pcrs: allowed values by bank and PCR.
        digest: SHA-256 of the content in canonical JSON.

    Raises:
        MalformedInput: a bad name, a PCR that must not be pinned, no value, or one of the wrong size.
    """

    name: str
    pcrs: _PcrValues = field(compare=False)
    digest: Digest = field(init=False)

    def __post_init__(self) -> None:
        parse_name(self.name, "golden name")
        if not self.pcrs or not all(self.pcrs.values()):
            raise MalformedInput(f"golden {self.name}: a golden needs at least one bank, and a bank at least one PCR")
        for bank, pcr, allowed in _rows(self.pcrs):
            if bank not in _BANKS.values():
                raise MalformedInput(f"golden {self.name}: {bank.hashlib_name} is not a bank that goldens may pin")
            if problem := _shortfall(bank, pcr, allowed):
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


def parse_golden(raw: bytes, source: str) -> Golden:
    """Parse a golden's YAML.

    Args:
        raw: the whole file.
        source: its name, for errors.

    Raises:
        MalformedInput: naming source, line and key.
    """
    fields = parse_yaml(raw, source)
    fields.constant("format", FORMAT)
    name = _parse_golden_name(fields)
    banks = _parse_banks(fields)
    fields.done()
    return Golden(name=name, pcrs=banks)


def dump_golden(golden: Golden) -> bytes:
    """Return the YAML of ``golden``; it parses back to the same digest."""
    lines = [f"format: {FORMAT}", f'name: "{golden.name}"', "pcrs:"]
    for bank, pcrs in golden.pcrs.items():
        lines.append(f"  {bank.hashlib_name}:")
        for pcr, allowed in pcrs.items():
            lines.append(f'    "{pcr}":')
            lines += [f'      - "{value.hex()}"' for value in sorted(allowed)]
    return ("\n".join(lines) + "\n").encode()


def diff_goldens(before: Golden, after: Golden) -> tuple[GoldenDifference, ...]:
    """Return the PCRs whose allowed values differ, banks and PCRs ascending."""
    old, new = ({(bank, pcr): allowed for bank, pcr, allowed in g.rows()} for g in (before, after))
    nothing: frozenset[bytes] = frozenset()
    rows = ((place, old.get(place, nothing), new.get(place, nothing)) for place in sorted(old.keys() | new.keys()))
    return tuple(
        GoldenDifference(bank=bank, pcr=pcr, before=was, after=now) for (bank, pcr), was, now in rows if was != now
    )


def _rows(pcrs: _PcrValues) -> Iterator[tuple[HashAlg, int, frozenset[bytes]]]:
    for bank, values in pcrs.items():
        for pcr, allowed in values.items():
            yield bank, pcr, allowed


def _document(golden: Golden) -> dict[str, object]:
    banks = {
        bank.hashlib_name: {str(pcr): sorted(value.hex() for value in allowed) for pcr, allowed in pcrs.items()}
        for bank, pcrs in golden.pcrs.items()
    }
    return {"format": FORMAT, "name": golden.name, "pcrs": banks}


def _parse_golden_name(fields: Fields) -> str:
    name = fields.text("name")
    try:
        return parse_name(name, "golden name")
    except MalformedInput as error:
        raise fields.wrong("name", "1 to 63 of a-z 0-9 . _ - (starting with a letter or digit)") from error


def _parse_banks(fields: Fields) -> _PcrValues:
    banks = fields.fields("pcrs")
    names = banks.keys()
    if not names:
        raise fields.wrong("pcrs", "a mapping with at least one bank")
    return {_parse_bank_name(name, banks): _parse_bank(name, banks) for name in names}


def _parse_bank_name(name: str, banks: Fields) -> HashAlg:
    if name not in _BANKS:
        raise banks.wrong(name, f"one of the banks {', '.join(_BANKS)}")
    return _BANKS[name]


def _parse_bank(name: str, banks: Fields) -> dict[int, frozenset[bytes]]:
    pcrs = banks.fields(name)
    keys = pcrs.keys()
    if not keys:
        raise banks.wrong(name, "a mapping with at least one PCR")
    return {_parse_index(key, pcrs): _parse_values(_BANKS[name], key, pcrs) for key in keys}


def _parse_index(key: str, pcrs: Fields) -> int:
    if not _INDEX.fullmatch(key):
        raise pcrs.wrong(key, "the number of a PCR")
    return int(key)


def _parse_values(bank: HashAlg, key: str, pcrs: Fields) -> frozenset[bytes]:
    texts = pcrs.items(key, max_items=MAX_VALUES)
    if not all(isinstance(text, str) and _HEX.fullmatch(text) for text in texts):
        raise pcrs.wrong(key, "a list of digests in lower-case hex")
    allowed = frozenset(bytes.fromhex(str(text)) for text in texts)
    if len(allowed) != len(texts):
        raise pcrs.wrong(key, "a list without duplicates")
    if problem := _shortfall(bank, int(key), allowed):
        raise pcrs.wrong(key, problem)
    return allowed


def _shortfall(bank: HashAlg, pcr: int, allowed: frozenset[bytes]) -> str:
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
