"""The published schema: a valid one, and what it must refuse it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from nodeseal.golden.document import dump_golden, parse_golden
from nodeseal.golden.model import document_of
from nodeseal.golden.schema import golden_schema
from support.goldens import FULL

SCHEMA: dict[str, Any] = json.loads(golden_schema())
VALIDATOR = Draft202012Validator(SCHEMA)


def test_the_schema_is_one_of_draft_2020_12() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    Draft202012Validator.check_schema(SCHEMA)


def test_a_golden_with_every_key_is_valid_in_each_of_its_forms() -> None:
    golden = parse_golden(FULL.encode(), "g")
    for form in (yaml.safe_load(FULL), yaml.safe_load(dump_golden(golden)), document_of(golden)):
        assert list(VALIDATOR.iter_errors(form)) == []


def test_every_property_of_the_schema_is_used_by_the_example() -> None:
    used = {key for value in _mappings(yaml.safe_load(FULL)) for key in value}
    named = {key for value in _mappings(SCHEMA) for key in value.get("properties", {})}
    assert named - used == {"bank", "sha384", "sha512"}


def _mappings(value: object) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        return [value, *(found for each in value.values() for found in _mappings(each))]
    return [found for each in value for found in _mappings(each)] if isinstance(value, list) else []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"format": "nodeseal/golden/2"}, id="a later format"),
        pytest.param({"name": "Rack A"}, id="a bad name"),
        pytest.param({"pcrs": {"sha1": {"4": ["00" * 20]}}}, id="SHA-1"),
        pytest.param({"pcrs": {"sha256": {"10": ["00" * 32]}}}, id="the PCR that IMA extends"),
        pytest.param({"pcrs": {"sha256": {"23": ["00" * 32]}}}, id="the lease epoch"),
        pytest.param({"boot": {"secure_boot": False}}, id="a rule that demands nothing"),
        pytest.param({"runtime": {"excludes": ["/var/log/"]}}, id="nothing may run"),
        pytest.param({"unknown": 1}, id="an unknown key"),
    ],
)
def test_the_schema_refuses_what_the_parser_refuses(change: dict[str, Any]) -> None:
    assert not VALIDATOR.is_valid({**yaml.safe_load(FULL), **change})
