"""Checks of the authority and of the server's certificate: valid now and for weeks, with keys and names that fit."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from nodeseal.checks.certificates import key_faults, read_certificates, validity_faults
from nodeseal.checks.faults import Fault, passed
from nodeseal.checks.files import Named, file_faults, secret_faults
from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_files import CertificateFacts
from nodeseal.errors import MalformedInput
from nodeseal.files import read_file
from nodeseal.verifier.config import Config, split_address

_RENEW: Final = "nodeseal-verifier renew-server --config verifier.yaml"
_NEW_AUTHORITY: Final = (
    "make a new authority (nodeseal-verifier init into another folder), and give its ca.pem to all nodes and people"
)


def authority_faults(config: Config, owner: int, now: datetime) -> Iterator[Fault]:
    """Check the authority of nodes and people, and its key.

    Raises:
        MalformedInput: certificate or key does not parse, or they do not belong together.
    """
    certificate, key = Named("tls.ca", config.tls.ca), Named("tls.ca_key", config.tls.ca_key)
    if not (yield from passed([*file_faults(certificate), *secret_faults(key, owner)])):
        return
    yield from validity_faults(certificate, read_certificates(certificate)[0], now, _NEW_AUTHORITY)
    try:
        CertificateAuthority.load(read_file(certificate.path, "tls.ca"), read_file(key.path, "tls.ca_key"))
    except MalformedInput as error:
        yield key.fault(str(error), f"put back the key of {certificate.path}")


def server_faults(config: Config, owner: int, now: datetime) -> Iterator[Fault]:
    """Check the server's certificate and its key.

    Raises:
        MalformedInput: the certificate does not parse.
    """
    certificate, key = Named("tls.certificate", config.tls.certificate), Named("tls.key", config.tls.key)
    if not (yield from passed([*file_faults(certificate), *secret_faults(key, owner)])):
        return
    facts = read_certificates(certificate)[0]
    yield from validity_faults(certificate, facts, now, _RENEW)
    yield from key_faults(certificate, facts, key)
    yield from _name_faults(certificate, facts, config)
    yield from _issuer_faults(certificate, facts, Named("tls.ca", config.tls.ca))


def _name_faults(named: Named, facts: CertificateFacts, config: Config) -> Iterator[Fault]:
    """Compare its names with the addresses that it listens on, as far as these name one host."""
    if not facts.hosts:
        yield named.fault("names no host, so no client accepts it", f"{_RENEW} --server-name NAME")
        return
    if not facts.serves:
        yield named.fault("is not for servers (extended key usage)", _RENEW)
    for field, address in (("listen", config.listen), ("listen_enrol", config.listen_enrol)):
        host = split_address(address)[0].strip("[]")
        if not _stands_for_all(host) and not facts.fits(host):
            names = ", ".join(facts.hosts)
            what = f"is for {names}, not for {host} of {field}"
            remedy = f"reach the verifier by one of its names, or {_RENEW} --server-name {host}"
            yield named.fault(what, remedy, fatal=False)


def _stands_for_all(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _issuer_faults(named: Named, facts: CertificateFacts, ca: Named) -> Iterator[Fault]:
    try:
        authority = read_certificates(ca)[0]
    except MalformedInput:
        return  # the check of the authority says so
    if not facts.issued_by(authority):
        what = f"is not of the authority in {ca.path}, whose ca.pem person add gives to people"
        yield named.fault(what, "give nodes and people the ca.pem of its own authority instead", fatal=False)
