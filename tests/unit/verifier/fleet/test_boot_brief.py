"""What people see of a boot: short, bounded, and of this boot."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from nodeseal.appraisal.model import Continuity
from nodeseal.boot.secure_boot import SecureBoot
from nodeseal.swtpm.sample_log import SampleBoot
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.verifier.fleet.boot_brief import BootBrief, brief
from nodeseal.verifier.rounds.decision import boot_after
from support.boot_logs import claims_of, good_log

CLAIMS = claims_of(good_log())


def test_a_boot_in_brief() -> None:
    found = brief(CLAIMS)
    assert (found.secure_boot, found.firmware_version) == ("user", "nodeseal sample 1.0")
    assert [image.rsplit(" ", 1)[1] for image in found.images] == [
        HashAlg.SHA256.digest(content).hex()
        for content in (b"nodeseal sample shim", b"nodeseal sample boot loader", b"nodeseal sample kernel")
    ]
    assert "/vmlinuz root=LABEL=root ro quiet" in found.command_lines


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (replace(CLAIMS.secure_boot, values={**CLAIMS.secure_boot.values, "SecureBoot": b"\0"}), "off"),
        (replace(CLAIMS.secure_boot, values={**CLAIMS.secure_boot.values, "SetupMode": b"\1"}), "setup"),
        (SecureBoot(), "not proved"),
    ],
)
def test_secure_boot_is_shown_as_it_is(state: SecureBoot, shown: str) -> None:
    assert brief(replace(CLAIMS, secure_boot=state)).secure_boot == shown


def test_a_brief_is_bounded() -> None:
    (line, *_) = claims_of(good_log(SampleBoot(command_line="/vmlinuz " + "x" * 5000))).command_lines
    many = replace(CLAIMS, command_lines=(line,) * 100, firmware_version="v" * 5000)
    found = brief(many)
    assert len(found.command_lines) <= 32
    assert all(len(text) <= 500 for text in (*found.command_lines, found.firmware_version))


OLD = BootBrief(secure_boot="off", images=(), command_lines=(), firmware_version="")


@pytest.mark.parametrize(
    ("continuity", "sent", "shown"),
    [
        (Continuity.CONTINUES, False, OLD),
        (Continuity.CONTINUES, True, brief(CLAIMS)),
        (Continuity.REBOOTED, True, brief(CLAIMS)),
        (Continuity.REBOOTED, False, None),
        (Continuity.BROKEN, False, None),
    ],
)
def test_what_is_shown_is_of_this_boot(continuity: Continuity, sent: bool, shown: BootBrief | None) -> None:  # noqa: FBT001 - the case
    node: Any = SimpleNamespace(boot=OLD)
    appraisal: Any = SimpleNamespace(detail=lambda _: CLAIMS if sent else None, continuity=continuity)
    assert boot_after(node, appraisal) == shown
