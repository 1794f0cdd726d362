"""What keeps a person's client from its verifier: first its own files and clock, then name, TCP and TLS."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Final

from nodeseal.checks.certificates import key_faults, read_certificates, validity_faults
from nodeseal.checks.faults import Check, Fault, passed
from nodeseal.checks.files import Named, file_faults, secret_faults
from nodeseal.checks.reach import Server, reach_faults
from nodeseal.client.config import ClientConfig

VERIFIER: Final = "verifier"
_RENEWAL: Final = (
    "before its end: nodeseal person renew; after it, on the verifier's host: nodeseal-verifier person renew NAME"
)


def own_checks(config: ClientConfig, now: datetime) -> tuple[Check, ...]:
    """Return the checks of the person's own files."""
    remedy = "name the folder that `nodeseal-verifier person add` wrote"
    return (
        Check("ca", config.ca, lambda: _authority_faults(config, now), remedy),
        Check("certificate", config.certificate, lambda: _certificate_faults(config, now), remedy),
    )


def reach_check(config: ClientConfig) -> Check:
    """Return the check whether the verifier can be reached."""
    ca = Named("ca", config.ca)
    server = Server(field=VERIFIER, address=config.verifier, ca=ca, server_name=config.server_name)
    return Check(VERIFIER, config.ca, lambda: reach_faults(server), "")


def _authority_faults(config: ClientConfig, now: datetime) -> Iterator[Fault]:
    named = Named("ca", config.ca)
    if (yield from passed(file_faults(named))):
        yield from validity_faults(named, read_certificates(named)[0], now, "ask for the verifier's new ca.pem")


def _certificate_faults(config: ClientConfig, now: datetime) -> Iterator[Fault]:
    certificate, key = Named("certificate", config.certificate), Named("key", config.key)
    if not (yield from passed([*file_faults(certificate), *file_faults(key)])):
        return
    for fault in secret_faults(key, os.geteuid()):
        yield replace(fault, fatal=False)  # calls work nevertheless
    facts = read_certificates(certificate)[0]
    yield from validity_faults(certificate, facts, now, _RENEWAL)
    yield from key_faults(certificate, facts, key)
    if not any(facts.issued_by(authority) for authority in read_certificates(Named("ca", config.ca))):
        what = f"is not of the authority in {config.ca}; the verifier may have another for people"
        yield certificate.fault(what, "name the ca.pem that came with it", fatal=False)
