"""A real laptop, judged by its boot and by what it ran since: both logs as the agent reads them, under one quote."""

from __future__ import annotations

from pathlib import Path

from nodeseal.appraisal.offline import appraise_folder
from nodeseal.findings import FindingId
from nodeseal.ima.log import ima_entries
from support.data import shared_data
from support.real_machines import an_observed_machine, captured
from support.runtime import listing_of


def test_a_real_laptop_is_trusted_until_it_runs_a_file_that_is_not_listed(tmp_path: Path) -> None:
    booted = shared_data("uefi-eventlogs", "lenovo-x1c-hahuri-sdboot.bin").read_bytes()
    ran = shared_data("ima-logs", "x1c-hahuri", "ima.bin").read_bytes()
    listing = listing_of(entry for _, entry in ima_entries(ran))
    with an_observed_machine(tmp_path) as laptop:
        laptop.machine.boot(booted)
        laptop.machine.replay_ima(ran)
        folder = laptop.keep()
        golden = captured(folder, "laptop", listing.runtime)
        assert appraise_folder(folder, (golden,)).findings == ()
        laptop.machine.measure("/opt/copy-weights")
        (finding,) = appraise_folder(laptop.keep(), (golden,)).findings
    assert finding.id is FindingId.IMA_UNKNOWN_FILE
    assert finding.where.startswith("/opt/copy-weights")
