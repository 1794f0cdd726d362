"""A machine's TPM is a real one: own endorsement key and certificate, measured boot, resets, power cuts."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeseal.errors import MalformedInput, NotFound, OutOfOrder, Unavailable
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import EventLog, decode_event_log, encode_event_log, replay
from support.data import shared_data
from support.machines import a_machine, need, tool


@pytest.fixture
def machine(vendor: TpmVendor) -> Iterator[Machine]:
    with a_machine(vendor, banks=("sha256", "sha384")) as machine:
        yield machine


@pytest.mark.parametrize(("ek", "index"), [("ecc", "0x1C0000A"), ("rsa", "0x1C00002"), ("H-3", "0x1C00016")])
def test_endorsement_certificate_chains_to_the_vendors_root(
    vendor: TpmVendor, tmp_path: Path, ek: str, index: str
) -> None:
    with a_machine(vendor, ek=ek) as machine:
        tool(machine, "tpm2_nvread", index, "-o", "ek.der", cwd=tmp_path)
        tool(machine, "tpm2_nvread", "0x1C00100", "-o", "chain.der", cwd=tmp_path)
    for name in ("ek", "chain"):
        subprocess.run(["openssl", "x509", "-inform", "der", "-in", f"{name}.der", "-out", f"{name}.pem"],
                       cwd=tmp_path, check=True)  # fmt: skip
    subprocess.run(
        ["openssl", "verify", "-CAfile", vendor.roots_dir / "root.pem", "-untrusted", "chain.pem", "ek.pem"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip


def test_certificate_is_of_the_endorsement_key_that_tpm2_tools_make(machine: Machine, tmp_path: Path) -> None:
    tool(machine, "tpm2_createek", "-G", "ecc", "-c", "ek.ctx", "-f", "pem", "-u", "ek.pem", cwd=tmp_path)
    tool(machine, "tpm2_nvread", "0x1C0000A", "-o", "ek.der", cwd=tmp_path)
    certified = subprocess.run(
        ["openssl", "x509", "-inform", "der", "-in", "ek.der", "-pubkey", "-noout"],
        cwd=tmp_path, check=True, capture_output=True,
    ).stdout  # fmt: skip
    assert certified.strip() == (tmp_path / "ek.pem").read_bytes().strip()


def test_each_machine_has_its_own_endorsement_key(vendor: TpmVendor, tmp_path: Path) -> None:
    publics = set()
    for name in ("one", "two"):
        with a_machine(vendor, name) as machine:
            tool(machine, "tpm2_createek", "-G", "ecc", "-c", "ek.ctx", "-u", f"{name}.pub", cwd=tmp_path)
            publics.add((tmp_path / f"{name}.pub").read_bytes())
    assert len(publics) == 2


def test_only_the_banks_asked_for_are_active(vendor: TpmVendor) -> None:
    with a_machine(vendor, banks=("sha384",)) as machine:
        assert machine.read_pcrs() == {}
        assert len(machine.read_pcrs("sha384")) == 24


def test_boot_leaves_the_pcrs_that_the_log_replays_to(machine: Machine) -> None:
    log = machine.boot(sample_boot_log(SampleBoot(), banks=(HashAlg.SHA256, HashAlg.SHA384)))
    for bank in (HashAlg.SHA256, HashAlg.SHA384):
        expected = replay(log, bank)
        read = machine.read_pcrs(bank.hashlib_name)
        assert {pcr: read[pcr] for pcr in expected} == expected


def test_boot_from_a_real_machines_log_starts_pcr_0_at_its_startup_locality(machine: Machine) -> None:
    raw = shared_data("uefi-eventlogs", "lenovo-glinux.bin").read_bytes()
    expected = replay(machine.boot(raw), HashAlg.SHA256)
    read = machine.read_pcrs()
    assert {pcr: read[pcr] for pcr in expected} == expected


def test_boot_again_gives_the_same_pcrs(machine: Machine) -> None:
    log = sample_boot_log(SampleBoot())
    machine.boot(log)
    first = machine.read_pcrs()
    machine.extend(8, bytes(32))
    assert machine.read_pcrs() != first
    machine.boot(log)
    assert machine.read_pcrs() == first


def test_a_log_that_does_not_parse_does_not_reboot(machine: Machine) -> None:
    machine.extend(8, bytes(32))
    before = machine.read_pcrs()
    with pytest.raises(MalformedInput):
        machine.boot(b"not a log")
    assert machine.read_pcrs() == before


def test_an_event_for_a_pcr_that_only_a_dynamic_launch_may_extend_is_refused(machine: Machine) -> None:
    log = decode_event_log(sample_boot_log(SampleBoot()))
    event = log.events[-1]
    moved = type(event)(pcr=17, claimed_type=event.claimed_type, digests=event.digests, data=event.data)
    with pytest.raises(Unavailable, match="PCR 17"):
        machine.boot(encode_event_log(EventLog(log.algorithms, (moved,))))


def _clock(machine: Machine, tmp_path: Path) -> dict[str, int]:
    lines = tool(machine, "tpm2_readclock", cwd=tmp_path).split("\n")
    pairs = (line.split(":") for line in lines if line.split(":")[-1].strip())
    return {name.strip(): {"yes": 1, "no": 0}.get(value.strip(), 0) if not value.strip().isdigit() else int(value)
            for name, value in pairs}  # fmt: skip


def test_reset_counts_as_a_reboot_and_clears_the_pcrs(machine: Machine, tmp_path: Path) -> None:
    before = _clock(machine, tmp_path)
    machine.extend(4, bytes(32))
    machine.reset()
    after = _clock(machine, tmp_path)
    assert after["reset_count"] == before["reset_count"] + 1
    assert after["safe"] == 1
    assert machine.read_pcrs()[4] == bytes(32)


def test_after_a_power_cut_the_clock_is_not_safe(machine: Machine, tmp_path: Path) -> None:
    machine.power_cut()
    assert not machine.running
    machine.start()
    assert _clock(machine, tmp_path)["safe"] == 0


def test_a_restored_state_has_forgotten_what_came_after_the_snapshot(machine: Machine, tmp_path: Path) -> None:
    machine.snapshot(tmp_path / "copy")
    taken = _clock(machine, tmp_path)
    for _ in range(3):
        machine.reset()
    with pytest.raises(OutOfOrder):
        machine.restore(tmp_path / "copy")
    machine.stop()
    machine.restore(tmp_path / "copy")
    machine.start()
    assert _clock(machine, tmp_path)["reset_count"] <= taken["reset_count"] + 1


def test_state_survives_stopping_and_opening_the_directory_again(vendor: TpmVendor, tmp_path: Path) -> None:
    with a_machine(vendor) as machine:
        tool(machine, "tpm2_createek", "-G", "ecc", "-c", "ek.ctx", "-u", "1.pub", cwd=tmp_path)
        machine.stop()
        with Machine(machine.directory) as again:
            tool(again, "tpm2_createek", "-G", "ecc", "-c", "ek.ctx", "-u", "2.pub", cwd=tmp_path)
    assert (tmp_path / "1.pub").read_bytes() == (tmp_path / "2.pub").read_bytes()


def test_a_machine_that_is_off_is_out_of_order_and_stops_quietly(machine: Machine) -> None:
    machine.stop()
    machine.stop()
    machine.power_cut()
    with pytest.raises(OutOfOrder):
        machine.read_pcrs()
    assert not list(machine.directory.glob("tpm*"))


def test_when_swtpm_is_killed_commands_fail_and_stopping_cleans_up(machine: Machine) -> None:
    assert machine._process
    machine._process._process.kill()
    with pytest.raises(Unavailable):
        machine.read_pcrs()
    machine.stop()
    assert not machine.running
    assert not list(machine.directory.glob("tpm*"))


def test_there_is_no_machine_in_an_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Machine(tmp_path)


def test_a_path_too_long_for_a_socket_is_refused_and_leaves_no_process(vendor: TpmVendor, tmp_path: Path) -> None:
    machine = Machine.manufacture(tmp_path / ("x" * 100), name="node", vendor=vendor)
    with pytest.raises(Unavailable, match="too long"):
        machine.start()
    assert not machine.running


def test_swtpm_ends_when_its_owner_is_killed(vendor: TpmVendor) -> None:
    with a_machine(vendor) as machine:
        machine.stop()
        owner = subprocess.Popen([sys.executable, "-m", "nodeseal.swtpm", "run", machine.directory],
                                 stdout=subprocess.PIPE)  # fmt: skip
        assert owner.stdout
        assert machine.tcti.encode() in owner.stdout.readline()
        child = Path(f"/proc/{owner.pid}/task/{owner.pid}/children").read_text().split()[0]
        owner.kill()
        owner.communicate()
        deadline = time.monotonic() + 60
        while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not Path(f"/proc/{child}").exists()


def test_a_machine_runs_as_a_process_of_its_own_until_sigterm(vendor: TpmVendor, tmp_path: Path) -> None:
    need("tpm2_pcrread")
    log = tmp_path / "boot.log"
    log.write_bytes(sample_boot_log(SampleBoot()))
    with a_machine(vendor) as machine:
        machine.stop()
        owner = subprocess.Popen(
            [sys.executable, "-m", "nodeseal.swtpm", "run", machine.directory, "--boot", log], stdout=subprocess.PIPE
        )
        assert owner.stdout
        assert machine.tcti.encode() in owner.stdout.readline()
        shown = tool(machine, "tpm2_pcrread", "sha256:4", cwd=tmp_path)
        owner.terminate()
        owner.communicate(timeout=10)
        assert owner.returncode == 0
    expected = replay(decode_event_log(log.read_bytes()), HashAlg.SHA256)[4]
    assert expected.hex() in shown.lower()
