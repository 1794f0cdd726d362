"""``nodeseal log`` for IMA logs, binary and ASCII: what a kernel says it measured after boot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rich.text import Text

from nodeseal.cli import output
from nodeseal.cli.output import SHOWN_DIGITS, FactList, Rows
from nodeseal.errors import MalformedInput
from nodeseal.ima.diff import entries_alike
from nodeseal.ima.log import (
    ImaEntry,
    check_template_digest,
    claimed_bank,
    ima_entries,
    looks_like_ima_log,
    replay_ima,
    template_hash,
)
from nodeseal.ima.signature import decode_ima_signature
from nodeseal.ima.template import ImaFields, parse_template
from nodeseal.ima.text import ima_text_entries, looks_like_ima_text, text_bank
from nodeseal.inert import inert
from nodeseal.tpm.algorithms import HashAlg

_TEMPLATE_WIDTH: Final = 10
_DIGEST_WIDTH: Final = 24
_VIOLATION: Final = "violation: written while it was measured"
_WRONG_DIGEST: Final = "the template digest is not the hash of this"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImaFile:
    """An IMA log from a file.

    Attributes:
        path: the file.
        form: how it is written.
        bank: the bank that its template digests are of.
        entries: all of them; whether the digests hold is not checked.
    """

    path: Path
    form: str
    bank: HashAlg
    entries: tuple[ImaEntry, ...]


def read_ima(path: Path, raw: bytes) -> ImaFile | None:
    """Read a file if its bytes are those of an IMA log.

    Raises:
        MalformedInput: they begin like one, but do not go on so.
    """
    if looks_like_ima_text(raw):
        entries = tuple(ima_text_entries(raw))
        return ImaFile(path=path, form="IMA, ASCII list", bank=text_bank(entries[0]), entries=entries)
    if looks_like_ima_log(raw):
        bank = claimed_bank(raw)
        entries = tuple(entry for _, entry in ima_entries(raw, bank))
        return ImaFile(path=path, form="IMA, binary list", bank=bank, entries=entries)
    return None


def show_ima(log: ImaFile, pcrs: Sequence[int], *, as_json: bool) -> None:
    """Show a log entry by entry, limited to ``pcrs`` unless that is empty."""
    shown = [(number, entry) for number, entry in enumerate(log.entries) if not pcrs or entry.pcr in pcrs]
    head = f"\n    # PCR  {'template':{_TEMPLATE_WIDTH}} {'digest':{_DIGEST_WIDTH}} what"
    output.show(
        lambda: {
            "format": log.form,
            "bank": log.bank.hashlib_name,
            "entries": [_plain_entry(number, entry, log.bank) for number, entry in shown],
        },
        FactList(_log_facts(log)),
        Text(head, style="bold"),
        (_line(number, entry, log.bank) for number, entry in shown),
        as_json=as_json,
    )


def replay_ima_file(log: ImaFile, bank: HashAlg | None) -> dict[HashAlg, dict[int, bytes]]:
    """Return the PCRs that a log accounts for, by bank: all banks, since its data can be hashed in any.

    Raises:
        MalformedInput: an entry whose template digest is not the hash of its data.
    """
    for number, entry in enumerate(log.entries):
        check_template_digest(entry, log.bank, number)
    pcrs = sorted({entry.pcr for entry in log.entries})
    banks = (bank,) if bank else tuple(HashAlg)
    return {each: {pcr: replay_ima(log.entries, each, pcr) for pcr in pcrs} for each in banks}


def show_ima_difference(first: ImaFile, second: ImaFile, *, as_json: bool) -> bool:
    """Show the first entry in which two logs differ; return whether they do."""
    alike = entries_alike(first.entries, second.entries)
    equal = alike == len(first.entries) == len(second.entries)
    sides = [
        _plain_entry(alike, each.entries[alike], each.bank) if alike < len(each.entries) else None
        for each in (first, second)
    ]
    plain = {"equal": equal, "same_entries": alike, "first": sides[0], "second": sides[1]}
    rows = [] if equal else [(str(alike), _cell(first, alike), _cell(second, alike))]
    columns = ("alike", str(first.path), str(second.path))
    output.show(plain, Rows(columns, rows, empty=f"no difference in {alike} entries"), as_json=as_json)
    return not equal


def _log_facts(log: ImaFile) -> Iterator[tuple[str, str]]:
    templates = Counter(entry.template for entry in log.entries)
    yield "format", log.form
    yield "bank", log.bank.hashlib_name
    yield "templates", inert(", ".join(f"{count} {name}" for name, count in templates.most_common()))
    yield "entries", str(len(log.entries))
    yield "violations", str(sum(entry.violation for entry in log.entries))


def _line(number: int, entry: ImaEntry, bank: HashAlg) -> Text:
    digest, said, problem = _described(entry, bank)
    return Text.assemble(
        (f"{number:5} ", "dim"),
        (f"{entry.pcr:>3}  ", "bold cyan"),
        f"{inert(entry.template):{_TEMPLATE_WIDTH}} ",
        (f"{digest:{_DIGEST_WIDTH}} ", "dim"),
        said,
        (f"  {problem}" if problem else "", "bold red"),
    )


def _cell(log: ImaFile, number: int) -> str:
    if number == len(log.entries):
        return "no further entry"
    entry = log.entries[number]
    _, said, problem = _described(entry, log.bank)
    return "\n".join(filter(None, (f"entry {number}, PCR {entry.pcr}, {inert(entry.template)}", said, problem)))


def _described(entry: ImaEntry, bank: HashAlg) -> tuple[str, str, str]:
    """Return digest, name with notes, and problem as inert text."""
    problem = _problem(entry, bank)
    try:
        fields = parse_template(entry.template, entry.data)
    except MalformedInput as error:
        return "", f"{len(entry.data)} bytes", inert("; ".join(filter(None, (str(error), problem))))
    kind = f"{fields.digest_type}:" if fields.digest_type == "verity" else ""
    digest = f"{kind}{fields.algorithm}:{fields.digest.hex()[:SHOWN_DIGITS]}" if fields.digest else ""
    said = " ".join(filter(None, (_path(fields.path), _signed(fields), _buffer(fields))))
    return digest, said, problem


def _problem(entry: ImaEntry, bank: HashAlg) -> str:
    if entry.violation:
        return _VIOLATION
    return "" if entry.template_digest == template_hash(entry, bank) else _WRONG_DIGEST


def _path(path: bytes) -> str:
    return inert(path.decode("utf-8", "backslashreplace"))


def _signed(fields: ImaFields) -> str:
    if not fields.signature:
        return ""
    try:
        signature = decode_ima_signature(fields.signature)
    except MalformedInput as error:
        return f"({error})"
    return f"(signed, key id {signature.key_id.hex()})"


def _buffer(fields: ImaFields) -> str:
    return f"({len(fields.buffer)} bytes measured)" if fields.buffer else ""


def _plain_entry(number: int, entry: ImaEntry, bank: HashAlg) -> dict[str, object]:
    plain = {
        "number": number,
        "pcr": entry.pcr,
        "template_digest": entry.template_digest.hex(),
        "template_digest_holds": None if entry.violation else not _problem(entry, bank),
        "violation": entry.violation,
        "template": entry.template,
        "data": entry.data.hex(),
    }
    try:
        return plain | _plain_fields(parse_template(entry.template, entry.data))
    except MalformedInput as error:
        return plain | {"problem": str(error)}


def _plain_fields(fields: ImaFields) -> dict[str, object]:
    return {
        "algorithm": fields.algorithm,
        "digest": fields.digest.hex(),
        "digest_type": fields.digest_type,
        "path": fields.path_text,
        "signature": _plain_signature(fields.signature) if fields.signature else None,
        "buffer": None if fields.buffer is None else fields.buffer.hex(),
        "others": {name: value.hex() for name, value in fields.others},
    }


def _plain_signature(raw: bytes) -> dict[str, object]:
    try:
        signature = decode_ima_signature(raw)
    except MalformedInput as error:
        return {"problem": str(error)}
    return {
        "type": signature.kind.name.lower(),
        "version": signature.version,
        "algorithm": signature.hash_alg.name,
        "key_id": signature.key_id.hex(),
        "signature": signature.signature.hex(),
    }
