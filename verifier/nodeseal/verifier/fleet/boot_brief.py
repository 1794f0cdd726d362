"""What a boot log proved, short enough to keep for every node. Display only; no verdict depends on it."""

from __future__ import annotations

from dataclasses import dataclass
from sys import intern
from typing import Final

from nodeseal.boot.claims import BootClaims
from nodeseal.boot.secure_boot import secure_boot_word

_MAX_LINES: Final = 32
_MAX_TEXT: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class BootBrief:
    """A boot in brief.

    Attributes:
        secure_boot: its mode, ``off``, or ``not proved``.
        images: what ran from PCR 4: path (claimed) and Authenticode digest (proved).
        command_lines: proved kernel command lines.
        firmware_version: the S-CRTM version, or an empty string.
        firmware_words: what firmware measured into PCR 7 in words, such as that DMA protection was off.
    """

    secure_boot: str
    images: tuple[str, ...]
    command_lines: tuple[str, ...]
    firmware_version: str
    firmware_words: tuple[str, ...] = ()


def brief(claims: BootClaims) -> BootBrief:
    """Return the brief of ``claims``: at most 32 images and command lines, cut to 500 characters."""
    images = claims.chain.images[:_MAX_LINES]
    lines = [line.text for line in claims.command_lines if line.text is not None][:_MAX_LINES]
    return BootBrief(
        secure_boot=secure_boot_word(claims.secure_boot),
        images=tuple(intern(f"{image.path[:_MAX_TEXT]} {image.digest.hex()}") for image in images),  # one text a fleet
        command_lines=tuple(line[:_MAX_TEXT] for line in lines),
        firmware_version=claims.firmware_version[:_MAX_TEXT],
        firmware_words=tuple(word.text for word in claims.secure_boot.words[:_MAX_LINES]),
    )
