"""What the benchmarks write."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import main
from benchmarks.harness import Missing, Result
from benchmarks.openssl import parse_gcm_speed, parse_speed
from benchmarks.verifier import with_settings

ROOT = Path(__file__).resolve().parents[3]
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
GOOD = Result.of((0.5, 0.41234567, 0.3), against="bare | metal", note="as it is")
RESULTS = {"rounds_over_p256_verify": GOOD, "kib_per_node": Result.missing("no such thing")}


def test_the_document_has_the_shape_that_programs_expect() -> None:
    content = json.loads(report.document(RESULTS, AT, "abc"))
    assert content.keys() == {"machine", "date", "commit", "results"}
    assert (content["date"], content["commit"]) == ("2026-01-02T03:04:05+00:00", "abc")
    assert content["results"]["rounds_over_p256_verify"] == {
        "value": 0.4123,
        "unit": "ratio",
        "runs": [0.5, 0.4123, 0.3],
        "against": "bare | metal",
        "note": "as it is",
    }


def test_a_missing_figure_is_null_with_its_reason() -> None:
    missing = json.loads(report.document(RESULTS, AT, "abc"))["results"]["kib_per_node"]
    assert (missing["value"], missing["note"]) == (None, "no such thing")


def test_the_table_has_one_row_for_each_figure_and_as_many_cells_in_each() -> None:
    rows = [line for line in report.table(RESULTS, AT, "abc").decode().splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {6}
    assert rows[2].startswith("| `rounds_over_p256_verify` | 0.4123 | report | 0.3 to 0.5 |")
    assert rows[3].startswith("| `kib_per_node` | - | ≤ 110 | - | no such thing |")


def test_the_page_for_people_names_every_figure() -> None:
    page = (ROOT / "benchmarks" / "README.md").read_text()
    assert [key for key in report.REACH if f"`{key}`" not in page] == []


def test_an_unknown_figure_is_a_misuse(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no-such-figure"]) == 2
    usage = capsys.readouterr().err
    assert [key for key in report.REACH if key not in usage] == []


def test_what_openssl_prints_for_programs_is_understood() -> None:
    printed = "+DTP:256:verify:ecdsa:1\n+R6:4973:256:0.33\n+F4:3:256:45564.705882:15069.696970\n"
    assert parse_speed(printed) == pytest.approx(15069.69697)
    assert parse_gcm_speed("+H:1048576\n+F:25:AES-256-GCM:5816512752.94\n") == pytest.approx(5816512752.94)


def test_what_openssl_does_not_print_is_missing() -> None:
    with pytest.raises(Missing, match="no figure"):
        parse_speed("+F2:2:2048:1:2\n")
    with pytest.raises(Missing, match="no figure"):
        parse_gcm_speed("+F:25:AES-128-GCM:5816512752.94\n")


def test_a_setting_is_replaced_where_it_stands() -> None:
    text = "attestation:\n  interval_seconds: 30\n  trust_seconds: 120\n"
    assert with_settings(text, {"interval_seconds": 0}) == text.replace("30", "0")


@pytest.mark.parametrize("text", ["", "a: 1\na: 2\n"], ids=["there is no such key", "it is there twice"])
def test_a_setting_that_is_not_there_once_is_an_error(text: str) -> None:
    with pytest.raises(KeyError):
        with_settings(text, {"a": 3})
