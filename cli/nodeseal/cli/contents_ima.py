"""Files that a machine measured according to its IMA log. They are right only if the machine was."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from nodeseal.cli.contents import Found
from nodeseal.cli.log_ima import read_ima
from nodeseal.errors import MalformedInput
from nodeseal.files import read_regular
from nodeseal.golden.paths import path_text
from nodeseal.ima.log import MAX_IMA_LOG, ImaEntry, check_template_digest
from nodeseal.ima.template import parse_template
from nodeseal.tpm.algorithms import STRONG_HASHES_BY_NAME

_AGGREGATE: Final = b"boot_aggregate"


def ima_files(path: Path) -> Found:
    """Yield path and digest of every file of a log.

    Raises:
        MalformedInput: no IMA log, one whose template digests do not hold, or one with digests by SHA-1 or weaker.
    """
    log = read_ima(path, read_regular(path, MAX_IMA_LOG + 1))
    if log is None:
        raise MalformedInput(f"{path}: is no IMA log", remedy="give binary_runtime_measurements of a node")
    for number, entry in enumerate(log.entries):
        check_template_digest(entry, log.bank, number)
        yield from entry_file(entry, str(path))


def entry_file(entry: ImaEntry, source: str) -> Found:
    """Yield path and digest of the file that an entry measures, if it measures one.

    Violations, measured buffers and the boot aggregate measure no file. Under fs-verity the digest is not the
    content's.

    Raises:
        MalformedInput: a digest by SHA-1 or weaker. The message begins with ``source``.
    """
    fields = parse_template(entry.template, entry.data)
    if entry.violation or fields.buffer is not None or fields.path == _AGGREGATE or fields.digest_type == "verity":
        return
    if fields.algorithm not in STRONG_HASHES_BY_NAME:
        raise MalformedInput(
            f"{source}: {path_text(fields.path)} was hashed with {fields.algorithm[:32]!a}",
            remedy="boot the machine with ima_hash=sha256",
        )
    yield fields.path, fields.digest
