"""Boot rules after an update: they follow the events that changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from nodeseal.errors import MalformedInput
from nodeseal.golden.predicted_events import Renaming, Steps, section_digests, swap
from nodeseal.golden.rules import BootRules, Image


def predicted_rules(rules: BootRules, steps: Steps, renamings: Iterable[Renaming], *, keep: bool) -> BootRules:
    """Return the boot rules for machines after the update.

    Args:
        rules: the rules of now.
        steps: the reference events before and after.
        renamings: words that change in command lines.
        keep: also allow what the rules allow now.

    Raises:
        MalformedInput: both boots are to be allowed, but only one of them has a certain section.
    """
    new = {old.digests[rules.bank]: after.digests[rules.bank] for old, after in steps if old and after and old != after}
    return replace(
        rules,
        images=_images(rules.images, new, keep=keep),
        drivers=_images(rules.drivers, new, keep=keep),
        files=_images(rules.files, new, keep=keep),
        addons=_images(rules.addons, new, keep=keep),
        command_lines=_command_lines(rules.command_lines, renamings, keep=keep),
        sections=_sections(rules, steps, keep=keep),
    )


def _command_lines(
    patterns: tuple[str, ...] | None, renamings: Iterable[Renaming], *, keep: bool
) -> tuple[str, ...] | None:
    if patterns is None:
        return None
    after = patterns
    for renaming in renamings:
        after = tuple(swap(pattern, renaming) for pattern in after)
    return tuple(dict.fromkeys((*after, *patterns) if keep else after))


def _images(images: tuple[Image, ...] | None, new: Mapping[bytes, bytes], *, keep: bool) -> tuple[Image, ...] | None:
    if images is None:
        return None
    return tuple(replace(image, digests=_swapped(image.digests, new, keep=keep)) for image in images)


def _swapped(digests: frozenset[bytes], new: Mapping[bytes, bytes], *, keep: bool) -> frozenset[bytes]:
    after = frozenset(new.get(digest, digest) for digest in digests)
    return after | digests if keep else after


def _sections(rules: BootRules, steps: Steps, *, keep: bool) -> Mapping[str, frozenset[bytes]] | None:
    """Return the section rules with the contents that changed and without the sections that are gone.

    Raises:
        MalformedInput: both boots are to be allowed, but only one of them has a certain section.
    """
    if rules.sections is None:
        return None
    before, now = (section_digests((step[side] for step in steps), rules.bank) for side in (0, 1))
    if keep and before.keys() != now.keys():
        raise MalformedInput(
            "golden predict: no rule allows an image with and one without a section "
            f"({', '.join(sorted(before.keys() ^ now.keys()))})",
            remedy="predict a golden of its own (without --keep) and keep both active during the rollout",
        )
    after = {name: allowed for name, allowed in rules.sections.items() if name in now or name not in before}
    for name, digests in now.items():
        if digests != before.get(name):
            kept = rules.sections.get(name, frozenset()) if keep else frozenset()
            after[name] = frozenset({digests[rules.bank]}) | kept
    return after
