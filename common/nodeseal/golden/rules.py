"""The rules that a golden may hold besides exact PCR values: frozen values, which the appraisal compares with evidence.

A rule that is ``None`` is absent. An empty rule would allow nothing or say nothing, so the document's parser refuses
it, and goldens refuse sections without a rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from nodeseal.tpm.algorithms import HashAlg


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A span of time, both ends included.

    Attributes:
        start: first moment; None: no beginning.
        end: last moment; None: no end.
    """

    start: datetime | None = None
    end: datetime | None = None

    def meets(self, since: datetime, until: datetime) -> bool:
        """Tell whether the window contains a moment from ``since`` to ``until``."""
        return (self.start is None or self.start <= until) and (self.end is None or self.end >= since)


ALWAYS = Window()
EK_ALGORITHMS = ("rsa2048", "rsa3072", "rsa4096", "ecc-p256", "ecc-p384", "ecc-p521")
"""Kinds of endorsement keys (TCG EK Credential Profile), as goldens name them."""
MAX_WHAT = 65_536
"""Characters of a reference event's data; GRUB measures whole menus."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """An authority whose signature firmware, shim or loader may have relied on to run an image.

    Attributes:
        sha256: SHA-256 of its certificate in DER, or of other signature data (a hash entry of db) as measured.
        name: for people.
    """

    sha256: bytes
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A boot image, identified by its Authenticode digest, or a measured file, identified by its content's digest.

    Attributes:
        name: file name for people and findings; not compared, because no digest covers it.
        digests: allowed digests in the bank of the rules.
    """

    name: str
    digests: frozenset[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class BootRules:
    """Rules over what the boot log proves (PC Client Platform Firmware Profile).

    Attributes:
        bank: the bank whose digests the rules name.
        secure_boot: whether secure boot must be on, in user or deployed mode.
        dma_protection: whether firmware must not have said that DMA protection was off (PCR 7).
        signers: the only authorities that may have vouched for an image (EV_EFI_VARIABLE_AUTHORITY).
        images: the chain of images that ran from PCR 4 (boot loaders, UKIs, kernels): each once, in this order, and no
            other. A set would let a kernel start without the boot loader that measures how it is started.
        drivers: the only images that may have run from PCR 2 (option ROMs, UEFI drivers).
        dbx: SHA-256 digests of images that the forbidden list must contain at least.
        command_lines: patterns (:func:`~nodeseal.golden.patterns.command_line_matches`, not regular expressions); each
            proved kernel command line must match one of them completely.
        sections: allowed digests of a unified kernel image's sections by name (PCR 11), such as ``.linux``.
        files: the only files that the boot loader may have read (GRUB, PCR 9).
        gpt: allowed digests of the partition table event (PCR 5).
        loader_conf: allowed digests of systemd-boot's settings (PCR 5).
        addons: the only add-ons, credentials and extensions that systemd-stub may have passed on (PCR 12), by digest.
        phases: words of a system other than systemd that it measures into PCR 11 as it starts, in order. They let
            PCR 11 be proved, and are no rule by themselves.
    """

    bank: HashAlg = HashAlg.SHA256
    secure_boot: bool = False
    dma_protection: bool = False
    signers: tuple[Signer, ...] | None = None
    images: tuple[Image, ...] | None = None
    drivers: tuple[Image, ...] | None = None
    dbx: frozenset[bytes] = frozenset()
    command_lines: tuple[str, ...] | None = None
    sections: Mapping[str, frozenset[bytes]] | None = None
    files: tuple[Image, ...] | None = None
    gpt: frozenset[bytes] | None = None
    loader_conf: frozenset[bytes] | None = None
    addons: tuple[Image, ...] | None = None
    phases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FileDigest:
    """One content that a file may have.

    Attributes:
        digest: digest of the file by IMA's algorithm, which its size tells.
        valid: when a measurement of this content counts.
    """

    digest: bytes
    valid: Window = ALWAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key whose IMA file signatures count.

    Attributes:
        spki: SubjectPublicKeyInfo in DER.
        name: for people.
        valid: when a measurement of a file counts that was signed with the key.
    """

    spki: bytes
    name: str = ""
    valid: Window = ALWAYS


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeRules:
    """Rules over the IMA log. Paths have the spelling of :func:`~nodeseal.golden.paths.path_text`.

    Attributes:
        files: allowed contents by path.
        keys: keys whose signed files may have any content.
        excludes: exact paths, or folders with a final ``/``, that are not compared.
        violations: exact paths of files that may be written while IMA measures them.
        buffers: allowed digests of measured buffers (ima-buf) by name, such as ``kexec-cmdline``.
    """

    files: Mapping[str, tuple[FileDigest, ...]]
    keys: tuple[SigningKey, ...] = ()
    excludes: tuple[str, ...] = ()
    violations: frozenset[str] = frozenset()
    buffers: Mapping[str, frozenset[bytes]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformRules:
    """Rules over the TPM itself.

    Attributes:
        manufacturers: allowed makers (TCG vendor ids in the EK certificate, such as ``IFX``).
        firmware: lowest firmware version in the quote, as four 16-bit numbers.
        ek_algorithms: allowed endorsement keys, of :data:`EK_ALGORITHMS`.
    """

    manufacturers: frozenset[str] | None = None
    firmware: tuple[int, int, int, int] | None = None
    ek_algorithms: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceEvent:
    """One event of the boot that a golden was made from. It explains differences and is the base of predictions.

    No verdict depends on it. The reference events of a PCR with exact values must replay to one of these values.

    Attributes:
        pcr: the PCR that was extended.
        claimed_type: the event's type.
        digests: extended digests, in the banks of the golden.
        what: the data as readable text.
    """

    pcr: int
    claimed_type: int
    digests: Mapping[HashAlg, bytes]
    what: str = ""
