"""Golden measurements: what a trustworthy machine may have booted and may run, under a name (DESIGN §6).

A golden's identity is the SHA-256 of its content in canonical JSON (:func:`document_of`). Comments and the order of
keys do not matter, and an edited golden is another golden. A golden that says nothing (no bank, no PCR, no value, no
rule) is refused: nothing configured means nothing trusted. SHA-1 banks are refused, because an attacker can make two
boot components with the same SHA-1 and swap them.

Goldens may pin PCRs that only a reset of the platform clears and that do not change while a node runs (PC Client
Platform TPM Profile, "PCR Initial and Reset Values").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from nodeseal.documents import encode_json
from nodeseal.egress.document import EgressDocument, egress_plain
from nodeseal.errors import MalformedInput
from nodeseal.golden.canonical import (
    Plain,
    boot_plain,
    pcrs_plain,
    platform_plain,
    reference_plain,
    runtime_plain,
    window_plain,
)
from nodeseal.golden.rules import ALWAYS, BootRules, PlatformRules, ReferenceEvent, RuntimeRules, Window
from nodeseal.ids import Digest, digest_of, parse_name
from nodeseal.tpm.algorithms import STRONG_HASHES, HashAlg
from nodeseal.tpm.pcr import LAST_PCR
from nodeseal.tpm.pcr_usage import (
    COMMAND_LINE_PCRS,
    DEBUG_PCR,
    EPOCH_PCR,
    FILE_PCR,
    IMA_PCR,
    SECURE_BOOT_PCR,
    STUB_COMMAND_LINE_PCR,
    STUB_PCR,
)

GOLDEN_FORMAT = "nodeseal/golden/1"
MAX_VALUES = 64
"""Highest number of values for one PCR; more would be a rule, not a measurement."""

_IMAGES, _SECURE_BOOT = 4, 7
_PCRS_OF_RULES = {
    "secure_boot": {SECURE_BOOT_PCR},
    "dma_protection": {SECURE_BOOT_PCR},
    "signers": {SECURE_BOOT_PCR},
    "dbx": {SECURE_BOOT_PCR},
    "images": {4},
    "drivers": {2},
    "command_lines": {*COMMAND_LINE_PCRS},
    "sections": {STUB_PCR},
    "files": {FILE_PCR},
    "gpt": {5},
    "loader_conf": {5},
    "addons": {STUB_COMMAND_LINE_PCR},
}
"""PCRs with the events of each boot rule (PC Client Platform Firmware Profile; GRUB; systemd-stub)."""
NOT_PINNABLE = {
    IMA_PCR: "it changes with every file that IMA measures",
    DEBUG_PCR: "any process may reset it",
    EPOCH_PCR: "it is the lease epoch, to which the agent gives another random value again and again",
}

PcrValues = Mapping[HashAlg, Mapping[int, frozenset[bytes]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Allowed PCR values and rules under a name. Two goldens are equal when their digests are.

    Attributes:
        name: for people; part of the identity.
        pcrs: allowed values by bank and PCR.
        boot: rules over the boot log, where exact values would be too narrow.
        runtime: rules over the IMA log; None: the golden does not look at what runs after boot.
        platform: rules over the TPM.
        egress: limits of the bytes that leave a node; None: the golden demands none.
        valid: when the golden counts.
        nodes: labels of the nodes that the golden is for; empty: any node.
        reference: what a machine measured when the golden was made; only explains.
        digest: SHA-256 of the content in canonical JSON.

    Raises:
        MalformedInput: a bad name, neither values nor boot rules, a section without a rule, a PCR that must not be
            pinned, no value, or one of the wrong size.
    """

    name: str
    pcrs: PcrValues = field(compare=False)
    boot: BootRules | None = field(default=None, compare=False)
    runtime: RuntimeRules | None = field(default=None, compare=False)
    platform: PlatformRules | None = field(default=None, compare=False)
    egress: EgressDocument | None = field(default=None, compare=False)
    valid: Window = field(default=ALWAYS, compare=False)
    nodes: Mapping[str, str] = field(default_factory=dict, compare=False)
    reference: tuple[ReferenceEvent, ...] = field(default=(), compare=False)
    digest: Digest = field(init=False)

    def __post_init__(self) -> None:
        parse_name(self.name, "golden name")
        if not (self.pcrs or self.boot) or not all(self.pcrs.values()):
            raise MalformedInput(
                f"golden {self.name}: a golden needs exact PCR values or boot rules, and a bank at least one PCR"
            )
        if section := _says_nothing(self):
            raise MalformedInput(f"golden {self.name}: {section} has no rule", remedy=f"leave {section} out")
        for bank, pcr, allowed in _rows(self.pcrs):
            if bank not in STRONG_HASHES:
                raise MalformedInput(f"golden {self.name}: {bank.hashlib_name} is not a bank that goldens may pin")
            if problem := shortfall(bank, pcr, allowed):
                raise MalformedInput(f"golden {self.name}: {bank.hashlib_name} PCR {pcr} is not {problem}")
        frozen = {bank: MappingProxyType(dict(sorted(self.pcrs[bank].items()))) for bank in sorted(self.pcrs)}
        object.__setattr__(self, "pcrs", MappingProxyType(frozen))
        object.__setattr__(self, "nodes", MappingProxyType(dict(self.nodes)))
        object.__setattr__(self, "digest", digest_of(encode_json(document_of(self))))

    def rows(self) -> Iterator[tuple[HashAlg, int, frozenset[bytes]]]:
        """Iterate (bank, PCR, allowed values), banks and PCRs ascending."""
        return _rows(self.pcrs)

    def static_pcrs(self) -> Mapping[HashAlg, frozenset[int]]:
        """Return the PCRs that tell what booted: those with exact values, and those whose events boot rules look at.

        They do not change until the next boot, so a release key can be bound to them. PCR 10 is never among them.
        """
        pinned = {bank: frozenset(rows) for bank, rows in self.pcrs.items()}
        if self.boot is None:
            return pinned
        return {**pinned, self.boot.bank: pinned.get(self.boot.bank, frozenset()) | pcrs_of_rules(self.boot)}

    @property
    def looks_at_boot(self) -> bool:
        """Whether the golden refuses unexpected boot images.

        That takes exact values of PCR 4, or a list of images, or secure boot together with its signers. PCR 11 alone is
        not enough: it is zero until a unified kernel image starts, so any other image can extend it to the expected
        value.
        """
        if any(_IMAGES in rows for rows in self.pcrs.values()):
            return True
        if self.boot is None:
            return False
        keys_pinned = any(_SECURE_BOOT in rows for rows in self.pcrs.values())
        signed = self.boot.secure_boot and (self.boot.signers is not None or keys_pinned)
        return self.boot.images is not None or signed


def _says_nothing(golden: Golden) -> str:
    """Name a section without a rule, or return an empty text. The digest would not show such a section."""
    if golden.boot is not None and not pcrs_of_rules(golden.boot):
        return "boot"
    if golden.runtime is not None and not (golden.runtime.files or golden.runtime.keys):
        return "runtime"
    return "platform" if golden.platform is not None and not platform_plain(golden.platform) else ""


def _rows(pcrs: PcrValues) -> Iterator[tuple[HashAlg, int, frozenset[bytes]]]:
    for bank, values in pcrs.items():
        for pcr, allowed in values.items():
            yield bank, pcr, allowed


def document_of(golden: Golden) -> Plain:
    """Return the plain values from which the YAML and the digest of ``golden`` are made."""
    sections: Plain = {
        "pcrs": pcrs_plain(golden.pcrs),
        "boot": boot_plain(golden.boot) if golden.boot else None,
        "runtime": runtime_plain(golden.runtime) if golden.runtime else None,
        "platform": platform_plain(golden.platform) if golden.platform else None,
        "egress": egress_plain(golden.egress) if golden.egress else None,
        "valid": window_plain(golden.valid),
        "nodes": dict(sorted(golden.nodes.items())),
        "reference": reference_plain(golden.reference),
    }
    return {"format": GOLDEN_FORMAT, "name": golden.name, **{key: value for key, value in sections.items() if value}}


def pcrs_of_rules(rules: BootRules) -> frozenset[int]:
    """Return the PCRs whose events ``rules`` look at."""
    return frozenset().union(*(pcrs for rule, pcrs in _PCRS_OF_RULES.items() if getattr(rules, rule)))


def shortfall(bank: HashAlg, pcr: int, allowed: frozenset[bytes]) -> str:
    """Say what one PCR's entry should be, or return an empty text if it is right."""
    if pcr in NOT_PINNABLE:
        return f"a PCR that a golden may pin: {NOT_PINNABLE[pcr]}"
    if not 0 <= pcr <= LAST_PCR:
        return f"the number of a PCR (0 to {LAST_PCR})"
    if not allowed:
        return "a list of at least one allowed value"
    if any(len(value) != bank.digest_size for value in allowed):
        return f"a list of {bank.hashlib_name} digests ({bank.digest_size} bytes in hex)"
    return ""
