from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.evidence.quote_files import QuoteFiles, verify_quote_files

VECTORS = Path(__file__).parents[2] / "vectors"
CASES: dict[str, dict[str, Any]] = {case["name"]: case for case in json.loads((VECTORS / "quotes.json").read_text())}


def outcome(case: dict[str, Any]) -> str:
    files = QuoteFiles(
        attest=bytes.fromhex(case["attest"]),
        signature=bytes.fromhex(case["signature"]),
        public=case["public"].encode(),
        pcrs=json.dumps(case["pcrs"]).encode(),
    )
    try:
        verify_quote_files(files, bytes.fromhex(case["nonce"]))
    except ProofFailed as error:
        return "+".join(finding.id.code for finding in error.findings)
    except MalformedInput:
        return "malformed"
    return "verified"


@pytest.mark.parametrize("name", CASES)
def test_the_vector_gives_what_it_names(name: str) -> None:
    assert outcome(CASES[name]) == CASES[name]["expected"]


def test_the_generator_still_makes_these_vectors() -> None:
    made = runpy.run_path(str(VECTORS / "quotes-generate.py"))["vectors"]()
    assert json.loads(json.dumps(made)) == list(CASES.values())
