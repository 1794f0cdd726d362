"""The differences between two goldens, section by section, in values that people can compare."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from nodeseal.egress.document import egress_plain
from nodeseal.golden.canonical import boot_plain, hexes, platform_plain, tagged, window_plain
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules, RuntimeRules, Window
from nodeseal.uefi.event_log_types import type_name

_SECTIONS = ("pcrs", "boot", "runtime", "platform", "egress", "valid", "nodes", "reference")
_Rows = Iterator[tuple[str, str, tuple[str, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenDifference:
    """One difference between two goldens.

    Attributes:
        section: the golden's section, such as ``pcrs`` or ``runtime``.
        where: the place in the section, such as ``sha256:4`` or ``files /usr/bin/bash``.
        before: values in the first golden; empty: it says nothing here (no rule, or not in the list of what is
            allowed).
        after: values in the second golden.
    """

    section: str
    where: str
    before: tuple[str, ...]
    after: tuple[str, ...]


def diff_goldens(before: Golden, after: Golden) -> tuple[GoldenDifference, ...]:
    """Return the differences in the order of sections. Names are not compared."""
    old, new = ({(section, where): values for section, where, values in _rows(golden)} for golden in (before, after))
    places = [*old, *(place for place in new if place not in old)]
    return tuple(
        GoldenDifference(section=place[0], where=place[1], before=old.get(place, ()), after=new.get(place, ()))
        for place in sorted(places, key=lambda place: _SECTIONS.index(place[0]))
        if old.get(place, ()) != new.get(place, ())
    )


def _rows(golden: Golden) -> _Rows:
    for bank, pcr, allowed in golden.rows():
        yield "pcrs", f"{bank.hashlib_name}:{pcr}", tuple(hexes(allowed))
    if golden.boot is not None:
        yield from _boot(golden.boot)
    if golden.runtime is not None:
        yield from _runtime(golden.runtime)
    if golden.platform is not None:
        yield from (("platform", key, _texts(value)) for key, value in platform_plain(golden.platform).items())
    if golden.egress is not None:
        yield from (("egress", key, _texts(value)) for key, value in egress_plain(golden.egress).items())
    yield from (("valid", key, _texts(value)) for key, value in window_plain(golden.valid).items())
    yield from (("nodes", label, (value,)) for label, value in sorted(golden.nodes.items()))
    yield from _reference(golden)


def _boot(rules: BootRules) -> _Rows:
    plain = boot_plain(rules)
    named = {"images": rules.images, "drivers": rules.drivers, "files": rules.files, "addons": rules.addons}
    for key, images in named.items():
        plain.pop(key, None)
        yield from (("boot", f"{key} {image.name}", tuple(hexes(image.digests))) for image in images or ())
    for name, digests in (rules.sections or {}).items():
        yield "boot", f"sections {name}", tuple(hexes(digests))
    for signer in rules.signers or ():
        yield "boot", f"signers {signer.sha256.hex()}", (signer.name or "allowed",)
    yield from (("boot", key, _texts(value)) for key, value in plain.items() if key not in ("sections", "signers"))


def _runtime(rules: RuntimeRules) -> _Rows:
    for path, contents in sorted(rules.files.items()):
        yield "runtime", f"files {path}", tuple(sorted(_during(tagged(each.digest), each.valid) for each in contents))
    for key in rules.keys:
        fingerprint = hashlib.sha256(key.spki).hexdigest()
        yield "runtime", f"keys {fingerprint}", (_during(key.name or "allowed", key.valid),)
    for name, digests in sorted((rules.buffers or {}).items()):
        yield "runtime", f"buffers {name}", tuple(sorted(map(tagged, digests)))
    yield from (("runtime", f"excludes {path}", ("allowed",)) for path in sorted(rules.excludes))
    yield from (("runtime", f"violations {path}", ("allowed",)) for path in sorted(rules.violations))


def _reference(golden: Golden) -> _Rows:
    events: dict[int, list[str]] = {}
    for event in golden.reference:
        digests = " ".join(f"{bank.hashlib_name}:{digest.hex()}" for bank, digest in sorted(event.digests.items()))
        events.setdefault(event.pcr, []).append(f"{type_name(event.claimed_type)} {digests} {event.what}".rstrip())
    yield from (("reference", f"PCR {pcr}", tuple(rows)) for pcr, rows in sorted(events.items()))


def _during(text: str, window: Window) -> str:
    return " ".join((text, *(f"{end} {moment}" for end, moment in window_plain(window).items())))


def _texts(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(map(str, value))
    return ("required",) if value is True else (str(value),)
