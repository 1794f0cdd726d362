"""nodeseal seal and reseal where something is unusual: one file, a bad place, a signal in the middle."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from nodeseal.cli import seal as command
from nodeseal.cli.main import app
from nodeseal.errors import MalformedInput, Unavailable
from nodeseal.loader import InsecureFileKeys, open_model
from support.sealed import PLAIN_WEIGHTS, content_of, key_file, model_key, plain_model, sealed_model


def seal(source: Path, public: Path, destination: Path) -> Result:
    arguments = ["seal", str(source), "--key", str(public), "-o", str(destination)]
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return plain_model(tmp_path / "plain")


@pytest.fixture
def public(tmp_path: Path) -> Path:
    path = tmp_path / "llama.pub"
    path.write_bytes(model_key()[1].encode())
    return path


def test_a_model_of_one_file_is_sealed_by_its_name(plain: Path, tmp_path: Path) -> None:
    private, key = model_key()
    public = tmp_path / "llama.pub"
    public.write_bytes(key.encode())
    assert seal(plain / "model.safetensors", public, tmp_path / "out").exit_code == 0
    assert [file.path for file in content_of(tmp_path / "out").files] == ["model.safetensors"]
    with open_model(tmp_path / "out", InsecureFileKeys(key_file(tmp_path, key, private))) as model:
        assert bytes(model.read("model.safetensors")) == PLAIN_WEIGHTS


@pytest.mark.parametrize("inside", ["plain/out", "plain/sub/../out", "plain/sub/out"])
def test_a_model_is_not_sealed_into_itself(plain: Path, public: Path, tmp_path: Path, inside: str) -> None:
    before = sorted(plain.rglob("*"))
    error = seal(plain, public, tmp_path / inside).exception
    assert isinstance(error, MalformedInput)
    assert "outside" in error.remedy
    assert sorted(plain.rglob("*")) == before


def test_a_sealed_model_is_not_resealed_into_itself(public: Path, tmp_path: Path) -> None:
    directory = sealed_model(tmp_path).directory
    arguments = ["reseal", str(directory), "--key", str(public), "-o", str(directory / "next")]
    assert isinstance(CliRunner().invoke(app, arguments).exception, MalformedInput)


def test_a_folder_to_seal_into_that_is_not_there_is_named(plain: Path, public: Path, tmp_path: Path) -> None:
    error = seal(plain, public, tmp_path / "nowhere" / "out").exception
    assert isinstance(error, Unavailable)
    assert str(error) == f"{tmp_path}/nowhere: No such file or directory"


def test_what_killed_runs_left_is_named_when_sealing_succeeds_and_when_it_is_refused(
    plain: Path, public: Path, tmp_path: Path
) -> None:
    for name in (".out.0a1b2c3d.sealing", ".other.0a1b2c3d.sealing", ".out.old.sealing", "out.0a1b2c3d.sealing"):
        (tmp_path / name).mkdir()
    note = f"note: {tmp_path}/.out.0a1b2c3d.sealing was left by a run that was killed, unless one is still writing it"
    for exit_code in (0, 1):  # out is there, then
        result = seal(plain, public, tmp_path / "out")
        assert result.exit_code == exit_code
        assert result.stderr.splitlines() == [f"{note}: delete it"]
        assert (tmp_path / ".out.0a1b2c3d.sealing").exists()


def test_resealing_names_what_killed_runs_left(public: Path, tmp_path: Path) -> None:
    (tmp_path / ".out.0a1b2c3d.sealing").mkdir()
    directory = sealed_model(tmp_path).directory
    arguments = ["reseal", str(directory), "--key", str(public), "-o", str(tmp_path / "out")]
    arguments += ["--socket", str(tmp_path / "no agent")]
    assert ".out.0a1b2c3d.sealing was left" in CliRunner().invoke(app, arguments, env={"COLUMNS": "200"}).stderr


@pytest.fixture(params=[signal.SIGTERM, signal.SIGHUP])
def signum(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal that has its default, whoever runs the tests."""
    before = signal.signal(request.param, signal.SIG_DFL)
    yield request.param
    signal.signal(request.param, before)


def test_a_signal_ends_sealing_as_ctrl_c_does_and_leaves_nothing(
    plain: Path, public: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: int
) -> None:
    @contextmanager
    def deadly(*_: object) -> Iterator[Callable[[int], None]]:
        yield lambda _: os.kill(os.getpid(), signum)

    monkeypatch.setattr(command, "progress_bar", deadly)
    result = seal(plain, public, tmp_path / "out")
    assert result.exit_code == 130
    assert f"nothing is left of {tmp_path}/out" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["llama.pub", "plain"]
    assert signal.getsignal(signum) is signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_ignored(
    plain: Path, public: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: int
) -> None:
    @contextmanager
    def loud(*_: object) -> Iterator[Callable[[int], None]]:
        yield lambda _: os.kill(os.getpid(), signum)

    signal.signal(signum, signal.SIG_IGN)
    monkeypatch.setattr(command, "progress_bar", loud)
    assert seal(plain, public, tmp_path / "out").exit_code == 0


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n"


def run(*arguments: Path | str) -> Result:
    return CliRunner().invoke(app, ["seal", *map(str, arguments)], env={"COLUMNS": "200"})


def test_a_check_alone_needs_no_key_and_makes_nothing(plain: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    result = run(plain, "--check")
    assert result.exit_code == 0
    assert "yes, as far as" in result.stdout
    assert "config.json" in result.stdout
    (plain / "model.safetensors").write_bytes(POINTER)
    result = run(plain, "--check", "--json")
    assert result.exit_code == 1
    (trouble,) = json.loads(result.stdout)["troubles"]
    assert (trouble["path"], trouble["remedy"]) == ("model.safetensors", "git lfs pull")
    assert "Git LFS pointer" in run(plain, "--check").stdout
    assert sorted(tmp_path.rglob("*")) == before


def test_without_a_key_or_a_place_there_is_only_a_check(plain: Path, public: Path, tmp_path: Path) -> None:
    for arguments in ((), ("--key", public), ("-o", tmp_path / "out")):
        assert run(plain, *arguments).exit_code == 2


def test_what_would_not_open_is_sealed_only_by_force(plain: Path, public: Path, tmp_path: Path) -> None:
    (plain / "model.safetensors").write_bytes(POINTER)
    (plain / "vocab.txt").write_bytes(POINTER)
    refused = run(plain, "--key", public, "-o", tmp_path / "out")
    assert isinstance(refused.exception, MalformedInput)
    assert "Git LFS pointer" in str(refused.exception)
    assert "--force" in refused.exception.remedy
    assert "vocab.txt" in refused.stderr
    assert not (tmp_path / "out").exists()
    forced = run(plain, "--key", public, "-o", tmp_path / "out", "--force")
    assert forced.exit_code == 0
    assert "model.safetensors: will not open: a Git LFS pointer" in forced.stderr


def test_force_leaves_no_weights_readable(plain: Path, public: Path, tmp_path: Path) -> None:
    (plain / "weights.json").write_bytes(json.dumps([n / 7 for n in range(3000)]).encode())
    assert isinstance(run(plain, "--key", public, "-o", tmp_path / "out").exception, MalformedInput)
    assert "looks like weights" in run(plain, "--key", public, "-o", tmp_path / "out", "--force").stderr
    assert (tmp_path / "out" / "weights.json.sealed").exists()
    assert run(plain, "--key", public, "-o", tmp_path / "two", "--seal", "weights.json").exit_code == 0
    assert (tmp_path / "two" / "weights.json.sealed").exists()
    assert run(plain, "--key", public, "-o", tmp_path / "three", "--exclude", "weights.json").exit_code == 0
    assert not list((tmp_path / "three").glob("weights*"))


def test_what_stays_readable_is_listed_with_the_reason(plain: Path, public: Path, tmp_path: Path) -> None:
    (plain / "modeling.py").write_text("")
    result = run(plain, "--key", public, "-o", tmp_path / "out", "--json")
    readable = {one["path"]: one["reason"] for one in json.loads(result.stdout)["readable"]}
    assert readable.keys() == {"config.json", "modeling.py", "sub/tokenizer.json"}
    assert readable["modeling.py"] == "code"
