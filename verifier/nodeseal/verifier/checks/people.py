"""Checks of the certificates of people: nobody is locked out in silence, and somebody can approve."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from nodeseal.checks.certificates import spell
from nodeseal.checks.faults import Fault
from nodeseal.checks.files import Named
from nodeseal.crypto.tls_files import EXPIRES_SOON
from nodeseal.errors import NodesealError
from nodeseal.files import read_file
from nodeseal.verifier.config import Config
from nodeseal.verifier.people.persons import certificates_end
from nodeseal.verifier.states import Role
from nodeseal.verifier.store.database import run
from nodeseal.verifier.store.migrate import current_database
from nodeseal.verifier.store.persons import Person, list_persons


def people_faults(config: Config, now: datetime, *, untouched: bool) -> Iterator[Fault]:
    """Warn of certificates that end soon, and if nobody can widen trust."""
    named = Named("database", config.database)
    ends = _ends(config, untouched=untouched)
    for person, end in ends:
        if now >= end:
            remedy = f"nodeseal-verifier person renew {person.name} -o DIR, or person remove {person.name}"
            yield named.fault(f"the certificate of person {person.name} expired on {spell(end)}", remedy, fatal=False)
        elif now >= end - EXPIRES_SOON:
            what = f"the certificate of person {person.name} expires on {spell(end)}"
            yield named.fault(what, f"let {person.name} say: nodeseal person renew", fatal=False)
    if ends and not any(Role.APPROVER in person.roles and now < end for person, end in ends):
        remedy = "nodeseal-verifier person renew NAME, or person add NAME --role approver"
        yield named.fault("no approver has a valid certificate, so nobody can widen trust", remedy, fatal=False)


def _ends(config: Config, *, untouched: bool) -> tuple[tuple[Person, datetime], ...]:
    """Return people with the ends of their certificates; none if they cannot be read, which other checks say."""
    try:
        with current_database(config.database, untouched=untouched) as engine:
            return certificates_end(run(engine, list_persons), read_file(config.tls.ca, "tls.ca"))
    except NodesealError:
        return ()
