"""Attacks that call a partition table systemd-boot's settings, or a command line a credential: row b12."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

import pytest

from nodeseal.golden.rules import Image
from nodeseal.swtpm.sample_log import sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import Event, decode_event_log
from nodeseal.uefi.event_log_types import EventType
from nodeseal.uefi.tagged_event import loader_conf_event
from support.boot_logs import appended, measured
from support.suspects import LOG, UNIFIED, Court, a_court, a_trial, places, rules_golden, telling

SHA256: Final = HashAlg.SHA256
CREDENTIALS: Final = "Credentials initrd\0".encode("utf-16-le")
STUB_LOG: Final = decode_event_log(sample_boot_log(UNIFIED))


def settings(content: bytes) -> Event:
    """The event of systemd-boot for ``loader.conf``: its data describes, its digest is of the content."""
    return measured(5, EventType.EVENT_TAG, loader_conf_event(), content)


def credential(content: bytes) -> Event:
    return measured(12, EventType.IPL, CREDENTIALS, content)


BOOTED: Final = appended(LOG, settings(b"timeout 3\n"))
PASSED: Final = appended(STUB_LOG, credential(b"cpio with a token"))


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    """A verifier with goldens that allow one ``loader.conf`` and one credential."""
    booted, passed = rules_golden(BOOTED, "settings"), rules_golden(PASSED, "credentials")
    assert booted.boot is not None
    assert passed.boot is not None
    judged = replace(booted.boot, loader_conf=frozenset({SHA256.digest(b"timeout 3\n")}))
    alone = replace(booted, name="settings-alone", nodes={"judged": "settings-alone"}, boot=replace(judged, gpt=None))
    booted = replace(booted, boot=judged)
    token = Image(name="token", digests=frozenset({SHA256.digest(b"cpio with a token")}))
    passed = replace(passed, boot=replace(passed.boot, addons=(token,)))
    goldens = (booted, alone, passed, rules_golden(LOG, "table"), rules_golden(STUB_LOG, "line"))
    with a_court(tmp_path_factory.mktemp("described"), *goldens) as made:
        yield made


def test_b12_settings_and_credentials_that_a_golden_allows_are_believed(described: Court) -> None:
    async def case() -> None:
        async with a_trial(described, "settings", BOOTED):
            pass
        async with a_trial(described, "credentials", PASSED):
            pass

    asyncio.run(case())


@pytest.mark.parametrize("content", [b"timeout 0\neditor yes\n", b"EFI PART evil"])
@pytest.mark.parametrize("judged", ["settings", "table"])
def test_b12_what_calls_itself_loader_conf_is_judged_by_its_digest(
    described: Court, content: bytes, judged: str
) -> None:
    log = appended(LOG, settings(content))

    async def case() -> None:
        async with a_trial(described, judged, BOOTED if judged == "settings" else LOG) as trial:
            trial.node.reboot_by(log)
            assert places(await trial.refused(telling(log))) == [("uefi.loader-conf", "sha256 PCR 5")]

    asyncio.run(case())


@pytest.mark.parametrize("content", [b"cpio with another token", "init=/bin/sh\0".encode("utf-16-le")])
@pytest.mark.parametrize("judged", ["credentials", "line"])
def test_b12_what_calls_itself_a_credential_is_judged_by_its_digest(
    described: Court, content: bytes, judged: str
) -> None:
    log = appended(STUB_LOG, credential(content))

    async def case() -> None:
        async with a_trial(described, judged, PASSED if judged == "credentials" else STUB_LOG) as trial:
            trial.node.reboot_by(log)
            assert places(await trial.refused(telling(log))) == [("uefi.addon", "sha256 PCR 12")]

    asyncio.run(case())


HIDDEN: Final = {
    "settings shown as the event's data": measured(5, EventType.EVENT_TAG, b"editor yes\n"),
    "settings that begin like a partition table": measured(5, EventType.EFI_GPT_EVENT, b"EFI PART\neditor yes\n"),
    "settings under another name": measured(5, EventType.EVENT_TAG, b"anything", b"editor yes\n"),
}


@pytest.mark.parametrize("how", HIDDEN)
def test_b12_settings_that_the_log_calls_something_else_are_judged_where_they_are_a_rule(
    described: Court, how: str
) -> None:
    log = appended(LOG, HIDDEN[how])

    async def case() -> None:
        async with a_trial(described, "settings-alone", BOOTED) as trial:
            trial.node.reboot_by(log)
            assert places(await trial.refused(telling(log))) == [("uefi.loader-conf", "sha256 PCR 5")]

    asyncio.run(case())


def test_b12_settings_shown_as_the_events_data_are_judged_beside_a_partition_table(described: Court) -> None:
    log = appended(LOG, HIDDEN["settings shown as the event's data"])

    async def case() -> None:
        async with a_trial(described, "settings", BOOTED) as trial:
            trial.node.reboot_by(log)
            assert places(await trial.refused(telling(log))) == [("uefi.loader-conf", "sha256 PCR 5")]

    asyncio.run(case())


@pytest.mark.parametrize("judged", ["credentials", "line"])
def test_b12_a_credential_that_the_log_shows_as_an_events_data_is_judged_by_its_digest(
    described: Court, judged: str
) -> None:
    log = appended(STUB_LOG, measured(12, EventType.IPL, b"070701 cpio with another token\0"))

    async def case() -> None:
        async with a_trial(described, judged, PASSED if judged == "credentials" else STUB_LOG) as trial:
            trial.node.reboot_by(log)
            assert places(await trial.refused(telling(log))) == [("uefi.addon", "sha256 PCR 12")]

    asyncio.run(case())
