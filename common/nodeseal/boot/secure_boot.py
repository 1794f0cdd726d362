"""What PCR 7 proves: the state of secure boot, and the authorities behind the images that ran.

Firmware measures SecureBoot, PK, KEK, db and dbx, each once, then a separator, then each authority by which it let an
image run. shim measures its own afterwards (PFP 1.06, "Secure Boot Policy Measurements").
Events are distinguished by what their digests prove (the variable's vendor, name and content) and by their order, never
by their claimed types:

- The first value of a state variable before the separator counts. The same variable again, or after the separator, is
  an authority if its content is one signature. Otherwise it is an objection for rules about secure boot.
- An event that cannot be read is an unknown authority. An event whose data is not proved may be anything
  (:attr:`SecureBoot.objections`), so hiding one gains nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from nodeseal.boot.measured import Measurement, Objection, digests_of, is_action
from nodeseal.errors import MalformedInput
from nodeseal.findings import FindingId
from nodeseal.inert import inert
from nodeseal.tpm.pcr_usage import SECURE_BOOT_PCR
from nodeseal.uefi.efi_variable import EfiVariable, decode_efi_variable
from nodeseal.uefi.guid import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE
from nodeseal.uefi.signature_database import (
    SHA256,
    X509,
    SignatureEntry,
    decode_signature_data,
    decode_signature_lists,
)
from nodeseal.x509.certificate import decode_certificate, name_text

_FLAGS: Final = frozenset((GLOBAL_VARIABLE, name) for name in ("SecureBoot", "SetupMode", "AuditMode", "DeployedMode"))
_DATABASES: Final = frozenset(
    (
        (GLOBAL_VARIABLE, "PK"),
        (GLOBAL_VARIABLE, "KEK"),
        *((IMAGE_SECURITY_DATABASE, name) for name in ("db", "dbx", "dbt", "dbr")),
    )
)
_STATE: Final = _FLAGS | _DATABASES
"""Variables that make up the state (UEFI Specification 2.10, "Globally Defined Variables", "Signature Database")."""
_DEBUGGER: Final = b"UEFI Debug Mode"
_DMA: Final = b"dma protection"
"""In the word by which firmware says that devices could read memory: ``DMA Protection Disabled``."""
_MAX_WORD: Final = 128
_SBAT: Final = "SbatLevel"
_NO_VALIDATION: Final = b"MokSBState"
_ON: Final = b"\1"


@dataclass(frozen=True, slots=True, kw_only=True)
class FirmwareWord:
    """A line of text that firmware measured into PCR 7, before or after the separator.

    Attributes:
        measurement: the event.
        text: the line without NUL, inert, for people; its content is proved.
        is_about_dma: whether it says that DMA protection was off. Firmware measures nothing while it is on.
    """

    measurement: Measurement
    text: str
    is_about_dma: bool


class SecureBootMode(Enum):
    """The mode that the measured variables describe (UEFI Specification 2.10, "Secure Boot Modes")."""

    USER = "user"
    SETUP = "setup"
    AUDIT = "audit"
    DEPLOYED = "deployed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureBoot:
    """The state of secure boot: the first values before the separator of PCR 7.

    Attributes:
        proved: whether PCR 7 is proved and has its separator.
        values: content of each state variable that was measured, by name.
        validation_off: whether shim was told to check no signatures (MokSBState), or a firmware debugger was on.
        objections: findings for rules about secure boot: state that was measured too late or twice, or an event whose
            data is not proved, so that its effect is unknown.
        words: lines of text of the firmware.
        unread: objections to events whose data is not proved; any of them may be a line of text.
    """

    proved: bool = False
    values: Mapping[str, bytes] = field(default_factory=dict)
    validation_off: bool = False
    objections: tuple[Objection, ...] = ()
    words: tuple[FirmwareWord, ...] = ()
    unread: tuple[Objection, ...] = ()

    @property
    def enabled(self) -> bool:
        """Whether SecureBoot was 1."""
        return self.values.get("SecureBoot") == _ON

    @property
    def mode(self) -> SecureBootMode:
        """The mode. Without a platform key it is setup mode."""
        if self.values.get("AuditMode") == _ON:
            return SecureBootMode.AUDIT
        if self.values.get("SetupMode") == _ON or self.values.get("PK") == b"":
            return SecureBootMode.SETUP
        if "PK" not in self.values:
            return SecureBootMode.UNKNOWN
        return SecureBootMode.DEPLOYED if self.values.get("DeployedMode") == _ON else SecureBootMode.USER

    def forbidden_images(self) -> frozenset[bytes]:
        """Return the SHA-256 digests of images in dbx."""
        try:
            lists = decode_signature_lists(self.values.get("dbx", b""))
        except MalformedInput:
            return frozenset()
        return frozenset(digest for each in lists if each.kind == SHA256 for digest in each.data())


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The certificate or hash by which an image was accepted.

    Attributes:
        measurement: the event.
        variable: the list that holds it, such as ``db``, ``MokList`` or ``Shim``; empty: it cannot be read.
        entry: the certificate or hash; None: it cannot be read, or no digest proves it.
    """

    measurement: Measurement
    variable: str = ""
    entry: SignatureEntry | None = None

    @property
    def sha256(self) -> bytes | None:
        """SHA-256 of the certificate in DER, or of other signature data."""
        return hashlib.sha256(self.entry.data).digest() if self.entry else None

    @property
    def subject(self) -> str:
        """The certificate's subject, for people."""
        if self.entry is None or self.entry.kind != X509:
            return ""
        try:
            return name_text(decode_certificate(self.entry.data).subject)
        except MalformedInput:
            return "(unreadable)"

    def __str__(self) -> str:
        sha256 = self.sha256
        return f"{self.variable} {sha256.hex() if sha256 else ''} {self.subject}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureBootPolicy:
    """All claims of PCR 7.

    Attributes:
        secure_boot: the state.
        signers: authorities, in order.
        sbat_level: shim's SbatLevel in one inert line, or an empty string.
    """

    secure_boot: SecureBoot
    signers: tuple[Authority, ...]
    sbat_level: str


def secure_boot_word(state: SecureBoot) -> str:
    """Return the state of secure boot in a word or two, for people: its mode, ``off``, or ``not proved``."""
    if not state.proved:
        return "not proved"
    return state.mode.value if state.enabled else "off"


def read_policy(policy: Sequence[Measurement], shim: Iterable[Measurement]) -> SecureBootPolicy:
    """Read PCR 7, and what shim measured into PCR 14."""
    reader = _PolicyReader()
    for each in policy:
        reader.read(each)
    state = SecureBoot(
        proved=reader.separated,
        values=reader.values,
        validation_off=reader.debugger or any(map(_is_validation_off, shim)),
        objections=tuple(reader.objections),
        words=tuple(reader.words),
        unread=tuple(reader.unread),
    )
    return SecureBootPolicy(secure_boot=state, signers=tuple(reader.signers), sbat_level=reader.sbat_level)


class _PolicyReader:
    """Reads PCR 7 once."""

    def __init__(self) -> None:
        self.separated = False
        self.debugger = False
        self.values: dict[str, bytes] = {}
        self.signers: list[Authority] = []
        self.objections: list[Objection] = []
        self.unread: list[Objection] = []
        self.words: list[FirmwareWord] = []
        self.sbat_level = ""

    def read(self, each: Measurement) -> None:
        if each.is_separator:
            self.separated = True
            return
        data = each.proved_data()
        if data is None:
            self.objections.append(each.unread())
            self.unread.append(each.unread())
            self.signers.append(Authority(measurement=each))
            return
        self._word(each, data)
        if variable := _variable(data):
            self._variable(each, variable)
        elif is_action(data):
            self.debugger |= data.startswith(_DEBUGGER)
        else:
            self.signers.append(Authority(measurement=each))

    def _variable(self, each: Measurement, variable: EfiVariable) -> None:
        place = (variable.vendor, variable.name)
        if place in _STATE and (place in _FLAGS or _is_database(variable.data)):
            self._state(each, variable)
        elif variable.name == _SBAT and variable.data.startswith(b"sbat,"):
            self.sbat_level = inert(variable.data.decode("ascii", "backslashreplace"))
        elif not _is_setting(variable.data):
            signer = Authority(measurement=each, variable=inert(variable.name), entry=_entry(variable.data))
            self.signers.append(signer)

    def _word(self, each: Measurement, data: bytes) -> None:
        """Take a line of text, or anything that has a word on DMA protection in it, in UTF-16, too."""
        word = data.replace(b"\0", b"")
        if is_action(word) or _DMA in word.lower():
            text = inert(word.decode("ascii", "backslashreplace"))[:_MAX_WORD]
            self.words.append(FirmwareWord(measurement=each, text=text, is_about_dma=_DMA in word.lower()))

    def _state(self, each: Measurement, variable: EfiVariable) -> None:
        if self.separated or variable.name in self.values:
            self.objections.append(_too_late(each, variable.name))
        else:
            self.values[variable.name] = variable.data


def _variable(data: bytes) -> EfiVariable | None:
    try:
        return decode_efi_variable(data)
    except MalformedInput:
        return None


def _is_database(content: bytes) -> bool:
    try:
        decode_signature_lists(content)
    except MalformedInput:
        return False
    return True


def _is_setting(content: bytes) -> bool:
    """Tell whether a variable of shim is not a signature: a flag, or a list of keys that may be used later."""
    return len(content) <= 1 or _is_database(content)


def _entry(content: bytes) -> SignatureEntry | None:
    try:
        return decode_signature_data(content)
    except MalformedInput:
        return None


def _is_validation_off(each: Measurement) -> bool:
    """Tell whether shim was told to check nothing. The name is claimed, the content is proved."""
    return each.event.data.rstrip(b"\0") == _NO_VALIDATION and each.digest in digests_of((_ON,), each.bank)


def _too_late(each: Measurement, name: str) -> Objection:
    return Objection(
        id=FindingId.UEFI_AFTER_SEPARATOR,
        expected=f"{name} measured once, before the separator",
        seen="another measurement of it",
        where=f"{each.bank.hashlib_name} PCR {SECURE_BOOT_PCR}",
        about=each,
    )
