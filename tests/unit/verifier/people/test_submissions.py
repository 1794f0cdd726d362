"""What travels beside a proposal is what its facts say, which is what people read."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from nodeseal.documents import Fields
from nodeseal.errors import MalformedInput
from nodeseal.golden.document import parse_golden
from nodeseal.governance.changes import Change, parse_change
from nodeseal.governance.reslot import decode_reslot, encode_reslot, named
from nodeseal.ids import digest_of
from nodeseal.verifier.people.submissions import require_attachment
from support.decoders import MODEL_KEY, SLOTS

GOLDEN = b'format: nodeseal/golden/1\nname: rack-a\npcrs:\n  sha256:\n    "4": ["' + b"ab" * 32 + b'"]\n'
RESLOT = encode_reslot(SLOTS, (MODEL_KEY,))
ACTIVATE = {
    "kind": "golden.activate",
    "golden": parse_golden(GOLDEN, "golden").digest,
    "name": "rack-a",
    "document": digest_of(GOLDEN),
}
SEAL = {
    "kind": "model.reslot",
    "model": decode_reslot(RESLOT)[0].model_digest,
    "keys": [named(MODEL_KEY)],
    "document": digest_of(RESLOT),
}
OTHER = "f" * 64


def change_of(facts: Mapping[str, object]) -> Change:
    return parse_change(Fields(facts, "change"))


@pytest.mark.parametrize(("facts", "attachment"), [(ACTIVATE, GOLDEN), (SEAL, RESLOT)])
def test_an_attachment_that_says_what_the_change_says_is_taken(facts: Mapping[str, object], attachment: bytes) -> None:
    require_attachment(change_of(facts), attachment)


@pytest.mark.parametrize(
    ("facts", "attachment", "fact", "other"),
    [
        (ACTIVATE, GOLDEN, "golden", OTHER),
        (ACTIVATE, GOLDEN, "name", "rack-b"),
        (SEAL, RESLOT, "model", OTHER),
        (SEAL, RESLOT, "keys", ["harmless version 1"]),
    ],
)
def test_an_attachment_that_says_something_else_than_people_read_is_refused(
    facts: Mapping[str, object], attachment: bytes, fact: str, other: object
) -> None:
    with pytest.raises(MalformedInput, match=f"change: {fact} is .* and the attachment says"):
        require_attachment(change_of({**facts, fact: other}), attachment)


def test_another_attachment_is_refused() -> None:
    with pytest.raises(MalformedInput, match="not the one that the proposal names"):
        require_attachment(change_of(ACTIVATE), GOLDEN + b"\n")
