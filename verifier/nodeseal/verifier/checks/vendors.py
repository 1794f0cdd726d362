"""Checks of the folder of TPM vendors' certificates: there, readable, with roots that do not end soon."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

from nodeseal.checks.faults import Fault
from nodeseal.checks.files import Named
from nodeseal.verifier.config import EnrolmentSettings
from nodeseal.verifier.enrolment.vendors import FIELD, Vendors, ending

_SHOWN: Final = 5


def vendor_faults(settings: EnrolmentSettings, read: Callable[[], Vendors], now: datetime) -> Iterator[Fault]:
    """Check the folder.

    Args:
        settings: of enrolment.
        read: reads the folder.
        now: the current time.

    Raises:
        MalformedInput: it is no folder.
    """
    vendors, named = read(), Named(FIELD, settings.ek_roots)
    if vendors.left_out:
        remedy = "take them out of the folder, or make them readable"
        yield named.fault(f"files left out: {_some(vendors.left_out)}", remedy, fatal=False)
    if not vendors.roots and not settings.ek_allow:
        remedy = "put the root certificates of the vendors you trust there, or list keys in enrolment.ek_allow"
        yield named.fault("holds no root certificate, so no node can enrol", remedy, fatal=False)
    if soon := ending(vendors, now):
        remedy = "ask the vendor for the certificates that follow them"
        yield named.fault(f"expire within a year, or have expired: {_some(soon)}", remedy, fatal=False)


def _some(items: tuple[object, ...]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return "; ".join(map(str, items[:_SHOWN])) + more
