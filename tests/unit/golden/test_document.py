"""Goldens: one identity per content, and nothing vague is accepted (g06)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.golden.document import dump_golden, parse_golden
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import FileDigest, RuntimeRules, Window
from nodeseal.tpm.algorithms import HashAlg

A, B, C = (bytes([n]) * 32 for n in (0xA1, 0xB2, 0xC3))
MANY = ", ".join(f'"{number:064x}"' for number in range(65))

GOOD = f"""\
format: nodeseal/golden/1
name: rack-a
pcrs:
  sha256:
    "0": ["{A.hex()}"]
    "4": ["{A.hex()}", "{B.hex()}"]
"""


def golden(pcrs: Mapping[int, set[bytes]], name: str = "rack-a") -> Golden:
    return Golden(name=name, pcrs={HashAlg.SHA256: {pcr: frozenset(values) for pcr, values in pcrs.items()}})


def test_a_golden_says_which_values_each_pcr_may_have() -> None:
    parsed = parse_golden(GOOD.encode(), "g.yaml")
    assert parsed.name == "rack-a"
    assert list(parsed.rows()) == [
        (HashAlg.SHA256, 0, frozenset({A})),
        (HashAlg.SHA256, 4, frozenset({A, B})),
    ]


@pytest.mark.parametrize(
    ("change", "to"),
    [
        pytest.param('"0"', "0", id="a PCR number without quotes"),
        pytest.param("name: rack-a", "name: rack-a # the north one", id="a comment"),
        pytest.param(f'"{A.hex()}", "{B.hex()}"', f'"{B.hex()}", "{A.hex()}"', id="values in another order"),
        pytest.param(f'["{A.hex()}"]', f'\n      - "{A.hex()}"', id="a list in block style"),
    ],
)
def test_spelling_does_not_change_the_identity(change: str, to: str) -> None:
    assert parse_golden(GOOD.replace(change, to).encode(), "g").digest == parse_golden(GOOD.encode(), "g").digest


@pytest.mark.parametrize(
    ("change", "to"),
    [
        pytest.param("rack-a", "rack-b", id="another name"),
        pytest.param('"0"', '"5"', id="another PCR"),
        pytest.param(B.hex(), C.hex(), id="another value"),
        pytest.param(f', "{B.hex()}"', "", id="one value less"),
    ],
)
def test_content_changes_the_identity(change: str, to: str) -> None:
    changed = parse_golden(GOOD.replace(change, to).encode(), "g")
    good = parse_golden(GOOD.encode(), "g")
    assert changed.digest != good.digest
    assert changed != good


def test_the_identity_of_a_known_golden_never_changes() -> None:
    # Made independently: printf of the canonical JSON into sha256sum.
    assert parse_golden(GOOD.encode(), "g").digest == "e224b9011e60a442ed82356e809d550a4e39ac33a18113c467f7a6c56a3e5348"


@pytest.mark.parametrize(
    ("change", "to", "line", "key"),
    [
        pytest.param("golden/1", "golden/2", 1, "format", id="a later format"),
        pytest.param("rack-a", "../etc", 2, "name", id="a name that is a path"),
        pytest.param("name: rack-a", "name: rack-a\nboots: {}", 3, "'boots'", id="an unknown key"),
        pytest.param("name: rack-a", "name: rack-a\nname: rack-b", 3, "'name'", id="a duplicate key"),
        pytest.param("sha256:", "sha1:", 4, "sha1", id="a bank whose hash has collisions"),
        pytest.param("sha256:", "sha255:", 4, "sha255", id="an unknown bank"),
        pytest.param('"4"', '"0"', 6, "'0'", id="a PCR named twice"),
        pytest.param('"4"', "04", 6, "04", id="a PCR number with a leading zero"),
        pytest.param('"4"', "-4", 6, "-4", id="a negative PCR"),
        pytest.param('"4"', '"24"', 6, "24", id="a PCR that does not exist"),
        pytest.param('"4"', '"10"', 6, "10", id="the PCR that IMA extends"),
        pytest.param('"4"', '"23"', 6, "lease epoch", id="the lease epoch"),
        pytest.param('"4"', '"16"', 6, "16", id="the debug PCR"),
        pytest.param(f'["{A.hex()}"]', "[]", 5, "0", id="an empty list"),
        pytest.param(f'["{A.hex()}"]', f'"{A.hex()}"', 5, "0", id="text where a list is due"),
        pytest.param(f'["{A.hex()}"]', "{}", 5, "0", id="a mapping where a list is due"),
        pytest.param(f'["{A.hex()}"]', "[[]]", 5, "0", id="a list in the list"),
        pytest.param(f'["{A.hex()}"]', "[12]", 5, "0", id="a number where hex is due"),
        pytest.param(f'["{A.hex()}"]', f'["{A.hex().upper()}"]', 5, "0", id="upper-case hex"),
        pytest.param(f'["{A.hex()}"]', f'["{A.hex()[2:]}"]', 5, "0", id="a digest that is short"),
        pytest.param(f'["{A.hex()}"]', f'["{A.hex()}00"]', 5, "0", id="a digest that is long"),
        pytest.param(f'["{A.hex()}"]', f'["{A.hex()[1:]}"]', 5, "0", id="half a byte"),
        pytest.param(f'["{A.hex()}"]', '[""]', 5, "0", id="an empty value"),
        pytest.param(f', "{B.hex()}"', f', "{A.hex()}"', 6, "4", id="a value named twice"),
        pytest.param(f'["{A.hex()}"]', f"[{MANY}]", 5, "0", id="too many values"),
    ],
)
def test_g06_a_hostile_golden_is_refused_with_file_line_and_key(change: str, to: str, line: int, key: str) -> None:
    assert change in GOOD
    with pytest.raises(MalformedInput, match=rf"^g\.yaml, (.*, )?line {line}: .*{re.escape(key)}"):
        parse_golden(GOOD.replace(change, to, 1).encode(), "g.yaml")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="an empty file"),
        pytest.param("[]", id="a list"),
        pytest.param("format: nodeseal/golden/1\nname: rack-a\n", id="no pcrs"),
        pytest.param("format: nodeseal/golden/1\nname: rack-a\npcrs: {}\n", id="no bank"),
        pytest.param("format: nodeseal/golden/1\nname: rack-a\npcrs: {sha256: {}}\n", id="a bank without PCRs"),
        pytest.param("format: nodeseal/golden/1\nname: rack-a\npcrs: []\n", id="a list where banks are due"),
        pytest.param("format: nodeseal/golden/1\nname: rack-a\npcrs: {sha256: []}\n", id="a list where PCRs are due"),
        pytest.param(GOOD.replace("rack-a", "&a rack-a"), id="an anchor"),
        pytest.param(GOOD + "---\n" + GOOD, id="two documents"),
    ],
)
def test_g06_a_golden_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(MalformedInput, match=r"^g\.yaml"):
        parse_golden(text.encode(), "g.yaml")


@pytest.mark.parametrize("pcr", [0, 7, 11])
def test_a_golden_that_lets_anything_boot_is_refused(pcr: int) -> None:
    text = f'format: nodeseal/golden/1\nname: rack-a\npcrs: {{sha256: {{"{pcr}": ["{A.hex()}"]}}}}\n'
    with pytest.raises(MalformedInput, match=r"(?m)^g\.yaml: no rule in it looks at what boots$"):
        parse_golden(text.encode(), "g.yaml")


@pytest.mark.parametrize(
    "pcrs",
    [
        pytest.param({}, id="no bank"),
        pytest.param({HashAlg.SHA256: {}}, id="a bank without PCRs"),
        pytest.param({HashAlg.SHA256: {0: frozenset({A})}, HashAlg.SHA384: {}}, id="one bank of two without PCRs"),
        pytest.param({HashAlg.SHA256: {0: frozenset()}}, id="a PCR without values"),
        pytest.param({HashAlg.SHA256: {0: frozenset({A[1:]})}}, id="a short value"),
        pytest.param({HashAlg.SHA256: {10: frozenset({A})}}, id="the PCR that IMA extends"),
        pytest.param({HashAlg.SHA256: {-1: frozenset({A})}}, id="a negative PCR"),
        pytest.param({HashAlg.SHA256: {24: frozenset({A})}}, id="a PCR that does not exist"),
        pytest.param({HashAlg.SHA1: {0: frozenset({A[:20]})}}, id="a bank whose hash has collisions"),
    ],
)
def test_a_golden_built_in_code_obeys_the_same_rules(pcrs: Mapping[HashAlg, Mapping[int, frozenset[bytes]]]) -> None:
    with pytest.raises(MalformedInput, match=r"^golden rack-a: "):
        Golden(name="rack-a", pcrs=pcrs)


def test_a_golden_built_in_code_needs_a_name() -> None:
    with pytest.raises(MalformedInput, match="golden name"):
        golden({0: {A}}, name="Rack A")


def test_a_golden_does_not_change_with_what_it_was_made_from() -> None:
    pcrs = {HashAlg.SHA256: {0: frozenset({A})}}
    made = Golden(name="rack-a", pcrs=pcrs)
    pcrs[HashAlg.SHA256][0] = frozenset({B})
    assert list(made.rows()) == [(HashAlg.SHA256, 0, frozenset({A}))]


def test_dumping_is_readable_and_parses_back_to_the_same_digest() -> None:
    made = Golden(
        name="null",
        pcrs={
            HashAlg.SHA384: {7: frozenset({A + A[:16]})},
            HashAlg.SHA256: {11: frozenset({C}), 4: frozenset({B, A})},
        },
    )
    text = dump_golden(made)
    assert text.decode().splitlines() == [
        'format: "nodeseal/golden/1"',
        'name: "null"',
        "pcrs:",
        "  sha256:",
        '    "4":',
        f'      - "{A.hex()}"',
        f'      - "{B.hex()}"',
        f'    "11": ["{C.hex()}"]',
        "  sha384:",
        f'    "7": ["{(A + A[:16]).hex()}"]',
    ]
    assert parse_golden(text, "dump") == made


@pytest.mark.parametrize("size", [1000, 1020, 1024, 1025, 4096])
def test_a_path_of_any_length_parses_back(size: int) -> None:
    files = {
        "/" + "a" * (size - 1): (
            FileDigest(digest=bytes(32)),
            FileDigest(digest=b"\1" * 32, valid=Window(end=datetime(2026, 1, 1, tzinfo=UTC))),
        )
    }
    golden = Golden(name="g", pcrs={HashAlg.SHA256: {4: frozenset({bytes(32)})}}, runtime=RuntimeRules(files=files))
    assert parse_golden(dump_golden(golden), "dumped") == golden
