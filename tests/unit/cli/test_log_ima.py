"""``nodeseal log`` on IMA logs: readable, inert, and the same whichever form the log has."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from nodeseal.cli.log import app
from nodeseal.errors import MalformedInput
from nodeseal.ima.log import ImaEntry, measured_entry, replay_ima
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from support import ima
from support.data import shared_data

SIGNED = replace(ima.FILE, signature=bytes.fromhex("030204f3452d23000101"))
LOG = (ima.entry("ima-ng", ima.FILE), ima.entry("ima-sig", SIGNED), ima.violation(b"/var/log/x"))


def run(command: str, *arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [command, *map(str, arguments)])


def printed(command: str, *arguments: str | Path) -> Any:
    return json.loads(run(command, *arguments, "--json").stdout)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "ima.log", LOG)


def write(path: Path, entries: tuple[ImaEntry, ...]) -> Path:
    path.write_bytes(ima.log(entries))
    return path


def test_show_lists_every_entry_with_its_file_and_who_signed_it(file: Path) -> None:
    result = run("show", file)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert any(line.split() == ["format", "IMA,", "binary", "list"] for line in lines)
    assert any(line.split() == ["violations", "1"] for line in lines)
    digest = f"sha256:{ima.FILE.digest.hex()[:16]}"
    assert lines[-3].split() == ["0", "10", "ima-ng", digest, "/usr/bin/tool"]
    assert lines[-2].endswith("/usr/bin/tool (signed, key id f3452d23)")
    assert lines[-1].endswith("/var/log/x  violation: written while it was measured")


def test_show_says_when_an_entry_was_changed(tmp_path: Path) -> None:
    changed = LOG[0]._replace(data=LOG[0].data.replace(b"tool", b"evil"))
    path = write(tmp_path / "a", (changed,))
    assert (
        run("show", path).stdout.splitlines()[-1].endswith("/usr/bin/evil  the template digest is not the hash of this")
    )
    (entry,) = printed("show", path)["entries"]
    assert entry["template_digest_holds"] is False
    error = run("replay", path).exception
    assert isinstance(error, MalformedInput)
    assert f"{path}: " in str(error)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        pytest.param(b"/a\x1b[2J\n10", r"/a\x1b[2J\n10", id="an escape sequence and a newline"),
        pytest.param(b"/a\xe2\x80\xaeb", r"/a\u202eb", id="text that would run backwards"),
        pytest.param(b"/caf\xe9", r"/caf\xe9", id="no UTF-8"),
        pytest.param(b"/[red]x[/red]", "/[red]x[/red]", id="markup"),
        pytest.param(b"/:smile:", "/:smile:", id="an emoji's name"),
    ],
)
def test_what_a_name_holds_is_shown_and_not_obeyed(path: bytes, shown: str, tmp_path: Path) -> None:
    log = write(tmp_path / "a", (ima.entry("ima-ng", replace(ima.FILE, path=path)),))
    line = run("show", log).stdout.splitlines()[-1]
    assert line.endswith(f" {shown}")
    assert line.isprintable()
    told = printed("show", log)["entries"][0]["path"]
    assert told.encode("utf-8", "surrogateescape") == path


@pytest.mark.parametrize("template", ima.EXAMPLES)
def test_json_has_every_field_of_every_template(template: str, tmp_path: Path) -> None:
    fields, entry = ima.EXAMPLES[template], ima.entry(template, ima.EXAMPLES[template])
    document = printed("show", write(tmp_path / "a", (entry,)))
    (plain,) = document["entries"]
    assert document["bank"] == "sha1"
    assert bytes.fromhex(plain["data"]) == entry.data
    assert (plain["template"], plain["pcr"], plain["violation"]) == (template, 10, False)
    assert plain["template_digest_holds"] is True
    assert (plain["algorithm"], plain["digest"]) == (fields.algorithm, fields.digest.hex())
    assert plain["digest_type"] == fields.digest_type
    assert plain["buffer"] == (None if fields.buffer is None else fields.buffer.hex())
    assert plain["others"] == {name: value.hex() for name, value in fields.others}
    if fields.signature:
        assert "problem" in plain["signature"] or plain["signature"]["key_id"]


def test_json_says_what_is_wrong_with_an_entry(tmp_path: Path) -> None:
    unknown = measured_entry("vendor-template", b"abc")
    malformed = ima.entry("ima-sig", replace(SIGNED, signature=b"\3\2\4"))
    first, second, violation = printed("show", write(tmp_path / "a", (unknown, malformed, LOG[2])))["entries"]
    assert "unknown template 'vendor-template'" in first["problem"]
    assert "3 bytes" in second["signature"]["problem"]
    assert violation["template_digest_holds"] is None
    text = run("show", tmp_path / "a").stdout
    assert "IMA entry: unknown template 'vendor-template'" in text
    assert "(IMA signature: 3 bytes" in text


def test_only_entries_of_the_chosen_pcrs_are_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "a", (LOG[0], LOG[0]._replace(pcr=11)))
    assert [entry["number"] for entry in printed("show", path, "--pcr", "11")["entries"]] == [1]


@pytest.mark.parametrize("bank", HashAlg, ids=lambda bank: bank.hashlib_name)
def test_replay_gives_every_bank_whichever_the_file_is_of(bank: HashAlg, tmp_path: Path) -> None:
    entries = (*ima.examples(bank), ima.entry("ima-ng", ima.FILE, bank)._replace(pcr=11))
    path = write(tmp_path / "a", entries)
    expected = {
        each.hashlib_name: {str(pcr): replay_ima(entries, each, pcr).hex() for pcr in (10, 11)} for each in HashAlg
    }
    assert printed("replay", path) == expected
    assert yaml.safe_load(run("replay", path).stdout) == expected
    assert printed("replay", path, "--bank", "sha384") == {"sha384": expected["sha384"]}


def test_diff_shows_the_first_entry_that_differs(file: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "b", (LOG[0], LOG[2]))
    result = run("diff", file, other)
    assert result.exit_code == 1
    assert "entry 1, PCR 10, ima-sig" in result.stdout
    document = printed("diff", file, other)
    assert (document["equal"], document["same_entries"]) == (False, 1)
    assert (document["first"]["template"], document["second"]["violation"]) == ("ima-sig", True)


def test_diff_of_a_log_that_goes_on_says_where_the_other_ends(file: Path, tmp_path: Path) -> None:
    shorter = write(tmp_path / "b", LOG[:2])
    assert "no further entry" in run("diff", file, shorter).stdout
    document = printed("diff", shorter, file)
    assert (document["same_entries"], document["first"]) == (2, None)


def test_logs_of_one_boot_in_two_banks_do_not_differ(tmp_path: Path) -> None:
    paths = [write(tmp_path / bank.name, ima.examples(bank)) for bank in (HashAlg.SHA1, HashAlg.SHA512)]
    result = run("diff", *paths)
    assert result.exit_code == 0
    assert f"no difference in {len(ima.examples())} entries" in result.stdout


def test_an_ima_log_is_not_compared_with_a_boot_log(file: Path, tmp_path: Path) -> None:
    boot = tmp_path / "boot"
    boot.write_bytes(sample_boot_log(SampleBoot(), (HashAlg.SHA256,)))
    for pair in ((file, boot), (boot, file)):
        error = run("diff", *pair).exception
        assert isinstance(error, MalformedInput)
        assert "one file is an IMA log" in str(error)


def test_a_log_that_breaks_off_is_refused_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "cut.log"
    path.write_bytes(ima.log(LOG)[:-1])
    error = run("show", path).exception
    assert isinstance(error, MalformedInput)
    assert "cut.log: IMA log: the entry at byte" in str(error)


def test_the_ascii_list_and_the_binary_log_of_one_boot_agree() -> None:
    folder = shared_data("ima-logs", "h12ssl")
    document = printed("diff", folder / "binary.bin", folder / "ascii.txt")
    assert (document["same_entries"], document["first"]) == (2365, None)


def test_signatures_in_an_ascii_list_name_their_keys() -> None:
    entries = printed("show", shared_data("ima-logs", "keylime-ascii", "signatures.txt"))["entries"]
    assert [entry["signature"]["key_id"] for entry in entries] == ["f3452d23", "531f4025"]
