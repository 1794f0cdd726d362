"""What a golden says of itself: which PCRs hold still for it, whether it looks at what boots."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.golden.model import Golden, document_of
from nodeseal.golden.rules import (
    BootRules,
    FileDigest,
    Image,
    PlatformRules,
    ReferenceEvent,
    RuntimeRules,
    Signer,
    SigningKey,
    Window,
)
from nodeseal.tpm.algorithms import HashAlg

A, B = bytes(32), b"\x01" * 32
SIGNERS = (Signer(sha256=A, name="a maker"),)
IMAGES = (Image(name="shimx64.efi", digests=frozenset({A})),)
MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)


def golden(*pcrs: int, boot: BootRules | None = None) -> Golden:
    rows = {HashAlg.SHA256: {pcr: frozenset({A}) for pcr in pcrs}} if pcrs else {}
    return Golden(name="rack-a", pcrs=rows, boot=boot)


@pytest.mark.parametrize(
    ("rules", "pcrs"),
    [
        pytest.param(BootRules(secure_boot=True), {7}, id="secure boot"),
        pytest.param(BootRules(signers=SIGNERS), {7}, id="signers"),
        pytest.param(BootRules(dbx=frozenset({A})), {7}, id="a floor for dbx"),
        pytest.param(BootRules(images=IMAGES), {4}, id="images"),
        pytest.param(BootRules(drivers=IMAGES), {2}, id="drivers"),
        pytest.param(BootRules(command_lines=("quiet",)), {8, 9, 12}, id="command lines"),
        pytest.param(BootRules(sections={".linux": frozenset({A})}), {11}, id="sections of a unified kernel image"),
        pytest.param(BootRules(files=IMAGES), {9}, id="files that GRUB reads"),
        pytest.param(BootRules(gpt=frozenset({A})), {5}, id="a partition table"),
    ],
)
def test_the_pcrs_behind_each_boot_rule_are_static(rules: BootRules, pcrs: set[int]) -> None:
    assert golden(0, boot=rules).static_pcrs() == {HashAlg.SHA256: {0} | pcrs}


def test_static_pcrs_of_rules_are_in_the_bank_of_the_rules() -> None:
    rules = BootRules(bank=HashAlg.SHA384, images=IMAGES)
    assert golden(0, 4, boot=rules).static_pcrs() == {HashAlg.SHA256: {0, 4}, HashAlg.SHA384: {4}}
    assert golden(boot=rules).static_pcrs() == {HashAlg.SHA384: {4}}
    assert golden(0).static_pcrs() == {HashAlg.SHA256: {0}}


@pytest.mark.parametrize(
    ("section", "rules"),
    [
        pytest.param("boot", BootRules(), id="boot without a rule"),
        pytest.param("boot", BootRules(bank=HashAlg.SHA384, images=()), id="boot with an empty rule"),
        pytest.param("runtime", RuntimeRules(files={}), id="runtime without a rule"),
        pytest.param("runtime", RuntimeRules(files={}, excludes=("/srv/data/",)), id="runtime with excludes alone"),
        pytest.param("platform", PlatformRules(), id="platform without a rule"),
    ],
)
def test_a_section_without_a_rule_is_refused_lest_it_pass_for_a_golden_without_it(section: str, rules: object) -> None:
    with pytest.raises(MalformedInput, match=f"{section} has no rule"):
        replace(golden(4), **{section: rules})  # type: ignore[arg-type]  # a section by name


@pytest.mark.parametrize(
    ("made", "judges"),
    [
        pytest.param(golden(4), True, id="exact values of PCR 4"),
        pytest.param(golden(boot=BootRules(images=IMAGES)), True, id="images"),
        pytest.param(golden(boot=BootRules(secure_boot=True, signers=SIGNERS)), True, id="secure boot and signers"),
        pytest.param(golden(7, boot=BootRules(secure_boot=True)), True, id="secure boot and exact values of PCR 7"),
        pytest.param(golden(0, 7, 11), False, id="the values of PCR 7 and 11, which any image may reach"),
        pytest.param(golden(0, boot=BootRules(secure_boot=True)), False, id="secure boot with anybody's keys"),
        pytest.param(golden(0, boot=BootRules(signers=SIGNERS)), False, id="signers without secure boot"),
        pytest.param(golden(7, boot=BootRules(signers=SIGNERS)), False, id="keys that need not be in use"),
    ],
)
def test_a_golden_knows_whether_it_looks_at_boot(made: Golden, judges: bool) -> None:  # noqa: FBT001 - a table
    assert made.looks_at_boot is judges


FULL = Golden(
    name="rack-a",
    pcrs={HashAlg.SHA256: {4: frozenset({A})}},
    boot=BootRules(secure_boot=True, signers=SIGNERS),
    runtime=RuntimeRules(files={"/usr/bin/true": (FileDigest(digest=A),)}),
    platform=PlatformRules(firmware=(7, 2, 0, 0)),
    valid=Window(end=MOMENT),
    nodes={"rack": "a"},
    reference=(ReferenceEvent(pcr=4, claimed_type=13, digests={HashAlg.SHA256: A}),),
)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(replace(FULL, name="rack-b"), id="name"),
        pytest.param(replace(FULL, pcrs={HashAlg.SHA256: {4: frozenset({B})}}), id="pcrs"),
        pytest.param(replace(FULL, boot=BootRules(secure_boot=True)), id="boot"),
        pytest.param(replace(FULL, runtime=RuntimeRules(files={}, keys=(SigningKey(spki=A),))), id="runtime"),
        pytest.param(replace(FULL, platform=PlatformRules(firmware=(7, 2, 0, 1))), id="platform"),
        pytest.param(replace(FULL, valid=Window(start=MOMENT)), id="valid"),
        pytest.param(replace(FULL, nodes={"rack": "b"}), id="nodes"),
        pytest.param(replace(FULL, reference=()), id="reference"),
    ],
)
def test_every_section_is_part_of_the_identity(other: Golden) -> None:
    assert other.digest != FULL.digest
    assert other != FULL


def test_the_plain_form_has_a_key_for_each_section_and_none_for_what_is_not_there() -> None:
    sections = ["format", "name", "pcrs", "boot", "runtime", "platform", "valid", "nodes", "reference"]
    assert list(document_of(FULL)) == sections
    assert list(document_of(golden(4))) == ["format", "name", "pcrs"]


def test_a_golden_with_neither_values_nor_boot_rules_is_refused() -> None:
    with pytest.raises(MalformedInput, match="needs exact PCR values or boot rules"):
        Golden(name="rack-a", pcrs={}, runtime=RuntimeRules(files={}))


def test_images_are_a_chain_whose_order_is_part_of_the_identity_and_drivers_are_not() -> None:
    other = Image(name="grubx64.efi", digests=frozenset({bytes(32)}))
    there, back = (*IMAGES, other), (other, *IMAGES)
    assert golden(boot=BootRules(images=there)).digest != golden(boot=BootRules(images=back)).digest
    assert golden(4, boot=BootRules(drivers=there)).digest == golden(4, boot=BootRules(drivers=back)).digest
