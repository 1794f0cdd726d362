"""The evidence folder: one round of a node, with everything an appraisal needs (``docs/evidence.md``).

``nodeseal node evidence`` writes such a folder; ``nodeseal appraise`` appraises it without a verifier. Nothing in it is
proved. Made-up evidence fails at the quote's signature, unless its author also chose the attestation key. So a folder
is as trustworthy as its ``ak.pub``.

This module knows the content of files, not the file system: a folder is a mapping from names to bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from nodeseal.documents import Fields, decode_json, encode_json, parse_json
from nodeseal.errors import MalformedInput
from nodeseal.evidence.binding import NONCE_SIZE, Channel, Purpose
from nodeseal.evidence.claims import MAX_CLAIMS
from nodeseal.evidence.logs import MAX_BOOT_LOG, MAX_IMA_DELTA, ImaDelta
from nodeseal.evidence.round import Evidence
from nodeseal.ids import Nonce, parse_labels, parse_node_id, parse_trust_domain
from nodeseal.tpm.algorithms import HASHES_BY_NAME, HashAlg
from nodeseal.tpm.pcr import PCR_COUNT, PcrSelection

EVIDENCE_FORMAT: Final = "nodeseal/evidence/1"
_HEAD: Final = "evidence.json"
_CLAIMS: Final = "claims.json"
_ATTEST: Final = "attest.bin"
_SIGNATURE: Final = "signature.bin"
_AK: Final = "ak.pub"
_VALUES: Final = "pcr-values.json"
_BOOT_LOG: Final = "boot-log.bin"
_IMA_LOG: Final = "ima-log.bin"
SIZES: Final[Mapping[str, int]] = {
    _HEAD: 64 * 1024,
    _CLAIMS: MAX_CLAIMS,
    _ATTEST: 4096,
    _SIGNATURE: 4096,
    _AK: 4096,
    _VALUES: 64 * 1024,
    _BOOT_LOG: MAX_BOOT_LOG,
    _IMA_LOG: MAX_IMA_DELTA,
}
"""All files that a folder may hold, with their largest size in bytes. The last three may be absent."""
_RETIRED_KEY: Final = "cap_pcr"
"""Folders of the first release have it, and it means nothing."""
_REQUIRED: Final = (_HEAD, _CLAIMS, _ATTEST, _SIGNATURE, _AK)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceFolder:
    """One complete round: PCR values, and logs from their beginning.

    Attributes:
        evidence: as it arrived.
        nonce: of the challenge.
        purpose: what the quote was made for.
        selection: the PCRs that the challenge asked for.
        channel: trust domain, node and certificate that the quote is bound to.
        issued: when the challenge was made.
        received: when the evidence arrived; goldens must be valid at this time.
        ak_public: TPMT_PUBLIC of the attestation key that the node enrolled.
        labels: the node's labels at that time.
        manufacturer: TCG vendor id that the EK certificate proved at enrolment, or empty.
        ek_algorithm: kind of the endorsement key, or empty.

    Raises:
        MalformedInput: the IMA log does not start at its beginning.
    """

    evidence: Evidence
    nonce: Nonce
    purpose: Purpose
    selection: PcrSelection
    channel: Channel
    issued: datetime
    received: datetime
    ak_public: bytes
    labels: Mapping[str, str]
    manufacturer: str
    ek_algorithm: str

    def __post_init__(self) -> None:
        if self.evidence.ima is not None and self.evidence.ima.offset:
            raise MalformedInput(f"evidence: the IMA log starts at offset {self.evidence.ima.offset}, not at 0")

    def encode(self) -> dict[str, bytes]:
        """Return the files by name, the small ones first.

        Raises:
            MalformedInput: the number of PCR values differs from the selection, or a file is too large.
        """
        evidence = self.evidence
        files = {
            _HEAD: encode_json(self._head()),
            _CLAIMS: evidence.claims,
            _ATTEST: evidence.attest,
            _SIGNATURE: evidence.signature,
            _AK: self.ak_public,
        }
        if evidence.pcr_values is not None:
            files[_VALUES] = encode_json(_value_table(self.selection, evidence.pcr_values))
        if evidence.boot_log is not None:
            files[_BOOT_LOG] = evidence.boot_log
        if evidence.ima is not None:
            files[_IMA_LOG] = evidence.ima.entries
        _check_files(files)
        return files

    def _head(self) -> dict[str, object]:
        ima = self.evidence.ima
        return {
            "certificate_sha256": self.channel.certificate_sha256.hex(),
            "ek_algorithm": self.ek_algorithm,
            "format": EVIDENCE_FORMAT,
            "ima_bank": ima.bank.hashlib_name if ima else "",
            "issued": self.issued.isoformat(),
            "labels": dict(self.labels),
            "manufacturer": self.manufacturer,
            "node_id": self.channel.node_id,
            "nonce": self.nonce.hex(),
            "purpose": self.purpose.name.lower(),
            "received": self.received.isoformat(),
            "selection": [{"bank": bank.hashlib_name, "pcrs": list(pcrs)} for bank, pcrs in self.selection.banks],
            "trust_domain": self.channel.trust_domain,
        }


def decode_evidence_folder(files: Mapping[str, bytes]) -> EvidenceFolder:
    """Decode the files of a folder.

    Args:
        files: contents by name.

    Raises:
        MalformedInput: a file is missing, unknown, too large or malformed; the message names it.
    """
    _check_files(files)
    head = Fields(decode_json(files[_HEAD], _HEAD), _HEAD)
    head.constant("format", EVIDENCE_FORMAT)
    selection = _selection(head)
    head.drop(_RETIRED_KEY)
    folder = EvidenceFolder(
        evidence=_evidence(files, head, selection),
        nonce=Nonce(head.hex("nonce", size=NONCE_SIZE)),
        purpose=_purpose(head),
        selection=selection,
        channel=Channel(
            trust_domain=parse_trust_domain(head.text("trust_domain")),
            node_id=parse_node_id(head.text("node_id")),
            certificate_sha256=head.hex("certificate_sha256", size=32),
        ),
        issued=_time(head, "issued"),
        received=_time(head, "received"),
        ak_public=files[_AK],
        labels=_labels(head),
        manufacturer=head.text("manufacturer", max_length=64),
        ek_algorithm=head.text("ek_algorithm", max_length=64),
    )
    head.done()
    return folder


def _check_files(files: Mapping[str, bytes]) -> None:
    for name in _REQUIRED:
        if name not in files:
            raise MalformedInput(
                f"evidence: {name} is missing", remedy="name a folder that nodeseal node evidence wrote"
            )
    for name, content in files.items():
        if len(content) > SIZES.get(name, -1):
            raise MalformedInput(f"evidence: {name[:80]!a} does not belong to an evidence folder, or is too large")


def _evidence(files: Mapping[str, bytes], head: Fields, selection: PcrSelection) -> Evidence:
    values, bank = files.get(_VALUES), head.text("ima_bank")
    if (bank in HASHES_BY_NAME) != (_IMA_LOG in files) or (bank and bank not in HASHES_BY_NAME):
        raise head.wrong("ima_bank", f"the bank of {_IMA_LOG}, or empty without that file")
    return Evidence(
        claims=files[_CLAIMS],
        attest=files[_ATTEST],
        signature=files[_SIGNATURE],
        pcr_values=None if values is None else _values(values, selection),
        boot_log=files.get(_BOOT_LOG),
        ima=ImaDelta(offset=0, entries=files[_IMA_LOG], bank=HASHES_BY_NAME[bank]) if bank else None,
    )


def _value_table(selection: PcrSelection, values: tuple[bytes, ...]) -> dict[str, dict[str, str]]:
    if len(values) != selection.size:
        raise MalformedInput(f"evidence: {len(values)} PCR values for a selection of {selection.size}")
    table: dict[str, dict[str, str]] = {}
    for (bank, index), value in zip(selection.indices(), values, strict=True):
        table.setdefault(bank.hashlib_name, {})[str(index)] = value.hex()
    return table


def _values(raw: bytes, selection: PcrSelection) -> tuple[bytes, ...]:
    banks = Fields(parse_json(raw, _VALUES), _VALUES)
    found: list[bytes] = []
    for bank, indices in selection.banks:
        pcrs = banks.fields(bank.hashlib_name)
        found += [pcrs.hex(str(index), size=bank.digest_size) for index in indices]
        pcrs.done()
    banks.done()
    return tuple(found)


def _selection(head: Fields) -> PcrSelection:
    banks: list[tuple[HashAlg, tuple[int, ...]]] = []
    for item in head.items("selection", max_items=len(HASHES_BY_NAME)):
        bank = Fields(item, f"{_HEAD}: selection")
        name, pcrs = bank.text("bank"), bank.items("pcrs", max_items=PCR_COUNT)
        if name not in HASHES_BY_NAME or not all(type(pcr) is int for pcr in pcrs):
            raise head.wrong("selection", "a list of banks with their PCRs")
        banks.append((HASHES_BY_NAME[name], tuple(pcr for pcr in pcrs if isinstance(pcr, int))))
        bank.done()
    return PcrSelection(tuple(banks))


def _purpose(head: Fields) -> Purpose:
    text = head.text("purpose")
    try:
        return {purpose.name.lower(): purpose for purpose in Purpose}[text]
    except KeyError as error:
        raise head.wrong("purpose", "attest or release") from error


def _time(head: Fields, key: str) -> datetime:
    try:
        at = datetime.fromisoformat(head.text(key, max_length=40))
    except ValueError as error:
        raise head.wrong(key, "a time as RFC 3339 writes it") from error
    if at.tzinfo is None or at.utcoffset() != UTC.utcoffset(None):
        raise head.wrong(key, "a time in UTC")
    return at


def _labels(head: Fields) -> Mapping[str, str]:
    labels = head.fields("labels")
    names = labels.keys()
    return parse_labels({name: labels.text(name) for name in names})
