"""The section ``boot`` of a golden: rules over what the boot log proves."""

from __future__ import annotations

import re
from functools import partial

from nodeseal.documents import Fields, Item
from nodeseal.golden.parts import hex_of, refuse_repeated, take_fields, take_list, take_name
from nodeseal.golden.patterns import pattern_fault
from nodeseal.golden.rules import BootRules, Image, Signer
from nodeseal.tpm.algorithms import SHA256_SIZE, STRONG_HASHES_BY_NAME, HashAlg

MAX_IMAGES = 256
MAX_DBX = 4096
"""Entries that a golden may require in the forbidden list; the list of 2025 has some 500."""
MAX_PHASES = 16
_PHASE = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_SECTION = re.compile(r"\.[a-z0-9]{1,7}")
"""A PE section's name: eight bytes (PE Format, "Section Table")."""


def parse_boot(fields: Fields) -> BootRules:
    """Parse the section.

    Raises:
        MalformedInput: the section is wrong; the message names source, line and key.
    """
    bank = _take_bank(fields) if fields.has("bank") else HashAlg.SHA256
    rules = BootRules(
        bank=bank,
        secure_boot=fields.has("secure_boot") and _take_true(fields, "secure_boot", "secure boot may be off"),
        dma_protection=fields.has("dma_protection") and _take_true(fields, "dma_protection", "it may be off"),
        signers=_take_signers(fields) if fields.has("signers") else None,
        images=_take_images(fields, "images", bank) if fields.has("images") else None,
        drivers=_take_images(fields, "drivers", bank) if fields.has("drivers") else None,
        dbx=frozenset(take_list(fields, "dbx", hex_of(SHA256_SIZE), MAX_DBX) if fields.has("dbx") else ()),
        command_lines=take_list(fields, "command_lines", _pattern) if fields.has("command_lines") else None,
        sections=_take_sections(take_fields(fields, "sections"), bank) if fields.has("sections") else None,
        files=_take_images(fields, "files", bank) if fields.has("files") else None,
        gpt=_take_digests(fields, "gpt", bank),
        loader_conf=_take_digests(fields, "loader_conf", bank),
        addons=_take_images(fields, "addons", bank) if fields.has("addons") else None,
        phases=take_list(fields, "phases", _phase, MAX_PHASES) if fields.has("phases") else (),
    )
    fields.done()
    return rules


def _take_bank(fields: Fields) -> HashAlg:
    name = fields.text("bank")
    if name not in STRONG_HASHES_BY_NAME:
        raise fields.wrong("bank", f"one of the banks {', '.join(STRONG_HASHES_BY_NAME)}")
    if not fields.keys():
        raise fields.wrong("bank", "a rule, and there is no other key")
    return STRONG_HASHES_BY_NAME[name]


def _take_true(fields: Fields, key: str, otherwise: str) -> bool:
    if not fields.boolean(key):
        raise fields.wrong(key, "true", remedy=f"leave the key out where {otherwise}")
    return True


def _take_digests(fields: Fields, key: str, bank: HashAlg) -> frozenset[bytes] | None:
    return frozenset(take_list(fields, key, hex_of(bank.digest_size))) if fields.has(key) else None


def _take_signers(fields: Fields) -> tuple[Signer, ...]:
    signers = take_list(fields, "signers", _signer)
    refuse_repeated((signer.sha256 for signer in signers), fields, "signers")
    return signers


def _signer(item: Item) -> Signer:
    fields = item.fields()
    digest = fields.hex("sha256", size=SHA256_SIZE)
    signer = Signer(sha256=digest, name=take_name(fields) if fields.has("name") else "")
    fields.done()
    return signer


def _take_images(fields: Fields, key: str, bank: HashAlg) -> tuple[Image, ...]:
    images = take_list(fields, key, partial(_image, bank=bank), MAX_IMAGES)
    refuse_repeated((image.name for image in images), fields, key)
    return images


def _image(item: Item, bank: HashAlg) -> Image:
    fields = item.fields()
    digests = take_list(fields, "digests", hex_of(bank.digest_size))
    image = Image(name=take_name(fields), digests=frozenset(digests))
    fields.done()
    return image


def _take_sections(sections: Fields, bank: HashAlg) -> dict[str, frozenset[bytes]]:
    names = sections.keys()
    for name in names:
        if not _SECTION.fullmatch(name):
            raise sections.wrong(name, "the name of a section, such as .linux")
    return {name: frozenset(take_list(sections, name, hex_of(bank.digest_size))) for name in names}


def _phase(item: Item) -> str:
    if not isinstance(item.value, str) or not _PHASE.fullmatch(item.value):
        raise item.wrong("a word of at most 64 letters, digits, points, colons, hyphens and underscores")
    return item.value


def _pattern(item: Item) -> str:
    if not isinstance(item.value, str):
        raise item.wrong("text")
    if fault := pattern_fault(item.value):
        raise item.wrong(fault)
    return item.value
