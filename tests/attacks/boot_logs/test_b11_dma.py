"""Attacks on machines whose firmware let devices read memory at boot, and says so: row b11."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest

from nodeseal.uefi.event_log import Event, EventLog
from nodeseal.uefi.event_log_types import EventType
from support.boot_logs import appended, inserted, measured, place_of, replaced
from support.suspects import LOG, Court, a_court, a_trial, ids, places, rules_golden, telling

WORD: Final = b"DMA Protection Disabled"
SEPARATOR: Final = place_of(LOG, 7, claimed_type=EventType.SEPARATOR)


@pytest.fixture(scope="module")
def dma_court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    """A verifier with a golden that asks for DMA protection, and for nothing that a word of PCR 7 would break."""
    golden = rules_golden(LOG, "dma")
    assert golden.boot is not None
    rules = replace(golden.boot, dma_protection=True, secure_boot=False, signers=None, dbx=frozenset())
    with a_court(tmp_path_factory.mktemp("dma"), replace(golden, boot=rules)) as made:
        yield made


def says(word: bytes) -> Event:
    return measured(7, EventType.EFI_ACTION, word)


UNPROTECTED: Final[dict[str, EventLog]] = {
    "before the separator": inserted(LOG, SEPARATOR, says(WORD)),
    "before the separator, with NUL": inserted(LOG, SEPARATOR, says(WORD + b"\0")),
    "after the separator": appended(LOG, says(WORD)),
    "after the separator, with NUL": appended(LOG, says(WORD + b"\0")),
    "in UTF-16": appended(LOG, says(WORD.decode().encode("utf-16-le"))),
    "in other words": appended(LOG, says(b"Kernel DMA protection is off")),
    "with more behind it": appended(LOG, says(WORD + b"." * 200)),
    "called something else": appended(LOG, measured(7, EventType.SEPARATOR, WORD)),
}


@pytest.mark.parametrize("how", UNPROTECTED)
def test_b11_a_machine_that_says_dma_protection_was_off_is_refused(dma_court: Court, how: str) -> None:
    log = UNPROTECTED[how]

    async def case() -> None:
        async with a_trial(dma_court, "dma") as trial:
            trial.node.reboot_by(log)
            found = await trial.refused(telling(log))
            assert places(found) == [("uefi.dma-protection-off", "sha256 PCR 7")]

    asyncio.run(case())


def test_b11_hiding_the_word_gains_nothing(dma_court: Court) -> None:
    log = UNPROTECTED["after the separator"]
    hidden = replaced(log, len(log.events) - 1, data=b"something else")

    async def case() -> None:
        async with a_trial(dma_court, "dma") as trial:
            trial.node.reboot_by(log)
            assert ids(await trial.refused(telling(hidden))) == {"uefi.event-data"}

    asyncio.run(case())


def test_b11_pcr_7_that_is_not_proved_proves_no_protection(dma_court: Court) -> None:
    log = UNPROTECTED["after the separator"]

    async def case() -> None:
        async with a_trial(dma_court, "dma") as trial:
            trial.node.reboot_by(log)
            assert "uefi.dma-protection-off" in ids(await trial.refused(telling(LOG)))

    asyncio.run(case())


def test_b11_other_words_of_the_firmware_are_accepted(dma_court: Court) -> None:
    log = appended(LOG, says(b"Entering ROM Based Setup"))

    async def case() -> None:
        async with a_trial(dma_court, "dma") as trial:
            trial.node.extend_logged(log)
            await trial.believed(telling(log))

    asyncio.run(case())
