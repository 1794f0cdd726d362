from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nodeseal.cli.quote import app
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Quoted, encode_attest
from nodeseal.tpm.pcr import PcrSelection, pcr_digest
from support.pcr_files import serialized
from support.software_ak import SoftwareAk
from support.tpm_values import attest

SELECTION = PcrSelection.of({HashAlg.SHA256: (0, 7)})
VALUES = (b"\xa0" * 32, b"\xa7" * 32)
AK = SoftwareAk.of("P256", "ecdsa-sha256")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good quote in files."""
    write(tmp_path, AK, b"\xca\xfe")
    return tmp_path


def write(folder: Path, ak: SoftwareAk, nonce: bytes) -> None:
    raw = encode_attest(attest(Quoted(SELECTION, pcr_digest(ak.scheme.hash_alg, VALUES)), nonce))
    (folder / "attest").write_bytes(raw)
    (folder / "signature").write_bytes(ak.sign_raw(raw))
    (folder / "public").write_bytes(ak.pem())
    (folder / "pcrs").write_bytes(serialized(SELECTION, VALUES))


def run(folder: Path, *options: str, nonce: str = "cafe", pcrs: bool = True) -> Result:
    names = ("attest", "signature", "public", "pcrs") if pcrs else ("attest", "signature", "public")
    files = [part for name in names for part in (f"--{name}", str(folder / name))]
    return CliRunner().invoke(app, ["verify", *files, "--nonce", nonce, *options])


def test_a_good_quote_shows_what_was_proved(folder: Path) -> None:
    result = run(folder)
    assert result.exit_code == 0
    assert "verified: the TPM held these values" in result.stdout
    assert f"sha256  7    {VALUES[1].hex()}" in result.stdout
    assert "ECC P256, ecdsa-sha256" in result.stdout
    assert "rests on where the key came from" in result.stdout


def test_json_says_the_same(folder: Path) -> None:
    printed = json.loads(run(folder, "--json").stdout)
    assert printed["verified"] is True
    assert printed["pcrs"] == {"sha256": {"0": VALUES[0].hex(), "7": VALUES[1].hex()}}
    assert printed["selection"] == {"sha256": [0, 7]}
    assert (printed["nonce"], printed["scheme"]) == ("cafe", "ecdsa-sha256")


def test_without_pcr_file_it_is_said_that_no_value_was_proved(folder: Path) -> None:
    result = run(folder, pcrs=False)
    assert result.exit_code == 0
    assert "no PCR value was proved" in result.stdout
    assert VALUES[0].hex() not in result.stdout
    assert json.loads(run(folder, "--json", pcrs=False).stdout)["pcrs"] is None


def test_a_refusal_names_every_reason_and_what_to_do(folder: Path) -> None:
    (folder / "pcrs").write_bytes(serialized(SELECTION, VALUES[::-1]))
    result = run(folder, nonce="00")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "quote.nonce: expected 00, seen cafe" in result.stderr
    assert "pcr.digest: expected" in result.stderr
    assert result.stderr.count("hint:") == 2


def test_a_refusal_in_json_names_every_reason(folder: Path) -> None:
    (folder / "signature").write_bytes(b"")
    result = run(folder, "--json")
    printed = json.loads(result.stdout)
    assert (result.exit_code, printed["verified"]) == (1, False)
    assert [reason["id"] for reason in printed["reasons"]] == ["malformed"]
    assert "--scheme" in printed["reasons"][0]["remedy"]


def test_a_sha1_quote_needs_an_option_that_sounds_as_dangerous_as_it_is(folder: Path) -> None:
    write(folder, SoftwareAk.of("P256", "ecdsa-sha1"), b"\xca\xfe")
    refused = run(folder)
    assert refused.exit_code == 1
    assert "quote.algorithm: expected SHA-256 or better, seen ecdsa-sha1" in refused.stderr
    accepted = run(folder, "--insecure-allow-sha1")
    assert accepted.exit_code == 0
    assert "could have been forged" in accepted.stdout


def test_an_unrestricted_key_is_pointed_out(folder: Path) -> None:
    area = AK.public.encode()
    assert "not restricted" not in run(folder).stdout
    (folder / "public").write_bytes(area[:4] + b"\0\4\0\2" + area[8:])
    assert "anyone who may use it can sign a forged quote" in run(folder).stdout


def test_an_empty_nonce_is_pointed_out(folder: Path) -> None:
    write(folder, AK, b"")
    result = run(folder, nonce="")
    assert result.exit_code == 0
    assert "may be a replay" in result.stdout


MISUSES: dict[str, tuple[str, ...]] = {
    "a nonce that is no hex": ("--nonce", "xyz"),
    "a nonce with spaces": ("--nonce", "ca fe"),
    "half a byte": ("--nonce", "caf"),
    "a nonce of 67 bytes": ("--nonce", "00" * 67),
    "an unknown scheme": ("--scheme", "hmac-sha256"),
    "a file that is not there": ("--pcrs", "/nonexistent"),
    "an unknown option": ("--force",),
}


@pytest.mark.parametrize("case", MISUSES)
def test_misuse_ends_with_exit_code_2(folder: Path, case: str) -> None:
    assert run(folder, *MISUSES[case]).exit_code == 2


@pytest.mark.parametrize("missing", ["--attest", "--signature", "--public", "--nonce"])
def test_no_needed_option_may_be_missing(folder: Path, missing: str) -> None:
    given = {name: str(folder / name[2:]) for name in ("--attest", "--signature", "--public")} | {"--nonce": "cafe"}
    del given[missing]
    assert CliRunner().invoke(app, ["verify", *(part for pair in given.items() for part in pair)]).exit_code == 2


def test_a_file_of_absurd_size_is_refused(folder: Path) -> None:
    with (folder / "attest").open("r+b") as file:
        file.truncate(1 << 30)
    assert run(folder).exit_code == 2


def test_control_characters_in_a_file_do_not_reach_the_terminal(folder: Path) -> None:
    (folder / "pcrs").write_text('{"\\u001b[31m": {}}')
    result = run(folder)
    assert result.exit_code == 1
    assert "\x1b[31m" not in result.stderr
