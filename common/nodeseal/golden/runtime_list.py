"""Runtime lists during an update: old and new contents of a file side by side, each in its window of time.

Nodes are updated at different times, and a file must be compared with the list that was in force when IMA measured it.
So an update *adds* contents to paths, from the moment it may arrive. The old contents end when every node must have the
update.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from nodeseal.golden.rules import ALWAYS, FileDigest, Window

Files = Mapping[str, tuple[FileDigest, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """When new and old contents count.

    Attributes:
        new: when contents count that a path did not have before.
        old_until: last moment of the contents that the update replaces; None: they go on.
    """

    new: Window = ALWAYS
    old_until: datetime | None = None


def runtime_list(found: Iterable[tuple[str, bytes]], valid: Window = ALWAYS) -> dict[str, tuple[FileDigest, ...]]:
    """Return the list that allows the files that were found.

    Args:
        found: pairs of path (spelled as :func:`~nodeseal.golden.paths.path_text` does) and digest.
        valid: when the contents count.
    """
    digests: dict[str, dict[bytes, None]] = {}
    for path, digest in found:
        digests.setdefault(path, {})[digest] = None
    return {path: tuple(FileDigest(digest=each, valid=valid) for each in sorted(digests[path])) for path in digests}


def merge_lists(old: Files, new: Files, rollout: Rollout) -> dict[str, tuple[FileDigest, ...]]:
    """Return ``old`` with the additions of ``new``; paths that only ``old`` has stay unchanged.

    A content that both lists have goes on without an end, so an update may be taken back.
    """
    merged = dict(old)
    for path, contents in new.items():
        merged[path] = _merge(old.get(path, ()), contents, rollout)
    return merged


def _merge(old: tuple[FileDigest, ...], new: tuple[FileDigest, ...], rollout: Rollout) -> tuple[FileDigest, ...]:
    wanted = {content.digest for content in new}
    kept = [_kept(content) if content.digest in wanted else _ending(content, rollout.old_until) for content in old]
    known = {content.digest for content in old}
    added = [FileDigest(digest=digest, valid=rollout.new) for digest in sorted(wanted - known)]
    return tuple(dict.fromkeys([*kept, *added]))


def _kept(content: FileDigest) -> FileDigest:
    return replace(content, valid=Window(start=content.valid.start))


def _ending(content: FileDigest, until: datetime | None) -> FileDigest:
    end = content.valid.end
    if until is None or (end is not None and end <= until):
        return content
    start = content.valid.start
    return replace(content, valid=Window(start=start, end=until if start is None else max(start, until)))
