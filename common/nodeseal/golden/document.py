"""Goldens as the YAML that people read, write and review; ``docs/goldens.md`` shows one with every key.

.. code-block:: yaml

    format: nodeseal/golden/1
    name: rack-a
    pcrs:
      sha256:
        "4": ["<64 hex digits>", "<64 hex digits>"]   # every value that is allowed

Unknown keys, empty lists and empty mappings are refused with file, line and key. So is a golden without a rule about
what boots.
"""

from __future__ import annotations

import re

from nodeseal.documents import Fields
from nodeseal.egress.document import parse_egress
from nodeseal.errors import MalformedInput
from nodeseal.golden.boot_section import parse_boot
from nodeseal.golden.model import GOLDEN_FORMAT, Golden, PcrValues, document_of, shortfall
from nodeseal.golden.parts import hex_of, take_fields, take_list
from nodeseal.golden.reference_section import take_reference
from nodeseal.golden.rules import ALWAYS
from nodeseal.golden.runtime_section import parse_runtime
from nodeseal.golden.scope_sections import NAME_SHAPE, parse_nodes, parse_platform, parse_valid
from nodeseal.golden.yaml_text import render
from nodeseal.ids import parse_name
from nodeseal.settings import parse_yaml
from nodeseal.tpm.algorithms import STRONG_HASHES_BY_NAME, HashAlg

MAX_GOLDEN = 64 * 1024 * 1024
"""Bytes of a golden's YAML: room for some 300,000 files."""
_INDEX = re.compile(r"0|[1-9][0-9]?")
_WHAT_BOOTS = "pin PCR 4, or list boot.images, or demand boot.secure_boot with boot.signers or PCR 7"
_SEE = "docs/goldens.md describes every key; nodeseal golden schema prints the schema for editors"


def parse_golden(raw: bytes, source: str) -> Golden:
    """Parse a golden's YAML.

    Args:
        raw: the whole file.
        source: name of the file, for errors.

    Raises:
        MalformedInput: the document is wrong; the message names source, line and key.
    """
    try:
        return _parse(parse_yaml(raw, source, MAX_GOLDEN), source)
    except MalformedInput as error:
        error.remedy = error.remedy or _SEE
        raise


def dump_golden(golden: Golden) -> bytes:
    """Return the YAML of ``golden``, which parses back to the same digest."""
    return render(document_of(golden)).encode()


def _parse(fields: Fields, source: str) -> Golden:
    fields.constant("format", GOLDEN_FORMAT)
    name = _take_name(fields)
    pcrs = _take_pcrs(take_fields(fields, "pcrs")) if fields.has("pcrs") else {}
    boot = parse_boot(take_fields(fields, "boot")) if fields.has("boot") else None
    if not (pcrs or boot):
        raise MalformedInput(f"{source}: no rule in it looks at what boots", remedy=_WHAT_BOOTS)
    golden = Golden(
        name=name,
        pcrs=pcrs,
        boot=boot,
        runtime=parse_runtime(take_fields(fields, "runtime")) if fields.has("runtime") else None,
        platform=parse_platform(take_fields(fields, "platform")) if fields.has("platform") else None,
        egress=parse_egress(take_fields(fields, "egress")) if fields.has("egress") else None,
        valid=parse_valid(take_fields(fields, "valid")) if fields.has("valid") else ALWAYS,
        nodes=parse_nodes(take_fields(fields, "nodes")) if fields.has("nodes") else {},
        reference=take_reference(fields, pcrs) if fields.has("reference") else (),
    )
    fields.done()
    if not golden.looks_at_boot:
        raise MalformedInput(f"{source}: no rule in it looks at what boots", remedy=_WHAT_BOOTS)
    return golden


def _take_name(fields: Fields) -> str:
    name = fields.text("name")
    try:
        return parse_name(name, "golden name")
    except MalformedInput as error:
        raise fields.wrong("name", NAME_SHAPE) from error


def _take_pcrs(banks: Fields) -> PcrValues:
    names = banks.keys()
    return {_bank(name, banks): _take_bank(STRONG_HASHES_BY_NAME[name], take_fields(banks, name)) for name in names}


def _bank(name: str, banks: Fields) -> HashAlg:
    if name not in STRONG_HASHES_BY_NAME:
        raise banks.wrong(name, f"one of the banks {', '.join(STRONG_HASHES_BY_NAME)}")
    return STRONG_HASHES_BY_NAME[name]


def _take_bank(bank: HashAlg, pcrs: Fields) -> dict[int, frozenset[bytes]]:
    indices = pcrs.keys()
    return {_index(key, pcrs): _take_values(bank, key, pcrs) for key in indices}


def _index(key: str, pcrs: Fields) -> int:
    if not _INDEX.fullmatch(key):
        raise pcrs.wrong(key, "the number of a PCR")
    return int(key)


def _take_values(bank: HashAlg, key: str, pcrs: Fields) -> frozenset[bytes]:
    allowed = frozenset(take_list(pcrs, key, hex_of(bank.digest_size)))
    if problem := shortfall(bank, int(key), allowed):
        raise pcrs.wrong(key, problem)
    return allowed
