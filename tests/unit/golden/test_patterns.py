"""Command line patterns: what varies is one value of a named parameter, whatever a hostile line holds."""

from __future__ import annotations

import time

import pytest

from nodeseal.golden.patterns import MAX_PATTERN, command_line_matches, pattern_fault

GRUB = "/vmlinuz-* root=UUID=* ro console=ttyS*,115200 ima_policy=tcb"
LINE = "/vmlinuz-6.1.0-28 root=UUID=0a1b ro console=ttyS0,115200 ima_policy=tcb"


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        pytest.param("ro quiet", "ro quiet", id="the same words"),
        pytest.param(GRUB, LINE, id="values that vary"),
        pytest.param("root=*", "root=", id="nothing for the star"),
        pytest.param("a=*b*c", "a=xbybzc", id="parts in order, the last as late as it can be"),
        pytest.param("a=**", "a=x", id="two stars"),
        pytest.param('dyndbg="file x"', 'dyndbg="file x"', id="quotes that are meant"),
        pytest.param("a=x*", "a=x*", id="a star in the line"),
        pytest.param("(hd0,gpt2)/vmlinuz-*", "(hd0,gpt2)/vmlinuz-6", id="a path with GRUB's device"),
        pytest.param("ro  quiet", "ro  quiet", id="two spaces in both"),
    ],
)
def test_a_line_that_is_meant_matches(pattern: str, line: str) -> None:
    assert pattern_fault(pattern) == ""
    assert command_line_matches(pattern, line)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(LINE + " init=/bin/sh", id="a parameter added at the end"),
        pytest.param(LINE.replace(" ro", " init=/bin/sh ro"), id="a parameter added behind a value"),
        pytest.param(LINE.replace(" ro", "\tinit=/bin/sh ro"), id="a parameter behind a tab"),
        pytest.param(LINE.replace(" ro", "\ninit=/bin/sh ro"), id="a parameter behind a newline"),
        pytest.param(LINE.replace(" ro", "\xa0init=/bin/sh ro"), id="a parameter behind a space of Latin-1"),
        pytest.param(LINE.replace("UUID=0", 'UUID="'), id="a quote that hides the words behind it"),
        pytest.param(LINE.replace("UUID=0", "UUID='"), id="a quote of systemd's"),
        pytest.param(LINE.replace("UUID=0", "UUID=\\"), id="a backslash"),
        pytest.param(LINE.replace(" ima_policy=tcb", ""), id="a parameter missing"),
        pytest.param(LINE.replace("root=", "Root="), id="another name"),
        pytest.param(LINE.replace(",115200", ""), id="a value cut off"),
        pytest.param(LINE.replace(" ro ", "  "), id="an empty word"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_line_that_is_not_meant_does_not_match(line: str) -> None:
    assert command_line_matches(GRUB, LINE)
    assert not command_line_matches(GRUB, line)


def test_prefix_and_suffix_do_not_overlap() -> None:
    assert not command_line_matches("a=bb*bb", "a=bbb")
    assert command_line_matches("a=bb*bb", "a=bbbb")


def test_parts_between_stars_must_stand_in_order() -> None:
    assert not command_line_matches("a=*b*c*", "a=cb")


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        pytest.param("", "printable", id="nothing"),
        pytest.param("a" * (MAX_PATTERN + 1), "printable", id="too long"),
        pytest.param("ro\tquiet", "printable", id="a tab"),
        pytest.param("ro * quiet", "naming", id="any parameter"),
        pytest.param("ro i*t=/sbin/init", "naming", id="a star in a name"),
        pytest.param('a="*"', "quotes", id="a star in quotes"),
        pytest.param("a=\\*", "quotes", id="a star behind a backslash"),
    ],
)
def test_a_pattern_that_lets_too_much_through_is_refused(pattern: str, fault: str) -> None:
    assert fault in pattern_fault(pattern)


def test_a_hostile_line_costs_little() -> None:
    pattern = "a=" + "*a" * 1000 + "*b"
    before = time.process_time()
    assert not command_line_matches(pattern, "a=" + "a" * 1_000_000)
    assert time.process_time() - before < 1
