"""``verifier.yaml``: one frozen value, parsed once; unknown keys, wrong types and unsafe numbers are refused.

Paths are relative to the folder of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nodeseal.boot.quirks import MAX_BYTES, Quirk, parse_added_quirks
from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.evidence.logs import MAX_BOOT_LOG, MAX_IMA_DELTA
from nodeseal.files import read_small
from nodeseal.ids import Digest, parse_digest, parse_trust_domain
from nodeseal.logs import LogStyle, parse_log_style
from nodeseal.settings import load_yaml
from nodeseal.tpm.algorithms import STRONG_HASHES_BY_NAME, HashAlg
from nodeseal.tpm.pcr import LAST_PCR, PCR_COUNT, PcrSelection
from nodeseal.tpm.pcr_usage import EPOCH_PCR

_ADDRESS: Final = re.compile(r"(\[[0-9a-f:.]+\]|[A-Za-z0-9.-]+):([0-9]{1,5})")
_LAST_PORT: Final = 65535
_CAP_PCR: Final = "cap_pcr"
"""A setting of the first release, which means nothing."""
_MAX_TOKEN_LABEL: Final = 32  # bytes of CK_TOKEN_INFO.label
DEFAULT_WAITING_LOG_BYTES: Final = 512 * 1024 * 1024
DEFAULT_EAR_KEY: Final = "ear.key"
DEFAULT_ACTS_KEY: Final = "acts.key"
DEFAULT_JOURNAL: Final = "journal"
DEFAULT_LOG_KEY: Final = "log.key"
DEFAULT_CHECKPOINT: Final = "checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """Certificates, in PEM.

    Attributes:
        ca: the authority that signs node and person certificates.
        ca_key: its private key.
        certificate: the verifier's own server certificate.
        key: its private key.
        node_hours: how long a node's certificate is valid.
    """

    ca: Path
    ca_key: Path
    certificate: Path
    key: Path
    node_hours: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EnrolmentSettings:
    """Who may enrol, and at what rate.

    Attributes:
        ek_roots: folder of certificates (PEM or DER) of TPM vendors that are trusted.
        ek_allow: SHA-256 of endorsement keys that are trusted without a certificate.
        deadline_seconds: for one whole enrolment.
        concurrent: enrolments open at once.
        per_minute: enrolments of one endorsement key.
    """

    ek_roots: Path
    ek_allow: frozenset[Digest]
    deadline_seconds: int
    concurrent: int
    per_minute: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AttestationSettings:
    """How often nodes prove themselves.

    Attributes:
        interval_seconds: from one verdict to the next challenge, shortened at random by up to a tenth.
        trust_seconds: how long a good round is believed, counted from its challenge.
        answer_within_seconds: a challenge's deadline, for the first message of the answer.
        selection: the PCRs that every quote covers: those that the settings name, and the lease epoch in their banks.
        max_waiting_log_bytes: logs of all nodes in memory that wait to be judged.
        quirks: rows that the operator added to the table of firmware's deviations.
    """

    interval_seconds: int
    trust_seconds: int
    answer_within_seconds: int
    selection: PcrSelection
    max_waiting_log_bytes: int = DEFAULT_WAITING_LOG_BYTES
    quirks: tuple[Quirk, ...] = ()

    @property
    def complete_within_seconds(self) -> int:
        """Deadline for the last message of an answer that brings a long log; also counted from the challenge."""
        return self.trust_seconds // 2


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSettings:
    """A PKCS#11 token that holds model keys.

    Attributes:
        module: the vendor's library. It runs inside the verifier.
        name: label of the token.
        pin: file with the user PIN, unless systemd provides it; None: asked for on the terminal.
    """

    module: Path
    name: str
    pin: Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of one verifier.

    Attributes:
        trust_domain: SPIFFE trust domain of every certificate.
        listen: address for nodes and people, mutual TLS.
        listen_enrol: address for enrolment, server TLS only.
        tls: certificates.
        database: SQLite file.
        key_folder: where the file key store keeps wrapped model keys.
        kek: file of the key-encryption key, unless systemd provides it.
        enrolment: who may enrol.
        attestation: how often nodes prove themselves.
        releases_per_minute: key releases that one node may ask for.
        log_style: style of log lines.
        ear_key: the private key that tokens about nodes are signed with, in PEM.
        acts_key: the key that authenticates the rows of the log, unless systemd provides it.
        journal: folder of restrictions that are in force and not recorded yet.
        log_key: the key that signs checkpoints of the log, in PEM, unless systemd provides it.
        checkpoint: file with the last checkpoint that was given out; it must not be in a backup.
        token: the PKCS#11 token for model keys, if there is one.
        retired: settings of older versions that the file still has; they are ignored.
    """

    trust_domain: str
    listen: str
    listen_enrol: str
    tls: TlsSettings
    database: Path
    key_folder: Path
    kek: Path
    enrolment: EnrolmentSettings
    attestation: AttestationSettings
    releases_per_minute: int
    log_style: LogStyle
    ear_key: Path
    acts_key: Path
    journal: Path
    log_key: Path
    checkpoint: Path
    token: TokenSettings | None = None
    retired: tuple[str, ...] = ()


def load_config(path: Path) -> Config:
    """Read ``verifier.yaml``.

    Raises:
        MalformedInput: naming file, line and key.
    """
    fields, base = load_yaml(path), path.parent.absolute()
    keys, attestation = fields.fields("keys"), fields.fields("attestation")
    retired = tuple(f"attestation.{key}" for key in attestation.drop(_CAP_PCR))
    config = Config(
        trust_domain=parse_trust_domain(fields.text("trust_domain")),
        listen=_address(fields, "listen"),
        listen_enrol=_address(fields, "listen_enrol"),
        tls=_tls(fields.fields("tls"), base),
        database=base / fields.text("database"),
        key_folder=base / keys.text("folder"),
        kek=base / keys.text("kek"),
        enrolment=_enrolment(fields.fields("enrolment"), base),
        attestation=_attestation(attestation, base),
        releases_per_minute=_releases(fields.fields("release")),
        log_style=parse_log_style(fields, "log"),
        ear_key=base / (keys.text("ear") if keys.has("ear") else DEFAULT_EAR_KEY),
        acts_key=base / (keys.text("acts") if keys.has("acts") else DEFAULT_ACTS_KEY),
        journal=base / (fields.text("journal") if fields.has("journal") else DEFAULT_JOURNAL),
        log_key=base / (keys.text("log") if keys.has("log") else DEFAULT_LOG_KEY),
        checkpoint=base / (fields.text("checkpoint") if fields.has("checkpoint") else DEFAULT_CHECKPOINT),
        token=_token(keys.fields("pkcs11"), base) if keys.has("pkcs11") else None,
        retired=retired,
    )
    keys.done()
    fields.done()
    return config


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT`` or ``[IPV6]:PORT``.

    Raises:
        MalformedInput: neither.
    """
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > _LAST_PORT:
        raise MalformedInput(f"not HOST:PORT or [IPV6]:PORT: {address[:80]!a}")
    return match[1], int(match[2])


def join_address(host: str, port: int) -> str:
    """Return ``HOST:PORT``, or ``[IPV6]:PORT``, as :func:`split_address` reads it."""
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def _address(fields: Fields, key: str) -> str:
    address = fields.text(key, max_length=300)
    try:
        split_address(address)
    except MalformedInput as error:
        raise fields.wrong(key, "HOST:PORT or [IPV6]:PORT") from error
    return address


def _tls(fields: Fields, base: Path) -> TlsSettings:
    tls = TlsSettings(
        ca=base / fields.text("ca"),
        ca_key=base / fields.text("ca_key"),
        certificate=base / fields.text("certificate"),
        key=base / fields.text("key"),
        node_hours=fields.integer("node_hours", low=1, high=24 * 366),
    )
    fields.done()
    return tls


def _token(fields: Fields, base: Path) -> TokenSettings:
    settings = TokenSettings(
        module=base / fields.text("module"),
        name=fields.text("token", max_length=_MAX_TOKEN_LABEL),
        pin=base / fields.text("pin") if fields.has("pin") else None,
    )
    fields.done()
    return settings


def _enrolment(fields: Fields, base: Path) -> EnrolmentSettings:
    enrolment = EnrolmentSettings(
        ek_roots=base / fields.text("ek_roots"),
        ek_allow=frozenset(parse_digest(text, "enrolment.ek_allow") for text in fields.texts("ek_allow")),
        deadline_seconds=fields.integer("deadline_seconds", low=1, high=600),
        concurrent=fields.integer("concurrent", low=1, high=10_000),
        per_minute=fields.integer("per_minute", low=1, high=1_000_000),
    )
    fields.done()
    return enrolment


def _attestation(fields: Fields, base: Path) -> AttestationSettings:
    interval = fields.integer("interval_seconds", low=0, high=3600)
    answer = fields.integer("answer_within_seconds", low=1, high=600)
    # A good node must be asked, and have the time to answer, before its trust from the last round ends.
    trust = fields.integer("trust_seconds", low=interval + 2 * answer, high=24 * 3600)
    selection = _selection(fields)
    waiting = DEFAULT_WAITING_LOG_BYTES
    if fields.has("max_waiting_log_bytes"):
        waiting = fields.integer("max_waiting_log_bytes", low=MAX_BOOT_LOG + MAX_IMA_DELTA, high=2**40)
    quirks = _quirks(base / fields.text("quirks")) if fields.has("quirks") else ()
    fields.done()
    return AttestationSettings(
        quirks=quirks,
        interval_seconds=interval,
        trust_seconds=trust,
        answer_within_seconds=answer,
        selection=selection,
        max_waiting_log_bytes=waiting,
    )


def _quirks(path: Path) -> tuple[Quirk, ...]:
    try:
        return parse_added_quirks(read_small(path, MAX_BYTES), str(path))
    except Unavailable as error:
        raise MalformedInput(f"attestation.quirks: {error}") from error


def _selection(fields: Fields) -> PcrSelection:
    banks = fields.fields("pcrs")
    found: dict[HashAlg, list[int]] = {}
    names = banks.keys()
    for name in names:
        if name not in STRONG_HASHES_BY_NAME:
            raise banks.wrong(name, f"one of the banks {', '.join(STRONG_HASHES_BY_NAME)}")
        pcrs = banks.items(name, max_items=PCR_COUNT)
        numbers = [pcr for pcr in pcrs if type(pcr) is int and 0 <= pcr <= LAST_PCR]
        if not numbers or len(set(numbers)) != len(pcrs):
            raise banks.wrong(name, f"a list of different PCRs from 0 to {LAST_PCR}")
        found[STRONG_HASHES_BY_NAME[name]] = [*numbers, EPOCH_PCR]
    if not found:
        raise fields.wrong("pcrs", "a mapping with at least one bank")
    return PcrSelection.of(found)


def _releases(fields: Fields) -> int:
    per_minute = fields.integer("per_minute", low=1, high=1_000_000)
    fields.done()
    return per_minute
