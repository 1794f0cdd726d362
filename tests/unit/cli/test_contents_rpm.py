"""RPM packages: every file's content is hashed, and a hostile package gets nowhere."""

from __future__ import annotations

import gzip
import io
import lzma
from collections.abc import Callable

import pytest
import zstandard

from nodeseal.cli.contents_rpm import rpm_files
from nodeseal.errors import MalformedInput
from nodeseal.tpm.algorithms import HashAlg
from support.packages import TRAILER, cpio, rpm

HI = HashAlg.SHA256.digest(b"hi")
GOOD = (
    cpio(b"./usr", mode=0o040755)
    + cpio(b"./usr/bin/x", b"hi")
    + cpio(b"./usr/bin/one", inode=7, links=2)
    + cpio(b"./usr/bin/two", b"hi", inode=7, links=2)
    + cpio(b"./usr/bin/link", b"x", mode=0o120777)
    + cpio(b"./dev/null", mode=0o020666)
    + cpio(b"./etc/empty")
    + TRAILER
)
FOUND = {
    b"/usr/bin/x": HI,
    b"/usr/bin/one": HI,
    b"/usr/bin/two": HI,
    b"/etc/empty": HashAlg.SHA256.digest(b""),
}


def read(raw: bytes) -> dict[bytes, bytes]:
    return dict(rpm_files(io.BytesIO(raw), "x.rpm", HashAlg.SHA256))


@pytest.mark.parametrize("compress", [bytes, gzip.compress, lzma.compress, zstandard.compress])
def test_files_of_a_package_are_hashed(compress: Callable[[bytes], bytes]) -> None:
    assert read(rpm(compress(GOOD))) == FOUND


def test_hard_links_without_content_are_empty_files() -> None:
    found = read(rpm(cpio(b"a/x", inode=7, links=2) + cpio(b"a/y", inode=7, links=2) + TRAILER))
    assert set(found.values()) == {HashAlg.SHA256.digest(b"")}
    assert set(found) == {b"/a/x", b"/a/y"}


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        pytest.param(b"", "ends in the lead", id="nothing"),
        pytest.param(b"x" * 200, "is no RPM package", id="something else"),
        pytest.param(rpm(GOOD)[:90], "ends in the lead", id="cut off in the lead"),
        pytest.param(rpm(GOOD).replace(b"\x8e\xad\xe8", b"\x8e\xad\xe9"), "header that is none", id="a broken header"),
        pytest.param(rpm(b"")[:104] + b"\xff" * 8, "header that is none", id="a header without end"),
        pytest.param(rpm(b"07070X" + bytes(200)), "above 4 GiB", id="the payload of large files"),
        pytest.param(rpm(b"0707zz" + bytes(200)), "header is none", id="no payload"),
        pytest.param(rpm(GOOD.replace(TRAILER, b"")), "ends in the header", id="no trailer"),
        pytest.param(rpm(cpio(b"../x", b"x") + TRAILER), "refuses", id="a way out"),
        pytest.param(rpm(cpio(b"", b"x") + TRAILER), "header is none", id="no name"),
        pytest.param(
            rpm(cpio(b"o/a", b"/etc", mode=0o120777) + cpio(b"o/a/x", b"x") + TRAILER),
            "below a link",
            id="below a link",
        ),
        pytest.param(rpm(cpio(b"a/x", b"1") + cpio(b"a/x", b"2") + TRAILER), "twice", id="two contents of one path"),
        pytest.param(rpm(gzip.compress(GOOD)[:-30]), "does not decompress", id="compressed data cut off"),
    ],
)
def test_a_hostile_package_is_refused(raw: bytes, complaint: str) -> None:
    with pytest.raises(MalformedInput, match=rf"^x\.rpm: .*{complaint}"):
        read(raw)
