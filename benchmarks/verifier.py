"""A real verifier in a process of its own, kept on one core; what it costs is read from the kernel."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc
from grpc import aio

from benchmarks.harness import Missing, pinned
from nodeseal.ids import PersonId
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.verifier.setup import OwnCertificates, SetupPlan, initialise

TRUST_DOMAIN: Final = "bench.example"
VERIFIER_CORE: Final = 0
CLIENT_CORE: Final = 1
_ADMIN: Final = PersonId("admin")
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 60.0
_OPTIONS: Final = [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]
_UTIME, _STIME = 11, 12
"""Fields of /proc/PID/stat behind the command's closing parenthesis (proc(5))."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifierProcess:
    """A verifier that runs.

    Attributes:
        pid: of the process.
        folder: what ``nodeseal-verifier init`` made.
        vendor: the TPM vendor that it trusts.
        listen: address for nodes and people.
        listen_enrol: address for enrolment.
    """

    pid: int
    folder: Path
    vendor: TpmVendor
    listen: str
    listen_enrol: str

    def cpu_seconds(self) -> float:
        """Return the processor time that all its threads have used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("ascii").rpartition(")")[2].split()
        return (int(fields[_UTIME]) + int(fields[_STIME])) / os.sysconf("SC_CLK_TCK")

    def resident_kib(self) -> int:
        """Return the memory that it holds."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        return int(status.partition("VmRSS:")[2].split()[0])

    def channel(self, key: bytes, chain: bytes) -> aio.Channel:
        """Return a connection of its own with a client certificate (PEM)."""
        credentials = grpc.ssl_channel_credentials(self._authority(), key, chain)
        return aio.secure_channel(self.listen, credentials, _OPTIONS)

    def enrolment_channel(self) -> aio.Channel:
        """Return a connection for enrolments."""
        return aio.secure_channel(self.listen_enrol, grpc.ssl_channel_credentials(self._authority()), _OPTIONS)

    def admin_channel(self) -> aio.Channel:
        """Return the first person's connection."""
        folder = self.folder / "persons" / _ADMIN
        return self.channel((folder / "person.key").read_bytes(), (folder / "person.pem").read_bytes())

    def _authority(self) -> bytes:
        return (self.folder / "ca.pem").read_bytes()


@contextmanager
def running_verifier(folder: Path, vendor: TpmVendor, **settings: int) -> Iterator[VerifierProcess]:
    """Set a verifier up in ``folder`` and run it; ``settings`` replace those that ``init`` writes, by key."""
    plan = SetupPlan(
        trust_domain=TRUST_DOMAIN,
        server_names=("localhost", "127.0.0.1"),
        listen="127.0.0.1:0",
        listen_enrol="127.0.0.1:0",
        ek_roots=vendor.roots_dir,
        admin=_ADMIN,
        own=OwnCertificates(),
    )
    initialise(folder, plan, datetime.now(UTC))
    config = folder / "verifier.yaml"
    config.write_text(with_settings(config.read_text(), settings))
    with (folder / "log").open("wb") as log, pinned(VERIFIER_CORE):
        command = [sys.executable, "-m", "nodeseal.verifier", "run", "--config", str(config)]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)  # noqa: S603 - our own
    try:
        addresses = _ready(process, folder / "log")
        listen, listen_enrol = addresses["listen"], addresses["listen_enrol"]
        yield VerifierProcess(pid=process.pid, folder=folder, vendor=vendor, listen=listen, listen_enrol=listen_enrol)
    finally:
        _stop(process)


def with_settings(text: str, settings: Mapping[str, int]) -> str:
    """Return a ``verifier.yaml`` with integers replaced by key.

    Raises:
        KeyError: there is no such key, or more than one.
    """
    for key, value in settings.items():
        text, count = re.subn(rf"^(\s*{key}:) \d+", rf"\g<1> {value}", text, flags=re.MULTILINE)
        if count != 1:
            raise KeyError(key)
    return text


def _ready(process: subprocess.Popen[bytes], log: Path) -> Mapping[str, str]:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        lines = [line for line in log.read_text().splitlines() if '"event": "ready"' in line]
        if lines:
            found: Mapping[str, str] = json.loads(lines[0])
            return found
        time.sleep(0.05)
    raise Missing(f"the verifier does not start: {log.read_text()[-500:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_STOP_SECONDS)
