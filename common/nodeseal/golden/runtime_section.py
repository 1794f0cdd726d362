"""The section ``runtime`` of a golden: rules over the IMA log."""

from __future__ import annotations

from functools import partial

from nodeseal.crypto.ima_signatures import read_ima_key
from nodeseal.documents import Fields, Item
from nodeseal.errors import MalformedInput
from nodeseal.golden.parts import (
    checked_path,
    parse_tagged,
    path,
    tagged,
    take_fields,
    take_list,
    take_name,
    take_window,
)
from nodeseal.golden.paths import exclude_fault
from nodeseal.golden.rules import ALWAYS, FileDigest, RuntimeRules, SigningKey

MAX_PATHS = 256
"""Highest number of excludes, and of paths under ``violations``."""


def parse_runtime(fields: Fields) -> RuntimeRules:
    """Parse the section.

    Raises:
        MalformedInput: the section is wrong; the message names source, line and key.
    """
    if not (fields.has("files") or fields.has("keys")):
        first = fields.keys()[0]
        raise fields.wrong(first, "enough: nothing may run without files or keys")
    rules = RuntimeRules(
        files=_take_files(take_fields(fields, "files")) if fields.has("files") else {},
        keys=take_list(fields, "keys", _key) if fields.has("keys") else (),
        excludes=take_list(fields, "excludes", _exclude, MAX_PATHS) if fields.has("excludes") else (),
        violations=frozenset(take_list(fields, "violations", path, MAX_PATHS) if fields.has("violations") else ()),
        buffers=_take_buffers(take_fields(fields, "buffers")) if fields.has("buffers") else None,
    )
    fields.done()
    return rules


def _take_files(files: Fields) -> dict[str, tuple[FileDigest, ...]]:
    paths = files.keys()
    return {checked_path(text, partial(files.wrong, text)): take_list(files, text, _content) for text in paths}


def _content(item: Item) -> FileDigest:
    if isinstance(item.value, str):
        return FileDigest(digest=tagged(item))
    fields = item.fields()
    digest = parse_tagged(fields.text("digest"), partial(fields.wrong, "digest"))
    window = take_window(fields)
    fields.done()
    if window == ALWAYS:
        raise item.wrong("a digest with from or until, or a digest alone")
    return FileDigest(digest=digest, valid=window)


def _key(item: Item) -> SigningKey:
    fields = item.fields()
    key = SigningKey(
        spki=_take_spki(fields), name=take_name(fields) if fields.has("name") else "", valid=take_window(fields)
    )
    fields.done()
    return key


def _take_spki(fields: Fields) -> bytes:
    pem = fields.take("key")
    if not isinstance(pem, str) or pem.count("-----BEGIN ") != 1 or not pem.startswith("-----BEGIN "):
        raise fields.wrong("key", "one public key or certificate in PEM", remedy="write key: | and the PEM below it")
    try:
        return read_ima_key(pem.encode()).spki
    except MalformedInput as error:
        raise fields.wrong("key", f"one that counts: {error}", remedy=error.remedy) from error


def _exclude(item: Item) -> str:
    text = path(item)
    if fault := exclude_fault(text):
        raise item.wrong(fault)
    return text


def _take_buffers(buffers: Fields) -> dict[str, frozenset[bytes]]:
    names = buffers.keys()
    return {
        checked_path(name, partial(buffers.wrong, name)): frozenset(take_list(buffers, name, tagged)) for name in names
    }
