"""The sample boot log: well-formed, and each part of the boot chain moves its own PCRs and no others."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import decode_event_log, replay

CHAIN = SampleBoot()


def _pcrs(chain: SampleBoot) -> dict[int, bytes]:
    return replay(decode_event_log(sample_boot_log(chain)), HashAlg.SHA256)


def test_the_same_chain_gives_the_same_log() -> None:
    assert sample_boot_log(CHAIN) == sample_boot_log(SampleBoot())


def test_it_measures_into_the_pcrs_that_firmware_shim_and_grub_use() -> None:
    assert set(_pcrs(CHAIN)) == {*range(10), 14}


@pytest.mark.parametrize(
    ("sentence", "changed", "moved"),
    [
        ("new firmware", replace(CHAIN, firmware=b"other"), {0}),
        ("a firmware version", replace(CHAIN, firmware_version="2.0"), {0}),
        ("Secure Boot off", replace(CHAIN, secure_boot=False), {7}),
        ("another shim", replace(CHAIN, shim=b"other"), {4}),
        ("another boot loader", replace(CHAIN, boot_loader=b"other"), {4}),
        ("another kernel", replace(CHAIN, kernel=b"other"), {4, 9}),
        ("another initial RAM disk", replace(CHAIN, initrd=b"other"), {9}),
        ("an option ROM", replace(CHAIN, option_rom=b"option ROM"), {2}),
        ("another command line", replace(CHAIN, command_line="/vmlinuz init=/bin/sh"), {8}),
    ],
)
def test_a_change_moves_the_pcrs_it_belongs_to(sentence: str, changed: SampleBoot, moved: set[int]) -> None:
    before, after = _pcrs(CHAIN), _pcrs(changed)
    assert {pcr for pcr in before if before[pcr] != after[pcr]} == moved, sentence


def test_a_unified_kernel_image_is_measured_where_its_stub_measures() -> None:
    unified = replace(CHAIN, sections=((".linux", b"kernel"), (".initrd", b"initrd")))
    assert set(_pcrs(unified)) == {*range(8), 9, 11, 12}


def test_tpm2_eventlog_reads_it_and_replays_to_the_same_pcrs(tmp_path: Path) -> None:
    if shutil.which("tpm2_eventlog") is None:
        pytest.skip("tpm2_eventlog is not installed")
    banks = (HashAlg.SHA256, HashAlg.SHA384)
    log = tmp_path / "log"
    log.write_bytes(sample_boot_log(CHAIN, banks))
    shown = subprocess.run(["tpm2_eventlog", log], capture_output=True, text=True, check=True)
    assert shown.stderr == ""
    for bank in banks:
        for pcr, value in replay(decode_event_log(log.read_bytes()), bank).items():
            assert f"{pcr:<3}: 0x{value.hex()}" in shown.stdout
