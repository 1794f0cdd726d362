"""PCR 2 and 4: whatever is not proved to be harmless is an image that ran."""

from __future__ import annotations

import hashlib

import pytest

from nodeseal.boot.images import BootImage
from nodeseal.swtpm.sample_log import SampleBoot
from nodeseal.uefi.event_log import Event, EventLog
from nodeseal.uefi.event_log_types import EventType
from support.boot_logs import SHA256, appended, claims_of, good_log, measured, place_of, quote_of, replaced, values_of
from support.quotes import quoted_pcrs

LOG = good_log()
CHAIN = SampleBoot()
APPLICATION = EventType.EFI_BOOT_SERVICES_APPLICATION


def _ran(log: EventLog) -> list[bytes]:
    return [image.digest for image in claims_of(log).chain.images]


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def test_the_images_of_pcr_4_are_the_boot_chain_in_order() -> None:
    images = claims_of(LOG).chain.images
    assert [image.digest for image in images] == [
        _sha256(each) for each in (CHAIN.shim, CHAIN.boot_loader, CHAIN.kernel)
    ]
    assert [image.path for image in images] == [
        "\\EFI\\sample\\shimx64.efi",
        "\\EFI\\sample\\grubx64.efi",
        "\\EFI\\sample\\vmlinuz",
    ]


def test_images_of_pcr_2_are_drivers() -> None:
    drivers = claims_of(good_log(SampleBoot(option_rom=b"ROM"))).drivers
    assert [driver.digest for driver in drivers] == [_sha256(b"ROM")]
    assert claims_of(LOG).drivers == ()


@pytest.mark.parametrize(
    ("sentence", "event"),
    [
        ("an application", measured(4, APPLICATION, bytes(32), b"evil")),
        ("a driver", measured(4, EventType.EFI_BOOT_SERVICES_DRIVER, bytes(32), b"evil")),
        ("an image called an action", measured(4, EventType.EFI_ACTION, b"Calling EFI Application", b"evil")),
        ("an image called a separator", measured(4, EventType.SEPARATOR, bytes(4), b"evil")),
        ("an image whose hashed bytes are the data", measured(4, EventType.EFI_ACTION, b"MZ\x90\0evil")),
        ("a text too long to be an action", measured(4, EventType.EFI_ACTION, b"x" * 129)),
        ("something of a type that nobody knows", measured(4, 0x0000_040E, b"\1\2\3\4")),
        ("no data", measured(4, EventType.EFI_ACTION, b"")),
    ],
)
def test_anything_that_is_not_proved_harmless_is_an_image(sentence: str, event: Event) -> None:
    assert _ran(appended(LOG, event)) == [*_ran(LOG), event.digests[SHA256]], sentence


@pytest.mark.parametrize(
    "event",
    [
        measured(4, EventType.SEPARATOR, bytes(4)),
        measured(4, EventType.SEPARATOR, b"\xff" * 4),
        measured(4, EventType.EFI_ACTION, b"Returning from EFI Application from Boot Option"),
        measured(4, EventType.EFI_ACTION, b"Booting with a NUL at the end\0"),
        measured(4, APPLICATION, b"an action called an application"),
    ],
)
def test_separators_and_proved_lines_of_text_are_harmless(event: Event) -> None:
    assert _ran(appended(LOG, event)) == _ran(LOG)


def test_an_image_that_is_called_something_else_is_still_there() -> None:
    at = place_of(LOG, 4, claimed_type=APPLICATION)
    hidden = replaced(LOG, at, claimed_type=EventType.EFI_ACTION, data=b"nothing to see")
    assert [image.digest for image in claims_of(hidden, quote_of(LOG)).chain.images] == _ran(LOG)


def test_an_image_without_a_readable_path_says_so() -> None:
    def path(data: bytes) -> str:
        image: BootImage = claims_of(appended(LOG, measured(4, APPLICATION, data, b"image"))).chain.images[-1]
        return image.path

    assert path(bytes(32)) == "no path"
    assert path(b"cut") == "no path"


def test_nothing_is_said_of_a_pcr_4_that_is_not_proved() -> None:
    assert claims_of(LOG, quoted_pcrs({SHA256: values_of(LOG) | {4: b"\1" * 32}})).chain.images == ()
