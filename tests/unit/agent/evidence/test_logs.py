from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
import structlog.testing

from nodeseal.agent.evidence import logs
from nodeseal.agent.evidence.logs import MeasuredLogs
from nodeseal.evidence.logs import ImaDelta, KnownLogs
from nodeseal.swtpm.ima import Ima
from nodeseal.tpm.algorithms import HashAlg

BOOT = "this boot"
FIRMWARE = b"what firmware measured"
PCR_10 = (bytes(32),)
MOVED = (bytes([1]) * 32,)
NOTHING = KnownLogs(boot_id="", boot_log_sha256=b"", ima_offset=0)


class Host:
    """Both logs, and how often each was opened."""

    def __init__(self, folder: Path) -> None:
        self.boot_log = folder / "boot-log"
        self.ima_log = folder / "binary_runtime_measurements"
        self.boot_log.write_bytes(FIRMWARE)
        self.measure("/usr/bin/a")
        self.logs = MeasuredLogs(self.boot_log, self.ima_log)

    def measure(self, path: str) -> None:
        Ima(self.ima_log, lambda _pcr, _digests: None).measure(path.encode(), bytes(32))

    def known(self) -> KnownLogs:
        """What a verifier knows that has judged all there is now."""
        sha256 = hashlib.sha256(self.boot_log.read_bytes()).digest()
        return KnownLogs(boot_id=BOOT, boot_log_sha256=sha256, ima_offset=self.ima_log.stat().st_size)


@pytest.fixture(name="host")
def _host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture(name="reads")
def _reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were read, in order."""
    read, names = logs._read, list[str]()

    def noted(path: Path, offset: int, limit: int) -> bytes | None:
        names.append(path.name)
        return read(path, offset, limit)

    monkeypatch.setattr(logs, "_read", noted)
    return names


@pytest.mark.parametrize(
    "known",
    [
        pytest.param(NOTHING, id="a verifier that knows nothing"),
        pytest.param(
            KnownLogs(boot_id="another", boot_log_sha256=hashlib.sha256(FIRMWARE).digest(), ima_offset=9),
            id="a verifier that knows another boot",
        ),
    ],
)
def test_whole_logs_are_new_to(host: Host, known: KnownLogs) -> None:
    new = host.logs.beyond(known, BOOT, PCR_10)
    assert new.boot_log == FIRMWARE
    assert new.ima == ImaDelta(offset=0, entries=host.ima_log.read_bytes())


def test_only_what_lies_beyond_the_offset_is_new_to_a_verifier_that_knows_this_boot(host: Host) -> None:
    known = host.known()
    host.measure("/usr/bin/b")
    new = host.logs.beyond(known, BOOT, MOVED)
    assert new.boot_log is None
    assert new.ima == ImaDelta(offset=known.ima_offset, entries=host.ima_log.read_bytes()[known.ima_offset :])


def test_a_boot_log_of_another_digest_is_sent_again(host: Host) -> None:
    known = host.known()
    host.boot_log.write_bytes(b"other")
    assert host.logs.beyond(known, BOOT, PCR_10).boot_log == b"other"


def test_a_steady_round_reads_nothing(host: Host, reads: list[str]) -> None:
    for _ in range(3):
        new = host.logs.beyond(host.known(), BOOT, PCR_10)
        assert (new.boot_log, new.ima) == (None, ImaDelta(offset=host.known().ima_offset, entries=b""))
    assert reads == ["boot-log", "binary_runtime_measurements"]


@pytest.mark.parametrize("measured", [pytest.param(MOVED, id="PCR 10 moved"), pytest.param((), id="it is not quoted")])
def test_the_ima_log_is_read_again_when(host: Host, measured: tuple[bytes, ...]) -> None:
    known = host.known()
    host.logs.beyond(known, BOOT, PCR_10 if measured else measured)
    host.measure("/usr/bin/b")
    ima = host.logs.beyond(known, BOOT, measured).ima
    assert ima is not None
    assert ima.entries == host.ima_log.read_bytes()[known.ima_offset :]


def test_a_verifier_that_forgot_gets_everything_although_pcr_10_stood_still(host: Host) -> None:
    host.logs.beyond(host.known(), BOOT, PCR_10)
    new = host.logs.beyond(NOTHING, BOOT, PCR_10)
    assert new.boot_log == FIRMWARE
    assert new.ima == ImaDelta(offset=0, entries=host.ima_log.read_bytes())


def test_another_boot_reads_both_logs_anew(host: Host) -> None:
    known = host.known()
    host.logs.beyond(known, BOOT, PCR_10)
    host.boot_log.write_bytes(b"the next boot")
    new = host.logs.beyond(known, "the next boot", PCR_10)
    assert new.boot_log == b"the next boot"
    assert new.ima == ImaDelta(offset=0, entries=host.ima_log.read_bytes())


def test_logs_that_are_not_there_are_none_and_are_no_complaint(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as lines:
        new = MeasuredLogs(tmp_path / "boot-log", tmp_path / "ima").beyond(NOTHING, BOOT, PCR_10)
    assert (new.boot_log, new.ima, lines) == (None, None, [])


def test_logs_that_may_not_be_read_are_none_and_said_so_once(tmp_path: Path) -> None:
    for name in ("boot-log", "ima"):
        (tmp_path / name).mkdir()
    with structlog.testing.capture_logs() as lines:
        read = MeasuredLogs(tmp_path / "boot-log", tmp_path / "ima")
        for _ in range(3):
            new = read.beyond(NOTHING, BOOT, PCR_10)
    assert (new.boot_log, new.ima) == (None, None)
    assert [line["event"] for line in lines] == ["log not readable", "log not readable"]


@pytest.mark.parametrize("early", ["absent", "empty", "not to be read"])
def test_a_boot_log_that_appears_after_the_first_round_is_sent(host: Host, early: str) -> None:
    host.boot_log.unlink()
    if early == "empty":
        host.boot_log.touch()
    elif early == "not to be read":
        host.boot_log.mkdir()
    assert host.logs.beyond(NOTHING, BOOT, PCR_10).boot_log is None
    if early == "not to be read":
        host.boot_log.rmdir()
    host.boot_log.write_bytes(FIRMWARE)
    nothing_of_this_boot = KnownLogs(boot_id=BOOT, boot_log_sha256=b"", ima_offset=0)
    assert host.logs.beyond(nothing_of_this_boot, BOOT, PCR_10).boot_log == FIRMWARE


def test_an_empty_boot_log_is_none(host: Host) -> None:
    host.boot_log.write_bytes(b"")
    assert host.logs.beyond(NOTHING, BOOT, PCR_10).boot_log is None


@pytest.mark.parametrize(("size", "sent"), [(100, True), (101, False)])
def test_a_boot_log_beyond_the_limit_is_not_sent(
    host: Host, monkeypatch: pytest.MonkeyPatch, *, size: int, sent: bool
) -> None:
    monkeypatch.setattr(logs, "MAX_BOOT_LOG", 100)
    host.boot_log.write_bytes(os.urandom(size))
    with structlog.testing.capture_logs() as lines:
        for _ in range(3):
            new = host.logs.beyond(NOTHING, BOOT, PCR_10)
    assert (new.boot_log is not None, len(lines)) == (sent, 0 if sent else 1)


def test_a_long_ima_log_travels_by_whole_entries_round_by_round(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    size = host.ima_log.stat().st_size
    for _ in range(9):
        host.measure("/usr/bin/a")
    monkeypatch.setattr(logs, "MAX_IMA_DELTA", 2 * size + size // 2)
    known, parts = NOTHING, list[bytes]()
    for _ in range(6):
        ima = host.logs.beyond(known, BOOT, PCR_10).ima
        assert ima is not None
        parts.append(ima.entries)
        known = KnownLogs(boot_id=BOOT, boot_log_sha256=b"", ima_offset=ima.offset + len(ima.entries))
    assert [len(part) // size for part in parts] == [2, 2, 2, 2, 2, 0]
    assert b"".join(parts) == host.ima_log.read_bytes()


@pytest.mark.parametrize(
    ("name", "bank"),
    [
        ("binary_runtime_measurements", HashAlg.SHA1),
        ("binary_runtime_measurements_sha1", HashAlg.SHA1),
        ("binary_runtime_measurements_sha256", HashAlg.SHA256),
        ("binary_runtime_measurements_sha512", HashAlg.SHA512),
    ],
)
def test_the_name_of_the_file_says_how_wide_template_digests_are(tmp_path: Path, name: str, bank: HashAlg) -> None:
    (tmp_path / name).write_bytes(b"entries")
    ima = MeasuredLogs(tmp_path / "boot-log", tmp_path / name).beyond(NOTHING, BOOT, PCR_10).ima
    assert ima is not None
    assert ima.bank is bank


def test_a_file_that_the_kernel_makes_up_and_whose_size_is_0_is_read_to_its_end(tmp_path: Path) -> None:
    made_up = Path("/proc/crypto")
    assert made_up.stat().st_size == 0
    new = MeasuredLogs(made_up, tmp_path / "none").beyond(NOTHING, BOOT, PCR_10)
    assert new.boot_log == made_up.read_bytes()
