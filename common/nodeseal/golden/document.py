"""Goldens as the YAML that people read, write and review.

.. code-block:: yaml

    format: nodeseal/golden/1
    name: rack-a
    pcrs:
      sha256:
        "0": ["<64 hex digits>"]          # every value that is allowed; a PCR that is not named may have any
        "4": ["<64 hex digits>", "<64 hex digits>"]
"""

from __future__ import annotations

import re

from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput
from nodeseal.golden.model import BANKS, FORMAT, MAX_VALUES, Golden, PcrValues, shortfall
from nodeseal.ids import parse_name
from nodeseal.settings import parse_yaml
from nodeseal.tcg.algorithms import HashAlg

_INDEX = re.compile(r"0|[1-9][0-9]?")
_HEX = re.compile(r"([0-9a-f]{2})+")
_WHAT_BOOTS = "pin PCR 4, or list boot.images, or demand boot.secure_boot with boot.signers or PCR 7"


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
    golden = Golden(name=name, pcrs=banks)
    if not golden.judges_what_boots:
        raise MalformedInput(f"{source}: nothing in it judges what boots", remedy=_WHAT_BOOTS)
    return golden


def dump_golden(golden: Golden) -> bytes:
    """Return the YAML of ``golden``; it parses back to the same digest."""
    lines = [f"format: {FORMAT}", f'name: "{golden.name}"', "pcrs:"]
    for bank, pcrs in golden.pcrs.items():
        lines.append(f"  {bank.hashlib_name}:")
        for pcr, allowed in pcrs.items():
            lines.append(f'    "{pcr}":')
            lines += [f'      - "{value.hex()}"' for value in sorted(allowed)]
    return ("\n".join(lines) + "\n").encode()


def _parse_golden_name(fields: Fields) -> str:
    name = fields.text("name")
    try:
        return parse_name(name, "golden name")
    except MalformedInput as error:
        raise fields.wrong("name", "1 to 63 of a-z 0-9 . _ - (starting with a letter or digit)") from error


def _parse_banks(fields: Fields) -> PcrValues:
    banks = fields.fields("pcrs")
    names = banks.keys()
    if not names:
        raise fields.wrong("pcrs", "a mapping with at least one bank")
    return {_parse_bank_name(name, banks): _parse_bank(name, banks) for name in names}


def _parse_bank_name(name: str, banks: Fields) -> HashAlg:
    if name not in BANKS:
        raise banks.wrong(name, f"one of the banks {', '.join(BANKS)}")
    return BANKS[name]


def _parse_bank(name: str, banks: Fields) -> dict[int, frozenset[bytes]]:
    pcrs = banks.fields(name)
    keys = pcrs.keys()
    if not keys:
        raise banks.wrong(name, "a mapping with at least one PCR")
    return {_parse_index(key, pcrs): _parse_values(BANKS[name], key, pcrs) for key in keys}


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
    if problem := shortfall(bank, int(key), allowed):
        raise pcrs.wrong(key, problem)
    return allowed
