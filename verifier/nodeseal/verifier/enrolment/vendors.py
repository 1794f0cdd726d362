"""Folders of TPM vendors' certificates, as vendors and their collectors ship them.

Every file with a certificate's suffix counts, in any case of letters and at any depth: PEM or DER, one certificate or
many. Self-issued certificates are roots, which are trusted. Others are intermediates, which only help to find a path,
unless they lie below a folder called ``anchors``: then they are roots, too. What cannot be read is told and left out.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path, PurePath
from typing import Final

from nodeseal.errors import MalformedInput, NodesealError
from nodeseal.files import read_small
from nodeseal.x509.certificate import Certificate, decode_certificate, name_text, split_certificate_file
from nodeseal.x509.names import organisation

SUFFIXES: Final = (".pem", ".crt", ".cer", ".der")
FIELD: Final = "enrolment.ek_roots"
"""The setting that names the folder."""
ANCHORS: Final = "anchors"
"""Folder whose certificates are trusted, whoever issued them."""
_MAX_FILE: Final = 16 << 20
_SOON: Final = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file, or a certificate in one, that does not count, and why."""

    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendors:
    """The authorities of a folder, each once.

    Attributes:
        roots: authorities that are trusted.
        intermediates: authorities that help to find a path and are not trusted by themselves.
        files: the files that hold them, by name.
        sources: name of the first file that holds a certificate, by the certificate's bytes.
        left_out: what could not be read, and files without a certificate's suffix.
    """

    roots: tuple[Certificate, ...] = ()
    intermediates: tuple[Certificate, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    sources: Mapping[bytes, str] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()


def load_vendors(folder: Path, what: str = FIELD) -> Vendors:
    """Read a folder; ``what`` is the setting or option that names it.

    Raises:
        MalformedInput: it is no folder.
    """
    if not folder.is_dir():
        raise MalformedInput(f"{what}: {folder}: no such folder", remedy="name a folder of TPM vendors' certificates")
    files: dict[str, bytes] = {}
    left_out: list[LeftOut] = []
    for path in _paths(folder, left_out):
        name = str(path.relative_to(folder))
        try:
            if path.suffix.lower() not in SUFFIXES:
                raise MalformedInput(f"not a certificate by its name ({', '.join(SUFFIXES)})")
            files[name] = read_small(path, _MAX_FILE)
        except NodesealError as error:
            left_out.append(LeftOut(name, str(error).removeprefix(f"{path}: ")))
    return sort_vendors(files, tuple(left_out))


def sort_vendors(files: Mapping[str, bytes], left_out: tuple[LeftOut, ...] = ()) -> Vendors:
    """Sort the certificates of files (name in the folder, content) by what they are trusted for."""
    unread = list(left_out)
    found = [(name, each) for name, raw in files.items() for each in _decoded(name, raw, unread)]
    sources: dict[bytes, str] = {}
    for name, each in found:
        sources.setdefault(each.raw, name)
    anchored = {each.raw for name, each in found if each.self_issued or ANCHORS in PurePath(name).parts[:-1]}
    unique = {each.raw: each for _, each in found}
    return Vendors(
        roots=tuple(each for raw, each in unique.items() if raw in anchored),
        intermediates=tuple(each for raw, each in unique.items() if raw not in anchored),
        files={name: files[name] for name, _ in found},
        sources=sources,
        left_out=tuple(sorted(unread, key=lambda each: each.name)),
    )


def makers(vendors: Vendors) -> tuple[str, ...]:
    """Return whose certificates these are, as ``Organisation (1 root, 11 intermediates)``."""
    roots = Counter(_maker(each) for each in vendors.roots)
    intermediates = Counter(_maker(each) for each in vendors.intermediates)
    names = sorted({*roots, *intermediates}, key=str.casefold)
    return tuple(f"{name} ({counted(roots[name], intermediates[name])})" for name in names)


def counted(roots: int, intermediates: int) -> str:
    """Return both numbers in words."""
    return f"{_plural(roots, 'root')}, {_plural(intermediates, 'intermediate')}"


def ending(vendors: Vendors, at: datetime) -> tuple[str, ...]:
    """Return the certificates that have expired or expire within a year, the first one first."""
    soon = [each for each in (*vendors.roots, *vendors.intermediates) if each.not_after < at + _SOON]
    return tuple(
        f"{each.not_after:%Y-%m-%d} {name_text(each.subject)} ({vendors.sources[each.raw]})"
        for each in sorted(soon, key=lambda each: each.not_after)
    )


def _paths(folder: Path, left_out: list[LeftOut]) -> Iterator[Path]:
    """Yield the files below a folder in a fixed order; note the folders that are not entered."""

    def refused(error: OSError) -> None:
        left_out.append(LeftOut(os.path.relpath(error.filename, folder), error.strerror or "cannot be read"))

    for top, below, names in os.walk(folder, onerror=refused):
        below.sort()
        links = (name for name in below if Path(top, name).is_symlink())
        left_out.extend(
            LeftOut(os.path.relpath(Path(top, name), folder), "a link to a folder is not followed") for name in links
        )
        yield from (Path(top, name) for name in sorted(names))


def _decoded(name: str, raw: bytes, unread: list[LeftOut]) -> Iterator[Certificate]:
    try:
        found = split_certificate_file(raw)
    except MalformedInput as error:
        unread.append(LeftOut(name, str(error)))
        return
    for number, certificate in enumerate(found, 1):
        try:
            yield decode_certificate(certificate)
        except MalformedInput as error:
            place = f"certificate {number} of {len(found)}: " if len(found) > 1 else ""
            unread.append(LeftOut(name, f"{place}{error}"))


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _maker(authority: Certificate) -> str:
    return organisation(authority.subject) or organisation(authority.issuer) or name_text(authority.subject)
