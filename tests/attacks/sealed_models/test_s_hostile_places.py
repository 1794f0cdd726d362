"""Attacks on the place where a sealed model lies: its folder or server belongs to whoever wants to harm the reader."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nodeseal.errors import MalformedInput, ProofFailed, Unavailable
from nodeseal.findings import Finding, FindingId
from nodeseal.loader import OnlyModel, open_model, web
from nodeseal.loader.reseal import next_label, reseal_model
from nodeseal.loader.web import WebFolder, WebOptions
from support.sealed import CREATED, Sample
from support.web import Request, Script, WebServer


def surplus(sample: Sample) -> tuple[Finding, ...]:
    """Open the model, which must fail for files that it does not have; return the findings."""
    with pytest.raises(ProofFailed) as caught:
        open_model(sample.directory, sample.keys)
    assert {finding.id for finding in caught.value.findings} == {FindingId.SEALED_FILE}
    return caught.value.findings


def circles(folder: Path) -> None:
    """Make a folder that has two to the power of forty paths."""
    for name in ("a", "b"):
        (folder / name).symlink_to(".")


@pytest.mark.parametrize(
    "make",
    [
        circles,
        lambda folder: (folder / "everything").symlink_to("/"),
        lambda folder: [(folder / f"file{number}").touch() for number in range(300)],
    ],
)
def test_s06_a_folder_without_end_is_refused_with_some_findings(sample: Sample, make: Callable[[Path], object]) -> None:
    make(sample.directory)
    assert 1 < len(surplus(sample)) <= 100


def test_s06_folders_in_folders_are_no_recursion(sample: Sample) -> None:
    deep = sample.directory / "/".join("d" * 300)
    deep.mkdir(parents=True)
    (deep / "evil.py").touch()
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 200)
    try:
        (finding,) = surplus(sample)
    finally:
        sys.setrecursionlimit(limit)
    assert finding.where.endswith("/d/evil.py")


def test_s06_a_folder_that_cannot_be_listed_is_unavailable(sample: Sample) -> None:
    folder = os.open(sample.directory, os.O_DIRECTORY)
    for _ in range(20):  # beyond the longest path that the kernel takes
        os.mkdir("d" * 250, dir_fd=folder)
        inner = os.open("d" * 250, os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)
    with pytest.raises(Unavailable, match="too long"):
        open_model(sample.directory, sample.keys)


@pytest.mark.parametrize("name", [b"x\x1b[31mred.py", b"two\nlines", b"\xff.py", "\u202egnp.py".encode()])
def test_s06_a_name_that_a_terminal_would_obey_is_told_inert(sample: Sample, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(sample.directory) + b"/" + name)).touch()
    (finding,) = surplus(sample)
    assert str(finding).isprintable()
    assert str(finding).isascii()


def test_s09_an_older_version_in_the_place_of_the_newer_one_is_refused_where_that_is_named(
    pristine: Sample, tmp_path: Path
) -> None:
    with open_model(pristine.directory, pristine.keys) as old:
        newer = reseal_model(old, tmp_path / "newer", [pristine.key], next_label(old.content, CREATED))
    keys = OnlyModel(pristine.keys, newer.digest)
    open_model(tmp_path / "newer", keys).close()
    shutil.rmtree(tmp_path / "newer")
    shutil.copytree(pristine.directory, tmp_path / "newer")
    with pytest.raises(ProofFailed) as caught:
        open_model(tmp_path / "newer", keys)
    assert caught.value.findings[0].id is FindingId.SEALED_MODEL


def announces_for_ever(request: Request) -> None:
    while True:  # until the reader hangs up
        request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def says_more_than_it_has(request: Request) -> None:
    request.serve(content_range=f"bytes 0-0/{10 << 30}")


def sends_elsewhere(request: Request) -> None:
    request.refuse(302, location="http://[/etc/passwd")


@pytest.mark.parametrize("script", [announces_for_ever, says_more_than_it_has, sends_elsewhere])
def test_s08_a_server_that_misleads_is_given_up_in_time(
    sample: Sample, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "RETRY_SECONDS", 0.001)
    with WebServer(sample.directory, script) as server:
        folder = WebFolder(server.url, WebOptions(timeout_seconds=5, request_seconds=0.1))
        with pytest.raises((MalformedInput, Unavailable), match=r"127\.0\.0\.1.*nodeseal\.model\.json"):
            open_model(folder, sample.keys)
    assert server.sent < 100
