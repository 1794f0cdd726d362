"""EARs: what findings and goldens become, and what no token may ever say."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.findings import Finding, FindingId, Severity
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules, Image, RuntimeRules
from nodeseal.ids import node_id_of
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.verifier.results.ear import PROFILE, Claim, NodeView, ear_claims, trust_vector
from nodeseal.verifier.states import NodeState

NOW = datetime(2026, 1, 2, 3, 4, 5, 999999, tzinfo=UTC)
NODE = node_id_of(b"ek")
FILES = RuntimeRules(files={"/usr/bin/true": ()})
IMAGES = BootRules(images=(Image(name="shim", digests=frozenset({b"i" * 32})),))


def golden(*pcrs: int, boot: BootRules | None = None, runtime: RuntimeRules | None = None) -> Golden:
    values = {pcr: frozenset({bytes([pcr]) * 32}) for pcr in pcrs}
    return Golden(name="rack-a", pcrs={HashAlg.SHA256: values}, boot=boot, runtime=runtime)


def finding(id_: FindingId, where: str = "") -> Finding:
    return Finding(id=id_, expected="this", seen="that", where=where)


GOLDEN = golden(*range(8))
TRUSTED = NodeView(
    node_id=NODE,
    trust_domain="example.org",
    boot_id="boot",
    state=NodeState.TRUSTED,
    findings=(),
    goldens=(GOLDEN,),
    certified=True,
    expires=NOW + timedelta(seconds=90),
)


def untrusted(*findings: Finding, state: NodeState = NodeState.UNTRUSTED) -> NodeView:
    return replace(TRUSTED, state=state, findings=findings, goldens=())


def claims_of(view: NodeView, nonce: bytes = b"") -> dict[str, object]:
    return ear_claims(view, NOW, nonce, "nodeseal 1.2.3")


def appraisal_of(view: NodeView) -> dict[str, object]:
    submods = claims_of(view)["submods"]
    assert isinstance(submods, dict)
    ((node, appraisal),) = submods.items()
    assert node == NODE
    assert isinstance(appraisal, dict)
    return appraisal


def test_a_trusted_node_is_affirmed_until_its_trust_ends() -> None:
    claims = claims_of(TRUSTED)
    del claims["submods"]
    assert claims == {
        "eat_profile": PROFILE,
        "iat": 1_767_323_045,
        "exp": 1_767_323_135,
        "ear.verifier-id": {"developer": "nodeseal", "build": "nodeseal 1.2.3"},
    }
    assert appraisal_of(TRUSTED) == {
        "ear.status": "affirming",
        "ear.trustworthiness-vector": {
            "configuration": 2,
            "executables": 3,
            "file-system": 0,
            "hardware": 2,
            "instance-identity": 2,
            "runtime-opaque": 0,
            "sourced-data": 0,
            "storage-opaque": 0,
        },
        "ear.appraisal-policy-id": f"golden:{GOLDEN.digest}",
        "nodeseal": {"boot_id": "boot", "findings": [], "state": "trusted", "trust_domain": "example.org"},
    }


@pytest.mark.parametrize(
    ("goldens", "claim", "value"),
    [
        ([golden(4)], "configuration", Claim.NONE),
        ([golden(4, 7)], "configuration", Claim.APPROVED),
        ([golden(4, boot=BootRules(secure_boot=True))], "configuration", Claim.APPROVED),
        ([golden(4, boot=IMAGES)], "configuration", Claim.NONE),
        ([golden(4, 7), golden(4, 5)], "configuration", Claim.NONE),
        ([golden(0, 4)], "hardware", Claim.APPROVED),
        ([golden(4)], "hardware", Claim.NONE),
        ([golden(4)], "executables", Claim.APPROVED_BOOT),
        ([golden(4, runtime=FILES)], "executables", Claim.APPROVED),
        ([golden(4, runtime=replace(FILES, excludes=("/tmp/",)))], "executables", Claim.APPROVED_BOOT),  # noqa: S108 - no file
        ([golden(4, runtime=FILES), golden(4)], "executables", Claim.APPROVED_BOOT),
    ],
)
def test_only_what_every_matching_golden_judged_is_affirmed(goldens: list[Golden], claim: str, value: Claim) -> None:
    assert trust_vector(replace(TRUSTED, goldens=goldens))[claim] is value


def test_hardware_is_not_affirmed_without_a_certificate_of_its_maker() -> None:
    assert trust_vector(replace(TRUSTED, certified=False))["hardware"] is Claim.NONE


@pytest.mark.parametrize(
    ("found", "claim", "value"),
    [
        (finding(FindingId.QUOTE_SIGNATURE), "instance-identity", Claim.INVALID),
        (finding(FindingId.QUOTE_BINDING), "instance-identity", Claim.INVALID),
        (finding(FindingId.CLOCK_RESET), "instance-identity", Claim.CONTRAINDICATED),
        (finding(FindingId.PCR_MISMATCH, "sha256 PCR 0, golden rack-a"), "hardware", Claim.UNRECOGNISED),
        (finding(FindingId.PCR_MISMATCH, "sha256 PCR 4, golden rack-a"), "executables", Claim.CONTRAINDICATED),
        (finding(FindingId.PCR_MISMATCH, "sha256 PCR 7, golden rack-a"), "configuration", Claim.CONTRAINDICATED),
        (finding(FindingId.PCR_MISMATCH, "sha256 PCR 12, golden rack-a"), "configuration", Claim.CONTRAINDICATED),
        (finding(FindingId.PCR_UNEXTENDED, "sha256 PCR 0"), "hardware", Claim.UNRECOGNISED),
        (finding(FindingId.UEFI_SECURE_BOOT), "configuration", Claim.CONTRAINDICATED),
        (finding(FindingId.UEFI_REPLAY), "configuration", Claim.INVALID),
        (finding(FindingId.UEFI_IMAGE), "executables", Claim.CONTRAINDICATED),
        (finding(FindingId.IMA_UNKNOWN_FILE, "/usr/bin/x"), "executables", Claim.CONTRAINDICATED),
        (finding(FindingId.IMA_REPLAY), "executables", Claim.INVALID),
        (finding(FindingId.PLATFORM_FIRMWARE), "hardware", Claim.CONTRAINDICATED),
    ],
)
def test_findings_speak_against_what_they_are_about(found: Finding, claim: str, value: Claim) -> None:
    view = untrusted(found)
    assert trust_vector(view) == {**dict.fromkeys(trust_vector(view), Claim.NONE), claim: value}
    assert appraisal_of(view)["ear.status"] == "contraindicated"


def test_the_worst_of_several_findings_counts() -> None:
    view = untrusted(finding(FindingId.IMA_REPLAY), finding(FindingId.IMA_UNKNOWN_FILE))
    assert trust_vector(view)["executables"] is Claim.INVALID


@pytest.mark.parametrize("id_", [each for each in FindingId if each.severity is not Severity.WARNING])
def test_no_finding_leaves_a_node_that_is_not_trusted_better_than_contraindicated(id_: FindingId) -> None:
    assert appraisal_of(untrusted(finding(id_)))["ear.status"] == "contraindicated"


def test_warnings_contradict_nothing_and_are_told() -> None:
    view = replace(TRUSTED, findings=(finding(FindingId.CLOCK_UNSAFE),))
    appraisal = appraisal_of(view)
    assert trust_vector(view) == trust_vector(TRUSTED)
    assert appraisal["ear.status"] == "affirming"
    private = appraisal["nodeseal"]
    assert isinstance(private, dict)
    assert private["findings"] == [{"id": "clock.unsafe", "expected": "this", "seen": "that"}]


@pytest.mark.parametrize("state", [NodeState.PENDING, NodeState.STALE, NodeState.REBOOTING])
def test_of_a_node_that_was_not_judged_now_nothing_is_claimed(state: NodeState) -> None:
    view = untrusted(state=state)
    assert set(trust_vector(view).values()) == {Claim.NONE}
    appraisal = appraisal_of(view)
    assert appraisal["ear.status"] == "none"
    assert "ear.appraisal-policy-id" not in appraisal


@pytest.mark.parametrize("state", [NodeState.QUARANTINED, NodeState.RETIRED])
def test_what_a_person_took_out_is_contraindicated(state: NodeState) -> None:
    view = untrusted(state=state)
    assert trust_vector(view)["instance-identity"] is Claim.CONTRAINDICATED
    assert appraisal_of(view)["ear.status"] == "contraindicated"


@pytest.mark.parametrize("state", [each for each in NodeState if each is not NodeState.TRUSTED])
def test_nothing_is_affirmed_of_a_node_that_is_not_trusted(state: NodeState) -> None:
    view = replace(TRUSTED, state=state)
    assert not set(trust_vector(view).values()) & {Claim.APPROVED, Claim.APPROVED_BOOT}
    assert appraisal_of(view)["ear.status"] != "affirming"


def test_nothing_is_affirmed_without_a_golden() -> None:
    assert set(trust_vector(replace(TRUSTED, goldens=())).values()) == {Claim.NONE}


@pytest.mark.parametrize("size", [8, 64])
def test_a_nonce_is_repeated(size: int) -> None:
    nonce = bytes(range(200, 200 + 8)) * (size // 8)
    text = claims_of(TRUSTED, nonce)["eat_nonce"]
    assert isinstance(text, str)
    assert "=" not in text
    assert base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) == nonce


@pytest.mark.parametrize("size", [1, 7, 65])
def test_a_nonce_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(MalformedInput, match="neither none nor 8 to 64"):
        claims_of(TRUSTED, bytes(size))


def test_several_goldens_are_named_in_order() -> None:
    goldens: Sequence[Golden] = (golden(4), golden(4, 7))
    named = appraisal_of(replace(TRUSTED, goldens=goldens))["ear.appraisal-policy-id"]
    assert named == " ".join(sorted(f"golden:{each.digest}" for each in goldens))
