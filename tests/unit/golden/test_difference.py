"""Differences of goldens: each thing that is judged otherwise is named once, with what both say."""

from __future__ import annotations

import pytest

from nodeseal.golden.difference import diff_goldens
from nodeseal.golden.document import parse_golden
from support.goldens import FULL, A, B, C

Row = tuple[str, str, tuple[str, ...], tuple[str, ...]]


def diff(change: str, to: str) -> list[Row]:
    assert change in FULL
    before, after = (parse_golden(text.encode(), "g") for text in (FULL, FULL.replace(change, to)))
    return [(d.section, d.where, d.before, d.after) for d in diff_goldens(before, after)]


@pytest.mark.parametrize(
    ("change", "to", "row"),
    [
        pytest.param(f', "{B.hex()}"]', "]", ("pcrs", "sha256:7", (A.hex(), B.hex()), (A.hex(),)), id="a value less"),
        pytest.param('"7":', '"8":', ("pcrs", "sha256:7", (A.hex(), B.hex()), ()), id="another PCR"),
        pytest.param("  secure_boot: true\n", "", ("boot", "secure_boot", ("required",), ()), id="secure boot"),
        pytest.param(
            "quiet",
            "debug",
            ("boot", "command_lines", ("root=UUID=* ro quiet",), ("root=UUID=* ro debug",)),
            id="a word",
        ),
        pytest.param(
            f'efi", digests: ["{A.hex()}"]',
            f'efi", digests: ["{C.hex()}"]',
            ("boot", "images shimx64.efi", (A.hex(),), (C.hex(),)),
            id="an image",
        ),
        pytest.param('".linux"', '".initrd"', ("boot", "sections .linux", (A.hex(),), ()), id="a section"),
        pytest.param(
            "a maker of systems",
            "another",
            ("boot", f"signers {A.hex()}", ("a maker of systems",), ("another",)),
            id="a signer",
        ),
        pytest.param(
            f'bash: ["sha256:{A.hex()}"]',
            f'bash: ["sha256:{B.hex()}"]',
            ("runtime", "files /usr/bin/bash", (f"sha256:{A.hex()}",), (f"sha256:{B.hex()}",)),
            id="a file",
        ),
        pytest.param(
            'excludes: ["/var/log/"]',
            'excludes: ["/var/log/", "/var/tmp/"]',
            ("runtime", "excludes /var/tmp/", (), ("allowed",)),
            id="an exclude",
        ),
        pytest.param(
            "/var/log/journal",
            "/var/log/other",
            ("runtime", "violations /var/log/journal", ("allowed",), ()),
            id="a violation",
        ),
        pytest.param(
            "kexec-cmdline",
            "key",
            ("runtime", "buffers kexec-cmdline", (f"sha512:{(A + A).hex()}",), ()),
            id="a buffer",
        ),
        pytest.param('"7.2.3.1"', '"7.2.3.2"', ("platform", "firmware", ("7.2.3.1",), ("7.2.3.2",)), id="a floor"),
        pytest.param(
            "2026-12-31T23:59:59Z",
            "2027-01-01T00:00:00Z",
            ("valid", "until", ("2026-12-31T23:59:59Z",), ("2027-01-01T00:00:00Z",)),
            id="the end",
        ),
        pytest.param('rack: "a"', 'rack: "b"', ("nodes", "rack", ("a",), ("b",)), id="a label"),
    ],
)
def test_each_difference_is_named_with_what_both_say(change: str, to: str, row: Row) -> None:
    assert row in diff(change, to)


def test_a_key_is_known_by_its_fingerprint_and_shown_with_its_window() -> None:
    (row,) = diff('from: "2026-01-01T00:00:00Z"\n      key', "key")
    assert row[1].startswith("keys ")
    assert row[2:] == (("builders from 2026-01-01T00:00:00Z",), ("builders",))


def test_events_of_the_reference_are_compared_pcr_by_pcr() -> None:
    (row,) = diff('"0x0000040e"', '"0x0000040f"')
    assert row == ("reference", "PCR 9", (f"0x0000040e sha256:{B.hex()}",), (f"0x0000040f sha256:{B.hex()}",))


def test_differences_stand_in_the_order_of_sections() -> None:
    before = parse_golden(FULL.encode(), "a")
    after = parse_golden(f'format: nodeseal/golden/1\nname: b\npcrs: {{sha256: {{"4": ["{A.hex()}"]}}}}'.encode(), "b")
    sections = [difference.section for difference in diff_goldens(before, after)]
    order = ["pcrs", "boot", "runtime", "platform", "egress", "valid", "nodes", "reference"]
    assert sections == sorted(sections, key=order.index)
    assert set(sections) == set(order)


def test_only_the_name_differs_means_that_they_judge_alike() -> None:
    assert diff("rack-a", "rack-b") == []
