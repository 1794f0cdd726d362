"""What PCR 2 and 4 prove: the images that ran, by their Authenticode digests.

Event types are not proved, so they do not tell which events are images. Every event counts as an image, except
separators and short lines of text such as ``Calling EFI Application from Boot Option``, whose digests prove that they
are text. So an image with a false type is still seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nodeseal.boot.measured import MeasuredContent, Measurement, describe_briefly, is_action


@dataclass(frozen=True, slots=True, kw_only=True)
class BootImage(MeasuredContent):
    """An image that ran."""

    @property
    def path(self) -> str:
        """The image's path: claimed."""
        return describe_briefly(self.measurement.event)


@dataclass(frozen=True, slots=True, kw_only=True)
class BootChain:
    """The images that ran from PCR 4.

    Attributes:
        images: the images, in order.
    """

    images: tuple[BootImage, ...] = ()


def read_images(measured: Iterable[Measurement]) -> tuple[BootImage, ...]:
    """Return the images that ran, in order."""
    return tuple(BootImage(measurement=each) for each in measured if not _is_harmless(each))


def _is_harmless(each: Measurement) -> bool:
    if each.is_separator:
        return True
    data = each.proved_data()
    return data is not None and is_action(data)
