"""Files measured on a machine: its IMA log and its TPM's PCR 10 belong together, for logs of real machines too."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from nodeseal.ima.log import ima_entries, replay_ima
from nodeseal.ima.template import parse_template
from nodeseal.swtpm.machine import Machine
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from support.data import shared_data
from support.ima import decode_ima_log
from support.machines import a_machine, a_vendor, tool

BANKS = ("sha1", "sha256", "sha384", "sha512")


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with a_vendor() as vendor, a_machine(vendor, banks=BANKS) as machine:
        yield machine


def _booted(machine: Machine) -> Machine:
    machine.boot(sample_boot_log(SampleBoot()))
    return machine


def _paths(machine: Machine) -> list[bytes]:
    entries = decode_ima_log(machine.ima_log_file.read_bytes())
    return [parse_template(entry.template, entry.data).path for entry in entries]


def test_measured_files_are_in_the_log_and_in_pcr_10_of_every_bank(machine: Machine) -> None:
    _booted(machine).measure("/usr/bin/agent", b"its bytes")
    machine.measure(b"/opt/\xff", digest=bytes(64), signature=b"\x03\x02")
    machine.violate("/var/log/all messages")
    entries = decode_ima_log(machine.ima_log_file.read_bytes())
    assert {bank: machine.read_pcrs(bank)[10] for bank in BANKS} == {
        bank: replay_ima(entries, HashAlg.from_name(bank)) for bank in BANKS
    }
    assert _paths(machine) == [b"boot_aggregate", b"/usr/bin/agent", b"/opt/\xff", b"/var/log/all_messages"]


def test_the_logs_lie_in_the_machines_directory_for_as_long_as_the_boot_lasts(machine: Machine) -> None:
    raw = sample_boot_log(SampleBoot())
    machine.boot(raw, ima=True)
    machine.measure("/usr/bin/agent")
    assert machine.boot_log_file.read_bytes() == raw
    machine.boot(raw, ima=True)
    assert _paths(machine) == [b"boot_aggregate"]
    machine.reset()
    assert not machine.boot_log_file.exists()
    assert not machine.ima_log_file.exists()


def test_a_boot_without_ima_leaves_pcr_10_alone(machine: Machine) -> None:
    assert not _booted(machine).ima_log_file.exists()
    assert machine.read_pcrs()[10] == bytes(32)


def _tpm_values(raw: Mapping[str, object]) -> dict[str, bytes]:
    """PCR 10 by bank as the manifest's side file has it; none where nobody read the TPM."""
    found = raw.get("tpm_pcr10") or {
        bank: values["10"] for bank, values in raw.get("tpm_pcrs", {}).items()  # type: ignore[attr-defined]  # JSON
    }  # fmt: skip
    return {bank: bytes.fromhex(value) for bank, value in found.items()}  # type: ignore[attr-defined]  # JSON


def _real_logs() -> Iterator[tuple[str, bytes, HashAlg, dict[str, bytes]]]:
    folder = shared_data("ima-logs")
    for path in sorted(folder.glob("**/*.bin")):
        raw, side = path.read_bytes(), json.loads(path.with_suffix(".expected.json").read_text())
        if "sha256_pcr10_fits_after_entries" in side and side["sha256_pcr10_fits_after_entries"] is None:
            continue  # the values are of another moment than the log
        bank = HashAlg.from_name(side.get("template_digest_alg", "sha1"))
        yield str(path.relative_to(folder)), raw, bank, _tpm_values(side)


def test_logs_of_real_machines_leave_the_values_that_their_tpms_had(machine: Machine) -> None:
    compared, wrong = 0, list[tuple[str, str, str]]()
    for name, raw, bank, expected in _real_logs():
        machine.reset()
        machine.replay_ima(raw, bank)
        assert machine.ima_log_file.read_bytes() == raw
        entries = [entry for _, entry in ima_entries(raw, bank)]
        replayed = {each: replay_ima(entries, HashAlg.from_name(each)) for each in BANKS}
        read = {each: machine.read_pcrs(each)[10] for each in BANKS}
        compared += len(expected)
        wrong += [(name, each, "replay") for each in BANKS if read[each] != replayed[each]]
        wrong += [(name, each, "TPM") for each, value in expected.items() if read[each] != value]
    assert wrong == []
    assert compared >= 20


def test_the_boot_aggregate_of_a_real_machine_comes_out_again(machine: Machine) -> None:
    """Boot from the real boot log, and the machine's own first entry holds the digest that the real one has."""
    boot_log = shared_data("uefi-eventlogs", "lenovo-x1c-hahuri-sdboot.bin").read_bytes()
    real = shared_data("ima-logs", "x1c-hahuri", "ima.bin").read_bytes()
    machine.boot(boot_log, ima=True)
    own, first = (decode_ima_log(raw)[0] for raw in (machine.ima_log_file.read_bytes(), real))
    assert parse_template(own.template, own.data) == parse_template(first.template, first.data)


def _swtpm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nodeseal.swtpm", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_a_machine_that_runs_as_a_process_measures_what_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "boot.log").write_bytes(sample_boot_log(SampleBoot()))
    (tmp_path / "program").write_bytes(b"its bytes")
    with a_vendor() as vendor, a_machine(vendor) as machine:
        machine.stop()
        run = [sys.executable, "-m", "nodeseal.swtpm", "run", str(machine.directory), "--boot", "boot.log"]
        with subprocess.Popen(run, stdout=subprocess.PIPE, cwd=tmp_path) as owner:
            assert owner.stdout
            assert machine.tcti.encode() in owner.stdout.readline()
            done = _swtpm("measure", machine.directory, "/usr/bin/program", "--content", tmp_path / "program")
            shown = tool(machine, "tpm2_pcrread", "sha256:10", cwd=tmp_path)
            owner.terminate()
        entries = decode_ima_log(machine.ima_log_file.read_bytes())
    assert (done.returncode, done.stderr) == (0, "")
    assert replay_ima(entries, HashAlg.SHA256).hex() in shown.lower()
    fields = parse_template(entries[1].template, entries[1].data)
    assert (fields.path, fields.digest) == (b"/usr/bin/program", HashAlg.SHA256.digest(b"its bytes"))


@pytest.mark.parametrize(("measures", "why"), [(False, "its kernel does not measure"), (True, "tpm: No such file")])
def test_a_machine_that_is_off_measures_nothing(*, measures: bool, why: str) -> None:
    with a_vendor() as vendor, a_machine(vendor) as machine:
        machine.boot(sample_boot_log(SampleBoot()), ima=measures)
        machine.stop()
        done = _swtpm("measure", machine.directory, "/usr/bin/program")
    assert done.returncode == 1
    assert why in done.stderr
