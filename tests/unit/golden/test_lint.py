"""What an approver is told: everything that a golden judges, and everything that it leaves open."""

from __future__ import annotations

import pytest

from nodeseal.golden.document import parse_golden
from nodeseal.golden.lint import lint_golden
from support.goldens import FULL, A

EXACT = f'format: nodeseal/golden/1\nname: g\npcrs: {{sha256: {{"4": ["{A.hex()}"]}}}}\n'


def test_what_is_judged_is_named() -> None:
    judged = "\n".join(lint_golden(parse_golden(FULL.encode(), "g")).covered)
    for part in ("sha256 PCR 7 (secure boot", "2 values", "who signed", "dbx", "2 paths, 1 signing keys", "rack=a"):
        assert part in judged


def test_pcrs_that_nothing_looks_at_are_named() -> None:
    unseen = [line for line in lint_golden(parse_golden(EXACT.encode(), "g")).open if "nothing looks" in line]
    assert [line.split()[1] for line in unseen] == [
        "0",
        "1",
        "2",
        "3",
        "5",
        "6",
        "7",
        "8",
        "9",
        "11",
        "12",
        "13",
        "14",
        "15",
    ]
    full = "\n".join(lint_golden(parse_golden(FULL.encode(), "g")).open)
    assert "PCR 0 (firmware code): nothing looks at it" in full
    assert "PCR 5" not in full


@pytest.mark.parametrize(
    ("change", "to", "warning"),
    [
        pytest.param("", "", "exclude /var/log/: anything may run from it", id="an exclude"),
        pytest.param("/var/log/", "/usr/bin/", "programs or settings lie there", id="an exclude where programs lie"),
        pytest.param("", "", "violations /var/log/journal", id="a violation"),
        pytest.param("", "", "lets values vary", id="a pattern"),
        pytest.param("  secure_boot: true\n", "", "need not have checked", id="signers without secure boot"),
        pytest.param("  buffers:", "  # buffers:", "any may be measured", id="no list of buffers"),
    ],
)
def test_what_is_left_open_is_named(change: str, to: str, warning: str) -> None:
    found = lint_golden(parse_golden(FULL.replace(change, to, 1).encode(), "g")).open
    assert any(warning in line for line in found)


def test_a_golden_without_runtime_rules_says_so() -> None:
    assert "what runs after boot: there is no runtime section" in lint_golden(parse_golden(EXACT.encode(), "g")).open


def test_revoked_images_may_run_where_neither_dbx_nor_pcr_7_is_judged() -> None:
    warning = "dbx: images that were revoked may still run"
    boot = f'boot: {{secure_boot: true, signers: [{{sha256: "{A.hex()}"}}]}}\n'
    assert warning in lint_golden(parse_golden(f"{EXACT}{boot}".encode(), "g")).open
    floor = boot.replace("true,", f'true, dbx: ["{A.hex()}"],')
    assert warning not in lint_golden(parse_golden(f"{EXACT}{floor}".encode(), "g")).open


def open_in(document: str) -> str:
    return "\n".join(lint_golden(parse_golden(document.encode(), "g")).open)


IMAGE = f'[{{name: k, digests: ["{A.hex()}"]}}]'
LOG_ONLY = "format: nodeseal/golden/1\nname: g\n"


def _pinning(pcr: str) -> str:
    """Return the section with exact values of a PCR, or nothing for no PCR."""
    return f'pcrs: {{sha256: {{"{pcr}": ["{A.hex()}"]}}}}\n' if pcr else ""


@pytest.mark.parametrize(
    ("pcr", "rule"),
    [
        pytest.param("14", "", id="exact values of PCR 14"),
        pytest.param("4", "", id="exact values of PCR 4"),
        pytest.param("", f", images: {IMAGE}", id="a list of images"),
    ],
)
def test_shim_may_check_nothing_unless_there_are(pcr: str, rule: str) -> None:
    warning, signers = "(MokSBState) can be hidden", f'signers: [{{sha256: "{A.hex()}"}}]'
    assert warning in open_in(f"{LOG_ONLY}boot: {{secure_boot: true, {signers}}}\n")
    assert warning not in open_in(f"{LOG_ONLY}{_pinning(pcr)}boot: {{secure_boot: true, {signers}{rule}}}\n")


@pytest.mark.parametrize(
    ("pcr", "rule"),
    [
        pytest.param("9", "", id="exact values of PCR 9"),
        pytest.param("", f", files: {IMAGE}", id="a list of files"),
    ],
)
def test_a_kernel_that_firmware_starts_may_have_any_command_line_unless_there_are(pcr: str, rule: str) -> None:
    warning, lines = "call a file; only a list of files", f'images: {IMAGE}, command_lines: ["/vmlinuz ro"]'
    assert warning in open_in(f"{LOG_ONLY}boot: {{{lines}}}\n")
    assert warning not in open_in(f"{LOG_ONLY}{_pinning(pcr)}boot: {{{lines}{rule}}}\n")


def test_a_kernel_started_by_another_is_seen_by_runtime_rules_only() -> None:
    assert "kexec: another kernel may run" in open_in(EXACT)
    assert "kexec: another kernel" not in open_in(FULL)


def test_what_the_running_system_can_measure_itself_is_named_unless_pcr_4_is_pinned() -> None:
    lines = 'boot: {command_lines: ["/vmlinuz ro"]}\n'
    rules = f'{lines[:-2]}, images: [{{name: k, digests: ["{A.hex()}"]}}]}}\n'
    left = "\n".join(lint_golden(parse_golden(f"format: nodeseal/golden/1\nname: g\n{rules}".encode(), "g")).open)
    assert "PCR 8, 9, 12: an allowed image that is booted without the loader" in left
    pinned = "\n".join(lint_golden(parse_golden(f"{EXACT}{lines}".encode(), "g")).open)
    assert "booted without the loader" not in pinned


@pytest.mark.parametrize(
    ("bank", "labels", "warned"),
    [("sha384", "", True), ("sha384", "nodes: {rack: a}\n", False), ("sha256", "", False)],
)
def test_a_golden_of_another_bank_without_labels_says_whom_it_reaches(bank: str, labels: str, *, warned: bool) -> None:
    value = (A * 2)[: 48 if bank == "sha384" else 32].hex()
    text = f'format: nodeseal/golden/1\nname: g\n{labels}pcrs: {{{bank}: {{"4": ["{value}"]}}}}\n'
    found = lint_golden(parse_golden(text.encode(), "g")).open
    assert any(line.startswith("bank sha384: no labels") for line in found) is warned
