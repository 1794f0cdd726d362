"""Callers while the disk stands still: whoever may take trust away does not wait for it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

import pytest
import sqlalchemy as sa

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.ids import PersonId
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from nodeseal.verifier.config import AttestationSettings
from nodeseal.verifier.enrolment.certificates import Certificates
from nodeseal.verifier.fleet.fleet import Fleet
from nodeseal.verifier.ledger.acts import PersonAdded, PersonRenewed
from nodeseal.verifier.people.callers import Callers
from support.acts import AT
from support.ledgers import a_ledger

T = TypeVar("T")
DOMAIN = "test.example"
KIM = PersonId("kim")
SETTINGS = AttestationSettings(
    interval_seconds=30,
    trust_seconds=120,
    answer_within_seconds=15,
    selection=PcrSelection.of({HashAlg.SHA256: [0]}),
)


def test_the_first_use_of_a_renewed_certificate_waits_for_no_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = CertificateAuthority.create("authority", AT, 3650)
    request = certificate_request(new_tls_key(), "kim")
    leaf = authority.issue_person(request, DOMAIN, KIM, AT, timedelta(days=365))
    digest = sha256(leaf).digest()

    async def case() -> None:
        async with a_ledger(tmp_path) as bench:
            fleet = Fleet(bench.ledger, SETTINGS)
            await fleet.load(())
            callers = Callers(fleet, DOMAIN, Certificates(fleet, authority, DOMAIN, timedelta(hours=24)))
            await bench.tell(PersonAdded(name=KIM, roles=("operator",), certificate_sha256=bytes(32)))
            end = AT + timedelta(days=365)
            renewed = PersonRenewed(name=KIM, certificate_sha256=bytes(32), next_certificate_sha256=digest, expires=end)
            await bench.tell(renewed)
            write, moves = bench.store.write, asyncio.Event()

            async def stands_still(change: Callable[[sa.Connection], T]) -> T:
                await moves.wait()
                return await write(change)

            monkeypatch.setattr(bench.store, "write", stands_still)
            pem = ssl.DER_cert_to_PEM_cert(leaf).encode()
            try:
                caller = await asyncio.wait_for(callers.authorise("/nodeseal.v1.Nodes/QuarantineNode", pem), 60)
            finally:
                moves.set()
            assert caller.actor == "person/kim"
            await bench.settle()
            assert bench.kinds()[-1] == "person.certificate-replaced"

    asyncio.run(case())
