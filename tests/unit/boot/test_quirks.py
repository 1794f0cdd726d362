"""The table of quirks: rows that say all they must, and that fit only the firmware they name."""

from __future__ import annotations

import pytest

from nodeseal.boot.quirks import QUIRKS, Effect, FirmwareFacts, parse_quirks, quirks_for
from nodeseal.errors import MalformedInput

ROW = """quirks:
  - id: a-quirk
    vendor: "Maker"
    firmware: "1[.].*"
    deviates: "something is not logged"
    effect: missing-exit-boot-services
    source: "a report"
"""


def test_the_table_that_comes_along_parses_and_names_its_sources() -> None:
    assert QUIRKS
    assert all(row.source and row.deviates for row in QUIRKS)


@pytest.mark.parametrize("vendor", ["HP", "HPE", "Hewlett-Packard", "Hewlett-Packard Company"])
def test_hp_is_known_by_all_its_names(vendor: str) -> None:
    assert list(quirks_for(FirmwareFacts(vendor=vendor, version="1"), 5))


@pytest.mark.parametrize("vendor", ["", "hp", "XHP", "HP Inc. and others", "LENOVO"])
def test_a_vendor_must_match_as_a_whole(vendor: str) -> None:
    assert not list(quirks_for(FirmwareFacts(vendor=vendor, version="1"), 5))


def test_a_row_concerns_its_pcr_only() -> None:
    assert not list(quirks_for(FirmwareFacts(vendor="HP", version="1"), 4))


@pytest.mark.parametrize(("version", "concerned"), [("1.2", True), ("2.1", False), ("", False)])
def test_the_firmware_version_must_match_too(version: str, concerned: bool) -> None:  # noqa: FBT001 - a table
    (row,) = parse_quirks(ROW.encode(), "test")
    assert row.concerns(FirmwareFacts(vendor="Maker", version=version)) is concerned
    assert row.effect is Effect.MISSING_EXIT_BOOT_SERVICES


@pytest.mark.parametrize(
    ("sentence", "raw"),
    [
        ("an unknown effect", ROW.replace("missing-exit-boot-services", "believe-everything")),
        ("a pattern that does not compile", ROW.replace("Maker", "(")),
        ("an unknown key", ROW + "    more: x\n"),
        ("a key is missing", ROW.replace('    source: "a report"\n', "")),
        ("a name twice", ROW + ROW.partition("\n")[2]),
        ("something beside the rows", ROW + "more: x\n"),
    ],
)
def test_a_bad_table_is_refused(sentence: str, raw: str) -> None:
    with pytest.raises(MalformedInput):
        parse_quirks(raw.encode(), sentence)
