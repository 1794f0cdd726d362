"""Rules: one spelling, every mistake named with file, line and key (row g06), and what they lack."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.errors import MalformedInput, NodesealError
from nodeseal.files import read_small
from nodeseal.governance.changes import ALWAYS, ChangeKind
from nodeseal.governance.rules import MAX_RULES, SOLO, Rules, decode_rules, parse_rules, solo
from nodeseal.ids import PersonId

GOOD = """\
format: "nodeseal/rules/1"
version: 2
rule: "quorum"
approvals: 2
groups:
  - "security any kim lee"
  - "both all security ann"
require: ["both"]
user_verification: false
approvals_last_hours: 72
needs_proposal: ["key.grant", "golden.activate"]
"""


def rules(text: str = GOOD) -> Rules:
    return parse_rules(text.encode(), "rules.yaml")


def people(*names: str) -> list[PersonId]:
    return [PersonId(name) for name in names]


def test_rules_come_back_from_their_one_spelling() -> None:
    for each in (rules(), SOLO, solo(7), rules(GOOD.replace('["key.grant", "golden.activate"]', '["all"]'))):
        assert decode_rules(each.encode(), "rules") == each


def test_the_digest_covers_every_rule() -> None:
    digests = {
        rules().digest,
        rules(GOOD.replace("version: 2", "version: 3")).digest,
        rules(GOOD.replace("approvals: 2", "approvals: 1")).digest,
        rules(GOOD.replace("any kim", "all kim")).digest,
        rules(GOOD.replace('["both"]', "[]")).digest,
        rules(GOOD.replace("false", "true")).digest,
        rules(GOOD.replace("72", "71")).digest,
        rules(GOOD.replace('"key.grant", ', "")).digest,
    }
    assert len(digests) == 8


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("approvals: 2", "approvals: 2\nquorum: 2", "rules.yaml, line 5: unknown key: 'quorum'"),
        ("approvals: 2", "approvals: 2\napprovals: 1", "rules.yaml, line 5: duplicate key 'approvals'"),
        ("approvals: 2", "approvals: 0", "rules.yaml, line 4: approvals is not an integer from 1"),
        ("approvals: 2\n", "", "rules.yaml: approvals is missing"),
        ("approvals: 2", "approvals: &a 2", "rules.yaml, line 4: anchors, aliases and tags"),
        ("version: 2", "version: 0", "rules.yaml, line 2: version"),
        ('rule: "quorum"', 'rule: "any"', 'rules.yaml, line 3: rule is not "solo" or "quorum"'),
        ('rule: "quorum"', 'rule: "solo"', "unknown key: 'approvals'"),
        ("security any", "security 3", "rules.yaml, line 6: an item of groups is not a group of any, all or 1 to 2"),
        ("security any", "security 0", "rules.yaml, line 6: an item of groups"),
        ("security any", "security ¹", "rules.yaml, line 6: an item of groups"),
        ("any kim lee", "any kim kim", "line 6: an item of groups is not a group of its own name with different"),
        ("both all security ann", "security all ann", "line 7: an item of groups is not a group of its own name"),
        ("both all security ann", "both all", "line 7: an item of groups is not NAME K|any|all MEMBER…"),
        ("both all security ann", "both  all ann", "line 7: an item of groups"),
        ("both all security ann", "both all \\e[31m", "line 7: an item of groups"),
        ('["both"]', '["nobody"]', "rules.yaml, line 8: require is not a list of groups, each once"),
        ('["both"]', '["both", "both"]', "rules.yaml, line 8: require"),
        ("72", "721", "line 10: approvals_last_hours is not an integer from 1 to 720"),
        ("false", "0", "line 9: user_verification is not true or false"),
        ('"golden.activate"', '"golden.eat"', "rules.yaml, line 11: needs_proposal is not a list of kinds"),
        ("rules/1", "rules/2", "line 1: format is not 'nodeseal/rules/1'"),
    ],
)
def test_g06_a_mistake_in_rules_is_named_with_file_line_and_key(before: str, after: str, said: str) -> None:
    assert before in GOOD
    with pytest.raises(MalformedInput) as caught:
        rules(GOOD.replace(before, after, 1))
    assert said in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_g06_an_alias_bomb_is_refused_before_it_grows() -> None:
    bomb = 'a: &a ["x"]\n' + "".join(f"b{n}: &b{n} [*a, *a]\n" for n in range(30))
    with pytest.raises(MalformedInput, match=r"rules\.yaml, line 1: anchors, aliases and tags"):
        rules(bomb)


def test_g06_a_file_of_a_hundred_megabytes_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    with pytest.raises(NodesealError, match=r"rules\.yaml"):
        read_small(path, MAX_RULES)
    with pytest.raises(MalformedInput, match=f"rules.yaml: more than {MAX_RULES} bytes"):
        parse_rules(b"#" * (MAX_RULES + 1), "rules.yaml")
    with pytest.raises(MalformedInput, match=f"rules: more than {MAX_RULES} bytes"):
        decode_rules(b" " * (MAX_RULES + 1), "rules")


def test_another_spelling_of_a_document_is_refused() -> None:
    raw = rules().encode()
    for other in (raw + b"\n", raw.replace(b'"approvals":2', b'"approvals":2.0'), raw.replace(b"any", b"any", 1)[:-1]):
        with pytest.raises(MalformedInput):
            decode_rules(other, "rules")
    with pytest.raises(MalformedInput, match="one spelling"):
        decode_rules(raw.replace(b"security 1 kim", b"security any kim"), "rules")


def test_what_gets_around_a_quorum_is_governed_by_every_quorum() -> None:
    assert rules().governed == {ChangeKind.KEY_GRANT, ChangeKind.GOLDEN_ACTIVATE} | ALWAYS
    assert ChangeKind.RULES_SET in ALWAYS
    assert rules().governs(ChangeKind.KEY_GRANT)
    assert not rules().governs(ChangeKind.KEY_CREATE)
    assert not any(SOLO.governs(kind) for kind in ChangeKind)


def test_what_approvals_lack_is_told() -> None:
    assert list(rules().missing([])) == ["2 more of 2 approvals", "group both"]
    assert list(rules().missing(people("kim", "lee"))) == ["group both"]
    assert list(rules().missing(people("ann"))) == ["1 more of 2 approvals", "group both"]
    assert list(rules().missing(people("kim", "ann"))) == []
    assert list(SOLO.missing([])) == []


@given(st.binary(max_size=300))
def test_whatever_bytes_come_they_are_rules_or_refused(raw: bytes) -> None:
    for parse in (parse_rules, decode_rules):
        try:
            found = parse(raw, "rules")
        except MalformedInput:
            continue
        assert decode_rules(found.encode(), "rules") == found
