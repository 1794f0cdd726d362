"""Certificates of a vendor's authority that are not for endorsement keys, over gRPC against a running verifier."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from support import certificates as made
from support.certificates import EK, Facts
from support.enrolments import Scene, certified, findings_of, refused_identity
from support.fake_node import a_node
from support.verifier import RunningVerifier

_BASIC, _USAGE, PURPOSE, NAME = EK.extensions


def an_ek(*extensions: bytes) -> Facts:
    """Return an endorsement certificate that says these things of its use."""
    return replace(EK, extensions=(_BASIC, _USAGE, *extensions))


@pytest.mark.parametrize("extensions", [(PURPOSE, NAME), (PURPOSE,), (NAME,)], ids=["both", "the purpose", "the name"])
def test_e13_an_ek_purpose_or_the_name_of_a_tpm_is_enough(
    verifier: RunningVerifier, extensions: tuple[bytes, ...]
) -> None:
    node = a_node(verifier)
    asyncio.run(node.enrol(certified(node, an_ek(*extensions))))


WITHOUT = {
    "neither": (),
    "another purpose": (made.extended_usage("1.3.6.1.5.5.7.3.2"),),
    "any purpose": (made.extended_usage("2.5.29.37.0"),),
    "half a name": (made.tpm_names(model=""),),
    "the name of a host": (made.extension("2.5.29.17", made.sequence(made.tlv(0x82, b"host.example"))),),
}


@pytest.mark.parametrize("why", WITHOUT)
def test_e13_a_certificate_without_ek_purpose_and_without_a_tpms_name_is_refused(scene: Scene, why: str) -> None:
    node = a_node(scene.verifier)
    refusal = refused_identity(node, certified(node, an_ek(*WITHOUT[why])))
    assert findings_of(refusal) == ("ek.certificate-usage",)


def test_e13_what_is_tolerated_is_on_record(verifier: RunningVerifier) -> None:
    node = a_node(verifier)
    facts = replace(EK, extensions=(_BASIC, made.usage(2), PURPOSE, NAME))
    asyncio.run(node.enrol(certified(node, facts)))
    (record,) = (each for each in verifier.records() if each["subject"] == f"node/{node.node_id}")
    assert (record["action"], record["details"]["ek_oddities"]) == ("node.enrolled", ["ec-key-encipherment"])
