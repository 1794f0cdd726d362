"""Where two IMA logs part."""

from __future__ import annotations

from dataclasses import replace

from nodeseal.ima.diff import entries_alike
from nodeseal.tpm.algorithms import HashAlg
from support import ima

LOG = ima.examples()


def test_logs_are_alike_up_to_the_first_entry_that_measures_something_else() -> None:
    changed = ima.entry("ima-ng", replace(ima.FILE, path=b"/usr/bin/other"))
    assert entries_alike(LOG, (*LOG[:3], changed, *LOG[4:])) == 3
    assert entries_alike(LOG, (LOG[0]._replace(pcr=11), *LOG[1:])) == 0
    assert entries_alike(LOG, (*LOG[:-1], ima.entry("ima-ng", ima.FILE))) == len(LOG) - 1


def test_a_log_that_goes_on_is_alike_as_far_as_the_other_goes() -> None:
    assert entries_alike(LOG, LOG[:4]) == entries_alike(LOG[:4], LOG) == 4
    assert entries_alike((), LOG) == 0


def test_a_violation_is_not_alike_to_a_measurement_of_the_same_data() -> None:
    measured = LOG[0]
    assert entries_alike((measured,), (measured._replace(template_digest=bytes(20)),)) == 0


def test_the_files_of_two_banks_of_one_boot_are_alike() -> None:
    assert entries_alike(LOG, ima.examples(HashAlg.SHA512)) == len(LOG)
