"""A machine with a software TPM: manufactured by a vendor, booted from an event log, tampered with by real extends.

The machine does to swtpm what real machines do to their TPM: power, reset, measured boot, the kernel's measurements of
files. Its directory holds the logs of the present boot. Programs of an operating system (agents, tpm2-tools) connect to
:attr:`Machine.tcti`, several processes at once.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from nodeseal.errors import NotFound, OutOfOrder, Unavailable
from nodeseal.swtpm import commands
from nodeseal.swtpm.ima import Ima
from nodeseal.swtpm.process import TpmProcess
from nodeseal.swtpm.resource_manager import ResourceManager
from nodeseal.swtpm.server import TpmServer
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.ek_template import EkTemplate, template
from nodeseal.tpm.handles import PermanentHandle
from nodeseal.tpm.public import TpmPublic, decode_public_2b
from nodeseal.uefi.event_log import EventLog, decode_event_log, startup_locality

EK_TEMPLATES: Final = {"rsa": "L-1", "ecc": "L-2"}
"""Short names of the two endorsement keys that nearly every TPM has. Other keys have their template's name."""
_AGGREGATED: Final = (HashAlg.SHA256, HashAlg.SHA1, HashAlg.SHA384, HashAlg.SHA512)
"""Banks for ``boot_aggregate``, best first: Linux prefers SHA-256 (ima_crypto.c, ima_calc_boot_aggregate)."""
_CHAIN_NV: Final = 0x01C00100
"""First NV index of the vendor's intermediate certificates (EK Credential Profile v2.5)."""
_STATE, _SOCKET, _LOG = "state", "tpm", "swtpm.log"
_BOOT_LOG, _IMA_LOG = "boot-log", "binary_runtime_measurements"


class Machine:
    """One machine in ``directory``. :meth:`manufacture` makes one; the constructor opens an existing one.

    Use it as a context manager: it is started on entry and stopped on exit.

    Raises:
        NotFound: ``directory`` holds no machine.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        if not (self.directory / _STATE).is_dir():
            raise NotFound(f"{directory}: no machine here", remedy="manufacture one first")
        self._process: TpmProcess | None = None
        self._server: TpmServer | None = None

    @classmethod
    def manufacture(
        cls, directory: Path, *, name: str, vendor: TpmVendor, ek: str = "ecc", banks: tuple[str, ...] = ("sha256",)
    ) -> Self:
        """Make a machine in ``directory/name``. Its TPM has its own seeds and a certificate of ``vendor``.

        Args:
            directory: folder of machines; keep its path short, because a socket's path has at most 108 bytes.
            name: name of the machine.
            vendor: vendor that signs the endorsement key's certificate.
            ek: ``ecc`` (P-256), ``rsa`` (2048) or a template of the EK Credential Profile, such as ``H-3``.
            banks: active PCR banks.

        Raises:
            MalformedInput: an unknown bank or template.
            Unavailable: swtpm is not installed or refuses.
        """
        ek_template = template(EK_TEMPLATES.get(ek, ek))
        active = frozenset(map(HashAlg.from_name, banks))
        home = directory / name
        (home / _STATE).mkdir(parents=True)
        process = TpmProcess(home / _STATE, home / _LOG)
        try:
            _provision(process, vendor, ek_template, active)
        finally:
            process.close()
        return cls(home)

    @property
    def name(self) -> str:
        """Name of the machine."""
        return self.directory.name

    @property
    def tcti(self) -> str:
        """The TCTI for tpm2-tss, ``swtpm:path=…``. It serves any number of processes while the machine runs."""
        return f"swtpm:path={self.socket}"

    @property
    def socket(self) -> Path:
        """The TPM's socket, which takes commands while the machine runs."""
        return self.directory / _SOCKET

    @property
    def boot_log_file(self) -> Path:
        """The boot log. It is absent if the machine was started without one."""
        return self.directory / _BOOT_LOG

    @property
    def ima_log_file(self) -> Path:
        """The IMA log. It is absent until something is measured after the start."""
        return self.directory / _IMA_LOG

    @property
    def running(self) -> bool:
        """Whether the machine has power."""
        return self._process is not None

    def start(self, locality: int = 0) -> None:
        """Turn the machine on with TPM2_Startup(CLEAR) from ``locality``. Only :meth:`boot` measures something."""
        if self._process is not None:
            raise OutOfOrder(f"{self.name}: already running")
        self._forget_logs()
        process = TpmProcess(self.directory / _STATE, self.directory / _LOG)
        try:
            process.startup(locality)
            self._server = TpmServer(self.socket, ResourceManager(process.transact))
        except BaseException:
            process.kill()
            raise
        self._process = process
        atexit.register(self.stop)

    def stop(self) -> None:
        """Turn the machine off in order (TPM2_Shutdown). Do nothing if it is off."""
        if self._process is not None:
            with contextlib.suppress(Unavailable):  # swtpm may have been killed
                self._process.transact(commands.shutdown())
            self._end().close()

    def power_cut(self) -> None:
        """Cut the power, without TPM2_Shutdown, so that the clock is not safe afterwards."""
        if self._process is not None:
            self._end().kill()

    def reset(self, locality: int = 0) -> None:
        """Reboot: resetCount grows by one, PCRs start anew, all clients lose their objects and sessions."""
        process, server = self._on()
        self._forget_logs()
        process.transact(commands.shutdown())
        server.reset(lambda: process.reset(locality))

    def boot(self, event_log: bytes, *, ima: bool = False) -> EventLog:
        """Start or reboot, then extend every event of ``event_log`` in all its banks, like firmware and loaders.

        Args:
            event_log: the boot log; kept as :attr:`boot_log_file`.
            ima: whether the kernel measures ``boot_aggregate`` now; otherwise it does so before the first file.

        Raises:
            MalformedInput: the log does not parse.
            Unavailable: the TPM refuses an extend.
        """
        log = decode_event_log(event_log)
        power_on = self.reset if self.running else self.start
        power_on(startup_locality(log))
        for event in log.extended():
            self._extend(event.pcr, event.digests)
        self.boot_log_file.write_bytes(event_log)
        if ima:
            self._ima()
        return log

    def measure(
        self, path: str | bytes, content: bytes = b"", *, digest: bytes | None = None, signature: bytes = b""
    ) -> None:
        """Let the kernel measure a file that is run: an entry in the IMA log, an extend of PCR 10.

        Args:
            path: name of the file.
            content: bytes of the file; their SHA-256 is measured.
            digest: digest instead of ``content``; its size tells the algorithm.
            signature: extended attribute ``security.ima`` of the file.

        Raises:
            MalformedInput: no algorithm has a digest of this size.
        """
        self._ima().measure(_raw(path), HashAlg.SHA256.digest(content) if digest is None else digest, signature)

    def violate(self, path: str | bytes) -> None:
        """Let the kernel record a violation: a file that was open for writing while it was measured."""
        self._ima().violate(_raw(path))

    def replay_ima(self, raw_log: bytes, bank: HashAlg = HashAlg.SHA1) -> None:
        """Let the kernel measure what another machine measured. The IMA log becomes that machine's.

        Args:
            raw_log: a whole log, including ``boot_aggregate``.
            bank: bank of its template digests.

        Raises:
            MalformedInput: the log does not parse.
        """
        Ima(self.ima_log_file, self._extend).replay(raw_log, bank)

    def extend(self, pcr: int, digest: bytes, bank: str = "sha256") -> None:
        """Extend one PCR of one bank, like measuring software. A tampered machine cannot avoid such extends."""
        self._extend(pcr, {HashAlg.from_name(bank): digest})

    def read_pcrs(self, bank: str = "sha256") -> dict[int, bytes]:
        """Return all PCRs of a bank; empty if the bank is not active."""
        process, _ = self._on()
        alg, values = HashAlg.from_name(bank), dict[int, bytes]()
        for command in commands.pcr_reads(alg):
            values |= commands.decode_pcr_read(process.transact(command))
        return values

    def snapshot(self, target: Path) -> None:
        """Copy the TPM's state, like an attacker with access to the storage of a virtual TPM."""
        shutil.copytree(self.directory / _STATE, target)

    def restore(self, snapshot: Path) -> None:
        """Replace the TPM's state with an earlier :meth:`snapshot`.

        Raises:
            OutOfOrder: the machine is running.
        """
        if self.running:
            raise OutOfOrder(f"{self.name}: still running")
        shutil.rmtree(self.directory / _STATE)
        shutil.copytree(snapshot, self.directory / _STATE)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ima(self) -> Ima:
        ima = Ima(self.ima_log_file, self._extend)
        if not self.ima_log_file.exists():
            read = ((self.read_pcrs(bank.hashlib_name), bank) for bank in _AGGREGATED)
            ima.begin(*next((pcrs, bank) for pcrs, bank in read if pcrs))
        return ima

    def _forget_logs(self) -> None:
        for log in (self.boot_log_file, self.ima_log_file):
            log.unlink(missing_ok=True)

    def _extend(self, pcr: int, digests: Mapping[HashAlg, bytes]) -> None:
        process, _ = self._on()
        commands.body(process.transact(commands.pcr_extend(pcr, digests)), f"TPM2_PCR_Extend of PCR {pcr}")

    def _on(self) -> tuple[TpmProcess, TpmServer]:
        if self._process is None or self._server is None:
            raise OutOfOrder(f"{self.name}: not running")
        return self._process, self._server

    def _end(self) -> TpmProcess:
        process, server = self._on()
        server.close()
        self._process = self._server = None
        atexit.unregister(self.stop)
        return process


def _raw(path: str | bytes) -> bytes:
    return path if isinstance(path, bytes) else path.encode()


def _provision(process: TpmProcess, vendor: TpmVendor, ek: EkTemplate, banks: frozenset[HashAlg]) -> None:
    process.startup()
    commands.body(process.transact(commands.pcr_allocate(banks)), "TPM2_PCR_Allocate")
    process.transact(commands.shutdown())
    process.reset()
    _write_certificate(process, ek.certificate_nv_index, vendor.issue(_endorsement_key(process, ek)))
    _write_certificate(process, _CHAIN_NV, vendor.intermediate)
    process.transact(commands.shutdown())


def _endorsement_key(process: TpmProcess, ek: EkTemplate) -> TpmPublic:
    response = commands.body(
        process.transact(commands.create_primary(PermanentHandle.ENDORSEMENT, ek.public)), "TPM2_CreatePrimary"
    )
    handle = response.u32("objectHandle")
    response.u32("parameterSize")
    public = response.sized("outPublic", 1024)
    process.transact(commands.flush_context(handle))
    return decode_public_2b(len(public).to_bytes(2, "big") + public)


def _write_certificate(process: TpmProcess, index: int, certificate: bytes) -> None:
    for command in (commands.nv_define_certificate(index, len(certificate)), *commands.nv_writes(index, certificate)):
        commands.body(process.transact(command), f"writing NV index 0x{index:08x}")
