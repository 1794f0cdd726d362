"""Checks of certificates in files: they parse, are valid now and for weeks to come, and belong to their keys."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from nodeseal.checks.faults import Fault
from nodeseal.checks.files import Named
from nodeseal.crypto.tls_files import EXPIRES_SOON, CertificateFacts, certificates_in, public_key_in
from nodeseal.errors import MalformedInput
from nodeseal.files import MAX_PEM, read_small

CLOCK_TOLERANCE: Final = timedelta(minutes=5)
"""By how much two machines' clocks may differ before somebody is told."""
CLOCK: Final = "set this machine's clock if it is wrong (timedatectl)"


def read_certificates(named: Named) -> tuple[CertificateFacts, ...]:
    """Return the certificates of a file that settings name.

    Raises:
        MalformedInput: it cannot be read or does not parse; the message names setting and file.
    """
    try:
        return certificates_in(read_small(named.path, MAX_PEM))
    except MalformedInput as error:
        said = str(error).removeprefix(f"{named.path}: ")
        remedy = f"let {named.field} name a file with the certificate in PEM"
        raise MalformedInput(f"{named.field}: {named.path}: {said}", remedy=remedy) from error


def validity_faults(named: Named, facts: CertificateFacts, now: datetime, renewal: str) -> Iterator[Fault]:
    """Check that a certificate is valid now and does not end soon.

    Args:
        named: its file.
        facts: the certificate.
        now: the current time.
        renewal: how to get another one.
    """
    if now >= facts.not_after:
        what = f"expired on {spell(facts.not_after)}; this machine's clock says {spell(now)}"
        yield named.fault(what, f"{renewal}; {CLOCK}")
    elif now < facts.not_before:
        what = f"not valid before {spell(facts.not_before)}; this machine's clock says {spell(now)}"
        yield named.fault(what, CLOCK)
    elif now >= facts.not_after - EXPIRES_SOON:
        yield named.fault(f"expires on {spell(facts.not_after)}", renewal, fatal=False)


def key_faults(named: Named, facts: CertificateFacts, key: Named) -> Iterator[Fault]:
    """Check that a private key belongs to a certificate."""
    try:
        public = public_key_in(read_small(key.path, MAX_PEM))
    except MalformedInput as error:
        said = str(error).removeprefix(f"{key.path}: ")
        yield key.fault(said, f"let {key.field} name the private key of {named.path}")
        return
    if public != facts.public_key:
        yield key.fault(f"not the key of {named.path}", "put back the key and certificate that belong together")


def spell(at: datetime) -> str:
    """Return a time as faults say it: UTC, to the minute."""
    return f"{at:%Y-%m-%d %H:%M} UTC"
