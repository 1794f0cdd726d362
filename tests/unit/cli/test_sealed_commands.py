"""nodeseal seal, inspect and open, as a person or a program runs them."""

from __future__ import annotations

import hashlib
import json
import re
import time
from io import StringIO
from pathlib import Path
from threading import Event

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from nodeseal.cli import output, progress
from nodeseal.cli.main import app
from nodeseal.crypto.hpke import Suite
from nodeseal.errors import MalformedInput, NodesealError, ProofFailed, Unavailable
from nodeseal.wire.varlink import Reply
from support.fake_agent import Caller, FakeAgent, agent_script
from support.sealed import PLAIN_WEIGHTS, Sample, model_key, plain_model, sealed_model


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def done(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture
def public(tmp_path: Path) -> Path:
    path = tmp_path / "llama.pub"
    path.write_bytes(model_key(Suite.MLKEM768_X25519)[1].encode())
    return path


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return plain_model(tmp_path / "plain")


def test_seal_says_what_it_made_and_what_to_do_next(plain: Path, public: Path, tmp_path: Path) -> None:
    text = done("seal", plain, "--key", public, "-o", tmp_path / "llama")
    assert "llama, version 1" in text
    assert "1 sealed, 2 readable but covered" in text
    assert "nodeseal model register" in text


def test_seal_and_inspect_agree_for_programs(plain: Path, public: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sealed = json.loads(
        done("seal", plain, "--key", public, "-o", out, "--id", "llama-70b", "--version", "3", "--json")
    )
    inspected = json.loads(done("inspect", out, "--json"))
    assert sealed["model_digest"] == inspected["model_digest"]
    assert sealed["model_digest"] == hashlib.sha256((out / "nodeseal.model.json").read_bytes()).hexdigest()
    assert (inspected["model_id"], inspected["version"]) == ("llama-70b", 3)
    assert inspected["slots"] == [
        {"key_id": "llama-key", "key_version": 1, "suite": "MLKEM768-X25519 / HKDF-SHA256 / AES-256-GCM"}
    ]


def test_seal_all_leaves_nothing_readable(plain: Path, public: Path, tmp_path: Path) -> None:
    sealed = json.loads(done("seal", plain, "--key", public, "-o", tmp_path / "out", "--all", "--json"))
    assert (sealed["files_sealed"], sealed["files_plain"]) == (3, 0)


def test_inspect_shows_files_and_keys_without_any_key(tmp_path: Path) -> None:
    text = done("inspect", sealed_model(tmp_path).directory)
    for word in ("tiny, version 1", "model.safetensors", "sealed", "config.json", "readable", "llama-key", "P-384"):
        assert word in text


def test_inspect_names_what_is_missing_and_ends_with_1(tmp_path: Path) -> None:
    sample = sealed_model(tmp_path)
    sample.weights.unlink()
    result = run("inspect", sample.directory)
    assert result.exit_code == 1
    assert "absent, or not readable" in result.stdout
    seen = {
        file["path"]: file["wrong"] for file in json.loads(run("inspect", sample.directory, "--json").stdout)["files"]
    }
    assert seen == {"config.json": "", "model.safetensors": "absent, or not readable", "sub/tokenizer.json": ""}


def test_inspect_names_files_that_are_not_of_the_model_and_ends_with_1(tmp_path: Path) -> None:
    directory = sealed_model(tmp_path).directory
    (directory / "adapter.py").write_text("print()")
    result = run("inspect", directory)
    assert result.exit_code == 1
    assert re.search(r"adapter\.py +- +- +not of this model", result.stdout)
    assert json.loads(run("inspect", directory, "--json").stdout)["surplus"] == ["adapter.py"]


def test_inspect_refuses_slots_of_another_model(tmp_path: Path) -> None:
    first, second = sealed_model(tmp_path / "a"), sealed_model(tmp_path / "b")
    slots = (second.directory / "nodeseal.slots.json").read_bytes()
    (first.directory / "nodeseal.slots.json").write_bytes(slots)
    assert isinstance(run("inspect", first.directory).exception, MalformedInput)


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        pytest.param("seal {plain} --key {public} -o {out} --id NotAName", "--id", id="a bad name"),
        pytest.param("seal {plain} --key {plain}/config.json -o {out}", "nodeseal key create", id="not a key"),
        pytest.param("seal {plain} --key {public} -o {plain}", "does not exist yet", id="an existing folder"),
        pytest.param("seal {plain} --key {public} --key {public} -o {out}", "", id="a key twice"),
        pytest.param("inspect {plain}", "nodeseal seal", id="not a sealed model, inspected"),
        pytest.param("open {plain}", "nodeseal seal", id="not a sealed model, opened"),
        pytest.param("verify {plain}", "nodeseal seal", id="not a sealed model, verified"),
        pytest.param("reslot {plain} --key {public}", "nodeseal seal", id="not a sealed model, reslotted"),
        pytest.param("model register {plain}", "nodeseal seal", id="not a sealed model, registered"),
    ],
)
def test_a_command_is_refused_with_what_to_do(
    plain: Path, public: Path, tmp_path: Path, arguments: str, remedy: str
) -> None:
    result = run(*arguments.format(plain=plain, public=public, out=tmp_path / "out").split())
    assert isinstance(result.exception, NodesealError)
    assert remedy in result.exception.remedy
    assert not (tmp_path / "out").exists()


def test_a_pickle_is_refused_with_the_option_that_takes_it(plain: Path, public: Path, tmp_path: Path) -> None:
    (plain / "optimizer.pt").write_bytes(b"pickle")
    result = run("seal", plain, "--key", public, "-o", tmp_path / "out")
    assert isinstance(result.exception, MalformedInput)
    assert "--allow-pickle" in result.exception.remedy
    done("seal", plain, "--key", public, "-o", tmp_path / "out", "--allow-pickle")


@pytest.mark.parametrize(
    "arguments",
    [
        ("seal",),
        ("inspect", "nowhere"),
        ("open",),
        ("seal", ".", "-o", "x"),
        ("seal", ".", "--key", "nowhere", "-o", "x"),
    ],
)
def test_misuse_ends_with_two(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_path_in_the_place_of_a_node_is_refused() -> None:
    result = run("key", "grant", "llama", "--node", "./gpu-17")
    assert result.exit_code == 2
    assert "neither an id nor a name" in " ".join(result.output.split())


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return sealed_model(tmp_path)


def test_open_verifies_everything_and_shows_digests_of_the_originals(sample: Sample, tmp_path: Path) -> None:
    with FakeAgent(tmp_path / "s", agent_script(sample, Caller.wait_until_gone)):
        opened = json.loads(done("open", sample.directory, "--socket", tmp_path / "s", "--json"))
    (weights,) = [file for file in opened["files"] if file["sealed"]]
    assert weights["sha256"] == hashlib.sha256(PLAIN_WEIGHTS).hexdigest()
    assert weights["tensors"] == [
        {"name": "embed", "dtype": "F32", "shape": [256, 600]},
        {"name": "bias", "dtype": "U8", "shape": [3]},
    ]
    assert opened["model_digest"] == sample.content.digest


def test_open_shows_tensors_to_people(sample: Sample, tmp_path: Path) -> None:
    with FakeAgent(tmp_path / "s", agent_script(sample, Caller.wait_until_gone)):
        text = done("open", sample.directory, "--socket", tmp_path / "s")
    for word in ("256 x 600", "F32", "3 files", "GB/s"):
        assert word in text


def test_open_writes_nothing(sample: Sample, tmp_path: Path) -> None:
    before = sorted(sample.directory.rglob("*"))
    with FakeAgent(tmp_path / "s", agent_script(sample, Caller.wait_until_gone)):
        done("open", sample.directory, "--socket", tmp_path / "s")
    assert sorted(sample.directory.rglob("*")) == before


def test_open_holds_until_the_node_loses_the_model(sample: Sample, tmp_path: Path) -> None:
    told = Event()

    def after(caller: Caller) -> None:
        caller.reply(Reply(parameters={"revoked": "PCR 14 moved"}))
        told.set()

    delayed = agent_script(sample, after, seconds=0.5)
    with FakeAgent(tmp_path / "s", delayed):
        result = run("open", sample.directory, "--socket", tmp_path / "s", "--hold")
    assert told.is_set()
    assert result.exit_code == 1
    assert "PCR 14 moved" in result.stderr


def test_open_without_agent_says_what_to_do(sample: Sample, tmp_path: Path) -> None:
    result = run("open", sample.directory, "--socket", tmp_path / "nowhere")
    assert isinstance(result.exception, Unavailable)
    assert "nodeseal-agent" in result.exception.remedy


def test_verify_reads_every_byte_and_says_how_fast(sample: Sample, tmp_path: Path) -> None:
    with FakeAgent(tmp_path / "s", agent_script(sample, Caller.wait_until_gone)):
        text = done("verify", sample.directory, "--socket", tmp_path / "s")
    for word in ("whole", "tiny, version 1", sample.content.digest, f"{sample.content.size:,}", "GB/s"):
        assert word in text


def test_verify_speaks_to_programs(sample: Sample, tmp_path: Path) -> None:
    with FakeAgent(tmp_path / "s", agent_script(sample, Caller.wait_until_gone)):
        seen = json.loads(done("verify", sample.directory, "--socket", tmp_path / "s", "--json"))
    assert (seen["model_digest"], seen["files"]) == (sample.content.digest, 3)


@pytest.mark.parametrize("command", ["open", "verify", "reseal", "reslot"])
def test_a_model_other_than_the_one_that_is_meant_is_refused_before_anyone_is_asked(
    sample: Sample, public: Path, tmp_path: Path, command: str
) -> None:
    more = {"reseal": ("--key", public, "-o", tmp_path / "new"), "reslot": ("--key", public)}.get(command, ())
    result = run(command, sample.directory, *more, "--digest", "0" * 64)
    assert isinstance(result.exception, ProofFailed)
    assert result.exception.findings[0].id.code == "sealed.model-digest"
    meant = run(command, sample.directory, *more, "--digest", sample.content.digest)
    assert isinstance(meant.exception, NodesealError)  # no agent, no verifier
    assert not isinstance(meant.exception, ProofFailed)


@pytest.mark.parametrize("name", ["model.safetensors.sealed", "config.json"])
def test_verify_finds_one_flipped_bit(sample: Sample, tmp_path: Path, name: str) -> None:
    path = sample.directory / name
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with FakeAgent(tmp_path / "s", agent_script(sample, Caller.wait_until_gone)):
        result = run("verify", sample.directory, "--socket", tmp_path / "s")
    assert isinstance(result.exception, ProofFailed)
    assert name in str(result.exception)


def test_reseal_makes_the_next_version_and_leaves_the_old_one(sample: Sample, public: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in sample.directory.rglob("*") if path.is_file()}
    with FakeAgent(tmp_path / "s", agent_script(sample, Caller.wait_until_gone)):
        text = done("reseal", sample.directory, "-o", tmp_path / "again", "--key", public, "--socket", tmp_path / "s")
    assert "tiny, version 2" in text
    assert "nodeseal model register" in text
    assert {path: path.read_bytes() for path in sample.directory.rglob("*") if path.is_file()} == before
    assert json.loads(done("inspect", tmp_path / "again", "--json"))["version"] == 2


def test_reseal_to_a_version_that_is_not_later_is_refused(sample: Sample, public: Path, tmp_path: Path) -> None:
    arguments = ("reseal", sample.directory, "-o", tmp_path / "again", "--key", public, "--socket", tmp_path / "s")
    with FakeAgent(tmp_path / "s", agent_script(sample, Caller.wait_until_gone)):
        done(*arguments, "--version", "5")
        assert run(*arguments, "--version", "1").exit_code == 2
    assert json.loads(done("inspect", tmp_path / "again", "--json"))["version"] == 5


def test_seal_refuses_pickles_unless_told(plain: Path, public: Path, tmp_path: Path) -> None:
    (plain / "pytorch_model.bin").write_bytes(b"pickle")
    refused = run("seal", plain, "--key", public, "-o", tmp_path / "out")
    assert isinstance(refused.exception, MalformedInput)
    assert not (tmp_path / "out").exists()
    done("seal", plain, "--key", public, "-o", tmp_path / "out", "--allow-pickle")


def test_a_bar_shows_throughput_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")  # a dumb terminal gets no bar
    terminal = Console(file=StringIO(), force_terminal=True, width=200)
    monkeypatch.setattr(output, "errors", terminal)
    with progress.progress_bar("sealing", 4 << 30) as done_bytes:
        for _ in range(4):
            time.sleep(0.05)
            done_bytes(256 << 20)
        time.sleep(0.2)
    assert isinstance(terminal.file, StringIO)
    shown = terminal.file.getvalue()
    assert "sealing" in shown
    assert "1.1/4.3 GB" in shown
    assert "GB/s" in shown or "MB/s" in shown
    assert re.search(r"0:00:\d\d", shown)
