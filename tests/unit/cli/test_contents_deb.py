"""Debian packages: every file's content is hashed, and a hostile package gets nowhere."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from nodeseal.cli import contents, contents_deb
from nodeseal.cli.contents_deb import deb_files
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from support.packages import ar, ar_member, deb, member, tar

HI = HashAlg.SHA256.digest(b"hi")
GOOD = tar(
    [
        member("./", kind=tarfile.DIRTYPE),
        member("./usr/bin/x", b"hi"),
        member("./etc/x.conf", b""),
        member("./usr/bin/y", kind=tarfile.LNKTYPE, link="./usr/bin/x"),
        member("./usr/bin/z", kind=tarfile.SYMTYPE, link="x"),
        member("./dev/null", kind=tarfile.CHRTYPE),
        member("./run/fifo", kind=tarfile.FIFOTYPE),
    ]
)
FOUND = {b"/usr/bin/x": HI, b"/usr/bin/y": HI, b"/etc/x.conf": HashAlg.SHA256.digest(b"")}


def read(raw: bytes) -> dict[bytes, bytes]:
    return dict(deb_files(io.BytesIO(raw), "x.deb", HashAlg.SHA256))


@pytest.mark.parametrize(
    ("name", "compress"),
    [
        pytest.param("data.tar", bytes, id="as it is"),
        pytest.param("data.tar.gz", gzip.compress, id="gzip"),
        pytest.param("data.tar.xz", lzma.compress, id="xz"),
        pytest.param("data.tar.zst", zstandard.compress, id="zstd"),
        pytest.param("data.tar.bz2", bz2.compress, id="bzip2"),
    ],
)
def test_files_of_a_package_are_hashed(name: str, compress: Callable[[bytes], bytes]) -> None:
    assert read(deb(compress(GOOD), name)) == FOUND


def test_xz_may_come_in_several_streams_with_padding() -> None:
    half = len(GOOD) // 2
    raw = lzma.compress(GOOD[:half]) + bytes(8) + lzma.compress(GOOD[half:]) + bytes(4)
    assert read(deb(raw, "data.tar.xz")) == FOUND


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        pytest.param(lzma.compress(GOOD)[:-1], "cut off", id="cut off"),
        pytest.param(lzma.compress(GOOD) + b"more", "does not decompress", id="with something behind"),
    ],
)
def test_xz_that_is_not_whole_is_refused(raw: bytes, complaint: str) -> None:
    with pytest.raises(MalformedInput, match=complaint):
        read(deb(raw, "data.tar.xz"))


def test_xz_that_asks_for_too_much_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = deb(lzma.compress(GOOD, preset=9), "data.tar.xz")
    assert read(raw) == FOUND
    monkeypatch.setattr(contents, "_MAX_XZ", 64 << 20)
    with pytest.raises(MalformedInput, match=r"[Mm]emory"):
        read(raw)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="needs dpkg-deb")
@pytest.mark.parametrize("compression", ["none", "gzip", "xz", "zstd"])
def test_a_package_by_dpkg_deb_is_read(tmp_path: Path, compression: str) -> None:
    folder = tmp_path / "x"
    (folder / "DEBIAN").mkdir(parents=True)
    (folder / "DEBIAN/control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: a <a@example.org>\nDescription: x\n"
    )
    (folder / "bin").mkdir()
    (folder / "bin/x").write_bytes(b"hi")
    long = "etc/" + "l" * 150
    (folder / "etc").mkdir()
    (folder / long).write_bytes(b"hi")
    command = ["dpkg-deb", f"-Z{compression}", "--root-owner-group", "--build", str(folder), str(tmp_path / "x.deb")]
    subprocess.run(command, check=True, capture_output=True)
    assert read((tmp_path / "x.deb").read_bytes()) == {b"/usr/bin/x": HI, b"/" + long.encode(): HI}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        pytest.param("./bin/x", b"/usr/bin/x", id="a folder that is a link into usr"),
        pytest.param("lib64/x.so", b"/usr/lib64/x.so", id="another such folder"),
        pytest.param("/opt//x", b"/opt/x", id="an absolute name"),
        pytest.param("./opt/F\u0151", "/opt/F\u0151".encode(), id="letters"),
        pytest.param("./opt/\udcff", b"/opt/\xff", id="no UTF-8"),
    ],
)
def test_a_file_has_the_path_at_which_the_kernel_sees_it(name: str, path: bytes) -> None:
    assert read(deb(tar([member(name, b"hi")]))) == {path: HI}


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        pytest.param(b"", "is no Debian package", id="nothing"),
        pytest.param(b"\x7fELF" * 20, "is no Debian package", id="something else"),
        pytest.param(ar([("debian-binary", b"2.0\n")]), "before data.tar", id="no data"),
        pytest.param(ar([("x", b"")] * 20), "too many members", id="data that never comes"),
        pytest.param(b"!<arch>\n" + b"x" * 60, "header is none", id="a broken header"),
        pytest.param(b"!<arch>\n" + ar_member("x", b"hi", size=9_999_999_999), "ends in", id="a member without end"),
        pytest.param(deb(gzip.compress(GOOD)[:40], "data.tar.gz"), "not decompress", id="compressed data cut off"),
        pytest.param(deb(zstandard.compress(GOOD)[:12] + bytes(50), "data.tar.zst"), "not parse", id="broken zstd"),
        pytest.param(deb(GOOD[:700]), "is cut off", id="an archive cut off"),
        pytest.param(deb(b"x" * 1024), "data.tar does not parse", id="no archive"),
        pytest.param(deb(tar([member("../etc/passwd", b"x")])), "refuses", id="a way out"),
        pytest.param(deb(tar([member("./a/../../b", b"x")])), "refuses", id="a way out in the middle"),
        pytest.param(deb(tar([member("a/" * 100_000, b"x")])), "a name of", id="a path that no system has"),
        pytest.param(
            deb(tar([member("opt/a", kind=tarfile.SYMTYPE, link="/etc"), member("opt/a/passwd", b"x")])),
            "below a link", id="a file below a link",
        ),
        pytest.param(
            deb(tar([member("opt/a", kind=tarfile.SYMTYPE, link="/etc/passwd"), member("opt/a", b"x")])),
            "below a link", id="a file in a link's place",
        ),
        pytest.param(deb(tar([member("a/x", b"1"), member("a/x", b"2")])), "twice", id="two contents of one path"),
        pytest.param(
            deb(tar([member("a/x", kind=tarfile.LNKTYPE, link="etc/shadow")])), "hard link", id="a link to another file"
        ),
    ],
)  # fmt: skip
def test_a_hostile_package_is_refused(raw: bytes, complaint: str) -> None:
    with pytest.raises(MalformedInput, match=rf"^x\.deb.*{complaint}"):
        read(raw)


def test_a_note_that_would_fill_memory_is_refused() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 31
    with pytest.raises(MalformedInput, match="a note of 2147483648 bytes"):
        read(deb(info.tobuf() + bytes(2048)))


def test_more_content_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents.Bounded.__init__, "__defaults__", (4096,))
    bomb = deb(gzip.compress(tar([member("opt/x", bytes(100_000))])), "data.tar.gz")
    with pytest.raises(MalformedInput, match="more than nodeseal reads"):
        read(bomb)


def test_more_files_than_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents_deb, "MAX_FILES", 2)
    with pytest.raises(MalformedInput, match="more than 2 files"):
        read(deb(tar([member(f"opt/{number}") for number in range(3)])))


def test_a_package_cut_at_any_byte_is_refused() -> None:
    raw = deb(gzip.compress(GOOD), "data.tar.gz")
    for end in range(0, len(raw) - 12, 7):
        with pytest.raises(MalformedInput):
            read(raw[:end])
