"""The plain form of a golden's parts, from which its YAML and its digest are made.

Each value has one spelling: hex in lower case, times in UTC to the second, sets sorted. An absent rule has no key.
``docs/goldens.md`` describes every key; :mod:`nodeseal.golden.document` reads them.
"""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

from nodeseal.golden.rules import (
    ALWAYS,
    BootRules,
    FileDigest,
    Image,
    PlatformRules,
    ReferenceEvent,
    RuntimeRules,
    Signer,
    SigningKey,
    Window,
)
from nodeseal.tpm.algorithms import STRONG_HASHES_BY_DIGEST_SIZE, HashAlg
from nodeseal.uefi.event_log_types import type_name

Plain = dict[str, object]
_Rule = TypeVar("_Rule")
"""Algorithms of files and buffers by the size of their digest."""


def pcrs_plain(pcrs: Mapping[HashAlg, Mapping[int, frozenset[bytes]]]) -> Plain:
    """Return the section ``pcrs``."""
    return {
        bank.hashlib_name: {str(pcr): hexes(values) for pcr, values in sorted(rows.items())}
        for bank, rows in sorted(pcrs.items())
    }


def boot_plain(rules: BootRules) -> Plain:
    """Return the section ``boot``."""
    return _said(
        bank=None if rules.bank is HashAlg.SHA256 else rules.bank.hashlib_name,
        secure_boot=rules.secure_boot or None,
        dma_protection=rules.dma_protection or None,
        signers=_each(_signer, rules.signers, "sha256"),
        images=None if rules.images is None else [_image(image) for image in rules.images],
        drivers=_each(_image, rules.drivers, "name"),
        dbx=hexes(rules.dbx) or None,
        command_lines=None if rules.command_lines is None else sorted(rules.command_lines),
        sections=None if rules.sections is None else {k: hexes(v) for k, v in sorted(rules.sections.items())},
        files=_each(_image, rules.files, "name"),
        gpt=None if rules.gpt is None else hexes(rules.gpt),
        loader_conf=None if rules.loader_conf is None else hexes(rules.loader_conf),
        addons=_each(_image, rules.addons, "name"),
        phases=list(rules.phases) or None,
    )


def runtime_plain(rules: RuntimeRules) -> Plain:
    """Return the section ``runtime``."""
    buffers = rules.buffers
    return _said(
        files={path: _contents(contents) for path, contents in sorted(rules.files.items())} or None,
        keys=_each(_key, rules.keys or None, "key"),
        excludes=sorted(rules.excludes) or None,
        violations=sorted(rules.violations) or None,
        buffers=None
        if buffers is None
        else {name: sorted(map(tagged, digests)) for name, digests in sorted(buffers.items())},
    )


def platform_plain(rules: PlatformRules) -> Plain:
    """Return the section ``platform``."""
    return _said(
        manufacturers=None if rules.manufacturers is None else sorted(rules.manufacturers),
        firmware=None if rules.firmware is None else ".".join(map(str, rules.firmware)),
        ek_algorithms=None if rules.ek_algorithms is None else sorted(rules.ek_algorithms),
    )


def window_plain(window: Window) -> Plain:
    """Return the keys ``from`` and ``until`` of a window; an end that is open has no key."""
    return _said(**{"from": _time(window.start), "until": _time(window.end)})


def reference_plain(events: Iterable[ReferenceEvent]) -> list[Plain]:
    """Return the section ``reference``, in the order of the events."""
    return [
        {
            "pcr": event.pcr,
            "type": type_name(event.claimed_type),
            **{bank.hashlib_name: digest.hex() for bank, digest in sorted(event.digests.items())},
            **_said(what=event.what or None),
        }
        for event in events
    ]


def hexes(values: Iterable[bytes]) -> list[str]:
    """Return values in hex, sorted."""
    return sorted(value.hex() for value in values)


def tagged(digest: bytes) -> str:
    """Return a digest with its algorithm: ``sha256:…``."""
    return f"{STRONG_HASHES_BY_DIGEST_SIZE[len(digest)].hashlib_name}:{digest.hex()}"


def pem(spki: bytes) -> str:
    """Return a SubjectPublicKeyInfo in PEM (RFC 7468 §13)."""
    lines = textwrap.wrap(base64.b64encode(spki).decode(), 64)
    return "\n".join(("-----BEGIN PUBLIC KEY-----", *lines, "-----END PUBLIC KEY-----", ""))


def _said(**facts: object) -> Plain:
    return {key: value for key, value in facts.items() if value is not None}


def _each(plain: Callable[[_Rule], Plain], rules: Iterable[_Rule] | None, key: str) -> list[Plain] | None:
    return None if rules is None else sorted(map(plain, rules), key=lambda row: str(row[key]))


def _signer(signer: Signer) -> Plain:
    return _said(sha256=signer.sha256.hex(), name=signer.name or None)


def _image(image: Image) -> Plain:
    return {"name": image.name, "digests": hexes(image.digests)}


def _key(key: SigningKey) -> Plain:
    return _said(key=pem(key.spki), name=key.name or None, **window_plain(key.valid))


def _contents(contents: Iterable[FileDigest]) -> list[object]:
    return [_content(each) for each in sorted(contents, key=lambda each: (each.digest, str(window_plain(each.valid))))]


def _content(content: FileDigest) -> object:
    if content.valid == ALWAYS:
        return tagged(content.digest)
    return {"digest": tagged(content.digest), **window_plain(content.valid)}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
