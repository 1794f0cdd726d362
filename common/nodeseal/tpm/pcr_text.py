"""PCR values in text: JSON of the shapes in use, and output of ``tpm2_pcrread``.

JSON: ``{"sha256": {"0": "<hex>"}}``, ``{"sha256": ["<hex>", …]}`` (by index), ``{"0": "<hex>"}`` and a bare list (for
a quote of one bank, or exactly the quoted values in their order), ``{"hash": "sha256", "pcrs": {…}}``, lists of those,
and lists of ``{"pcr": 0, "bank": "sha256", "digest": "<hex>"}``. All may stand below ``pcrs``, ``banks``, ``tpm_quote``
or the like. Values are hex (also with 0x) or base64. Other shapes, and a value that is given twice, are refused.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence

from nodeseal.documents import parse_json
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HASHES_BY_NUMBER, HashAlg
from nodeseal.tpm.pcr import PCR_COUNT, PcrSelection

Place = tuple[HashAlg, int]

_WRAPPERS = ("pcrs", "PCRs", "banks", "pcr_banks", "tpm_quote", "quote", "pcr_values", "values")
_BANK_KEYS = ("bank", "hash", "algorithm", "alg", "digest_alg", "hash_alg", "DigestAlg")
_INDEX_KEYS = ("pcr", "index", "Index", "pcr_index", "id")
_VALUE_KEYS = ("digest", "value", "Digest")
_PRINTED_BANK = re.compile(r"\s*(sha\d+)\s*:\s*")
_PRINTED_VALUE = re.compile(r"\s*(\d{1,2})\s*:\s*((?:0x)?[0-9A-Fa-f]+)\s*")
_INDEX = re.compile(r"(?:pcr[-_]?)?(\d{1,2})", re.IGNORECASE)
_BY_NUMBER_AS_TEXT = {str(number): alg for number, alg in HASHES_BY_NUMBER.items()}


_TEXT = frozenset(range(0x20, 0x7F)) | frozenset(b"\t\r\n")


def looks_like_text(raw: bytes) -> bool:
    """Tell whether bytes are JSON or output of ``tpm2_pcrread``: all of them are printable."""
    return bool(raw.strip()) and all(byte in _TEXT for byte in raw)


def parse_pcr_values(raw: bytes, selection: PcrSelection) -> dict[Place, bytes]:
    """Parse text into claimed values.

    Args:
        raw: ASCII text.
        selection: the quoted PCRs; they name the bank where the text does not.

    Raises:
        MalformedInput: neither JSON of a known shape nor output of ``tpm2_pcrread``, or a value is given twice.
    """
    text = raw.decode("ascii").strip()
    collected = _Values(selection)
    if text.startswith(("{", "[")):
        _read_json(raw, collected)
    else:
        _read_printed(text, collected)
    return collected.found


class _Values:
    """Values found so far. ``add`` checks bank, index and size of each."""

    def __init__(self, selection: PcrSelection) -> None:
        self.found: dict[Place, bytes] = {}
        self._selection = selection

    def add(self, bank: HashAlg | None, index: str, value: object) -> None:
        bank = bank or self._only_bank()
        match = _INDEX.fullmatch(index)
        if match is None or int(match[1]) >= PCR_COUNT:
            raise MalformedInput(f"PCR values: {index[:16]!a} is no PCR index")
        place = (bank, int(match[1]))
        if place in self.found:
            raise MalformedInput(f"PCR values: {bank.hashlib_name}:{index} is given twice")
        self.found[place] = _value(value, bank)

    def walk(self, node: object, bank: HashAlg | None) -> None:
        """Collect the values below a JSON node. ``bank`` is the bank that the nodes above name."""
        match node:
            case dict():
                self._walk_mapping(node, bank)
            case [str(), *_]:
                self._add_list(node, bank)
            case [dict(), *_]:
                for entry in node:
                    self.walk(entry, bank)
            case _:
                raise MalformedInput("PCR values: JSON of an unknown shape")

    def _walk_mapping(self, node: dict[str, object], bank: HashAlg | None) -> None:
        named = _first(node, _BANK_KEYS)
        bank = _bank(str(named)) if named is not None else bank
        index, value, inner = _first(node, _INDEX_KEYS), _first(node, _VALUE_KEYS), _first(node, _WRAPPERS)
        if index is not None and value is not None:
            self.add(bank, str(index), value)
        elif inner is not None:
            self.walk(inner, bank)
        elif all(map(_INDEX.fullmatch, node)):
            for key, each in node.items():
                self.add(bank, key, each)
        else:
            for key, each in node.items():
                self.walk(each, _bank(key))

    def _add_list(self, values: Sequence[object], bank: HashAlg | None) -> None:
        if bank is None and len(values) == self._selection.size:
            for (quoted_bank, index), value in zip(self._selection.indices(), values, strict=True):
                self.add(quoted_bank, str(index), value)
            return
        for index, value in enumerate(values):
            self.add(bank, str(index), value)

    def _only_bank(self) -> HashAlg:
        if len(self._selection.banks) != 1:
            raise MalformedInput("PCR values: the file names no bank and the quote covers several")
        return self._selection.banks[0][0]


def _read_printed(text: str, collected: _Values) -> None:
    bank = None
    for line in text.splitlines():
        if match := _PRINTED_BANK.fullmatch(line):
            bank = HashAlg.from_name(match[1])
        elif match := _PRINTED_VALUE.fullmatch(line):
            collected.add(bank, match[1], match[2])
        else:
            raise MalformedInput(f"PCR values: line {line[:40]!a} is not what tpm2_pcrread prints")


def _read_json(raw: bytes, collected: _Values) -> None:
    try:
        collected.walk(parse_json(raw, "PCR values"), None)
    except RecursionError as error:
        raise MalformedInput(f"PCR values: not JSON: {error}") from error


def _first(node: dict[str, object], keys: tuple[str, ...]) -> object:
    return next((node[key] for key in keys if key in node), None)


def _bank(name: str) -> HashAlg:
    plain = name.lower().replace("-", "").replace("_", "").removeprefix("tpmalg")
    return _BY_NUMBER_AS_TEXT.get(plain) or HashAlg.from_name(plain)


def _value(value: object, bank: HashAlg) -> bytes:
    text = value.removeprefix("0x") if isinstance(value, str) else ""
    try:
        raw = bytes.fromhex(text) if len(text) == 2 * bank.digest_size else base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raw = b""
    if len(raw) != bank.digest_size:
        raise MalformedInput(f"PCR values: {text[:16]!a}… is not the hex or base64 of a {bank.hashlib_name} digest")
    return raw
