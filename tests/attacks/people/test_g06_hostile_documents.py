"""Row g06: hostile rules and proposals are refused with what is wrong, and nothing of them is kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc
import pytest

from nodeseal.governance.rules import MAX_RULES
from nodeseal.ids import digest_of
from nodeseal.v1 import governance_pb2 as pb
from support.terminal import Terminal
from support.together import quorum_rules, rules_change, several
from support.verifier import RunningVerifier, a_verifier, refused


def without_spaces(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False).encode()


CREATE = {"kind": "key.revoke", "key": "llama"}
HOSTILE_CHANGES = {
    "unknown key": (without_spaces({**CREATE, "node": "n"}), "unknown key: 'node'"),
    "missing key": (without_spaces({"kind": "key.revoke"}), "key is missing"),
    "unknown kind": (without_spaces({"kind": "key.leak"}), "unknown kind of change 'key.leak'"),
    "terminal escape": (without_spaces({"kind": "key.revoke", "key": "a\x1b[31m"}), "key is not printable text"),
    "another spelling": (b'{"kind":"key.revoke", "key":"llama"}', "not in canonical form"),
    "twice": (b'{"key":"a","key":"llama","kind":"key.revoke"}', "duplicate key"),
    "deep": (b"[" * 5000 + b"]" * 5000, "change"),
    "large": (without_spaces({"kind": "key.revoke", "key": "x" * 70_000}), "more than 65536 bytes"),
}


def test_g06_hostile_proposals_are_refused_by_name(tmp_path: Path) -> None:
    async def case(verifier: RunningVerifier) -> None:
        async with several(verifier) as people:
            kim = people["kim"]
            before = verifier.records()
            for name, (change, why) in HOSTILE_CHANGES.items():
                request = pb.DraftProposalRequest(change=change, reason="x", lifetime_hours=1)
                refusal = await refused(kim.calls.proposals.DraftProposal(request))
                assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT, name
                assert why in refusal.details, (name, refusal.details)
                assert "\x1b" not in refusal.details
            proposed, document = rules_change(quorum_rules())
            good = await kim.draft(proposed)
            for forged, why in (
                (good.replace(b'"reason":"a test"', b'"reason":"a\\u001b[2Jtest"'), "reason is not printable"),
                (good.replace(b'"format"', b'"farmat"'), "format is missing"),
                (good + b"\n", "canonical"),
                (good[:-1] + b',"zzz":1}', "unknown key: 'zzz'"),
                (b"x" * 70_000, "more than 65536 bytes"),
            ):
                refusal = await refused(kim.make(forged, document))
                assert (refusal.code, why in refusal.details) == (grpc.StatusCode.INVALID_ARGUMENT, True), refusal
            other = await refused(kim.make(good, document + b" "))
            assert "attachment is not the one" in other.details
            bomb = b"a: &a [*a, *a]\n"
            draft = await kim.draft({"kind": "rules.set", "document": digest_of(bomb)})
            assert (await refused(kim.make(draft, bomb))).code is grpc.StatusCode.INVALID_ARGUMENT
            assert verifier.records() == before

    with a_verifier(tmp_path) as verifier:
        asyncio.run(case(verifier))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("format: 'nodeseal/rules/1'\nversion: 2\nrule: 'solo'\nversion: 3\n", "rules.yaml, line 4: duplicate key"),
        ("a: &a ['x']\nb: [*a, *a]\n", "rules.yaml, line 1: anchors, aliases and tags are not accepted"),
        ("format: 'nodeseal/rules/1'\nversion: 2\nrule: 'solo'\nquorum: 1\n", "rules.yaml, line 4: unknown key"),
        ("#" * (MAX_RULES + 1), "rules.yaml"),
    ],
    ids=["duplicate", "alias", "unknown", "large"],
)
def test_g06_a_hostile_file_of_rules_is_named_with_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "rules.yaml").write_text(text)
    done = Terminal(tmp_path / "none", tmp_path).type("rules", "check", "rules.yaml", exit_code=1)
    assert said in done.stderr
