"""Attacks on PCRs that an operator's quirk leaves to their values, by what a node says of its firmware: row b13."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from nodeseal.appraisal.model import Appraisal
from nodeseal.boot.quirks import parse_added_quirks
from nodeseal.errors import MalformedInput
from nodeseal.findings import FindingId
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules
from nodeseal.uefi.event_log import encode_event_log
from support.boot_logs import claims_of, rules_from, values_of
from support.rounds import CLAIMS, POLICY, SHA256, Round
from support.suspects import LOG

QUIRKS: Final = parse_added_quirks(
    b"""quirks:
  - id: site-dl160
    vendor: "HPE"
    firmware: "U3[0-9].*"
    deviates: "PCR 0 is extended with something that is not logged"
    effect: value-alone
    pcr: 0
    source: "fwupd#2136"
""",
    "quirks.yaml",
)
SERVER: Final = replace(CLAIMS, firmware_vendor="HPE", firmware_version="U31 v2.40")
VALUES: Final = {pcr: value for pcr, value in values_of(LOG).items() if pcr < 16}
UNLOGGED: Final = {**VALUES, 0: SHA256.digest(VALUES[0] + SHA256.digest(b"not logged"))}


def pinning(*pcrs: int, boot: BootRules | None = None) -> Golden:
    return Golden(name="site", pcrs={SHA256: {pcr: frozenset({UNLOGGED[pcr]}) for pcr in pcrs}}, boot=boot)


def judged(golden: Golden, pcrs: dict[int, bytes] = UNLOGGED, **changes: object) -> Appraisal:
    """Judge the machine: by default a server of the quirk, whose PCR 0 has more than its log says."""
    machine = Round(
        pcrs={**Round().pcrs, **pcrs},
        claims=SERVER,
        boot_log=encode_event_log(LOG),
        policy=replace(POLICY, goldens=(golden,), quirks=QUIRKS),
    )
    return replace(machine, **changes).appraise()  # type: ignore[arg-type]  # its fields


def found(appraisal: Appraisal) -> list[FindingId]:
    return [finding.id for finding in appraisal.findings]


RULES: Final = BootRules(images=tuple(rules_from(claims_of(LOG)).images or ()))


@pytest.mark.parametrize("golden", [pinning(0, 4), pinning(0, boot=RULES)], ids=["values", "rules"])
def test_b13_a_golden_with_the_value_is_met_and_what_is_given_up_is_said(golden: Golden) -> None:
    appraisal = judged(golden)
    assert (appraisal.trusted, found(appraisal)) == (True, [FindingId.UEFI_QUIRK])
    assert "site-dl160" in appraisal.findings[0].seen
    assert "judged by its value alone" in appraisal.findings[0].seen


@pytest.mark.parametrize("golden", [pinning(4), Golden(name="site", pcrs={}, boot=RULES)], ids=["values", "rules"])
def test_b13_a_golden_without_the_value_is_not_met(golden: Golden) -> None:
    appraisal = judged(golden)
    assert not appraisal.trusted
    assert FindingId.UEFI_REPLAY in found(appraisal)


def test_b13_another_value_is_not_accepted() -> None:
    appraisal = judged(pinning(0, 4), {**UNLOGGED, 0: SHA256.digest(b"another firmware")})
    assert not appraisal.trusted
    assert FindingId.PCR_MISMATCH in found(appraisal)


@pytest.mark.parametrize(
    "claims", [CLAIMS, replace(SERVER, firmware_vendor="HP"), replace(SERVER, firmware_version="A31")]
)
def test_b13_other_firmware_must_replay(claims: object) -> None:
    assert FindingId.UEFI_REPLAY in found(judged(pinning(0, 4), claims=claims))


def test_b13_another_pcr_must_replay() -> None:
    moved = {**UNLOGGED, 2: SHA256.digest(b"an option ROM")}
    golden = Golden(name="site", pcrs={SHA256: {pcr: frozenset({moved[pcr]}) for pcr in (0, 2, 4)}})
    assert found(judged(golden, moved)) == [FindingId.UEFI_QUIRK, FindingId.UEFI_REPLAY]


def test_b13_nothing_in_the_log_about_the_pcr_is_believed() -> None:
    golden = pinning(0, 4)
    quirks = parse_added_quirks(_text().replace("pcr: 0", "pcr: 4").encode(), "quirks.yaml")
    moved = {**VALUES, 4: SHA256.digest(b"evil")}
    ruled = Golden(name="site", pcrs={SHA256: {4: frozenset({moved[4]})}}, boot=RULES)
    appraisal = judged(ruled, moved, policy=replace(POLICY, goldens=(golden, ruled), quirks=quirks))
    assert not appraisal.trusted


def _text() -> str:
    return """quirks:
  - id: site-dl160
    vendor: "HPE"
    firmware: ".*"
    deviates: "text"
    effect: value-alone
    pcr: 0
    source: "a report"
"""


HOSTILE: Final = {
    "an unknown effect": ("value-alone", "believe-everything", "line 6: effect is not one of"),
    "a PCR that firmware leaves alone": ("pcr: 0", "pcr: 11", "line 7: pcr is not"),
    "no PCR": ("    pcr: 0\n", "", "pcr"),
    "a PCR where the effect names it": ("value-alone", "missing-exit-boot-services", "line 7: unknown key: 'pcr'"),
    "a pattern that takes for ever": ('"HPE"', '"(a+)+b"', "line 3: vendor is not a pattern"),
    "a pattern with many repetitions": ('".*"', '".*.*.*x"', "line 4: firmware is not a pattern"),
    "a pattern that tries every half": ('"HPE"', f'"{"a?" * 60}{"a" * 60}"', "line 3: vendor is not a pattern"),
    "a pattern that does not compile": ('"HPE"', '"H[z-a]E"', "line 3: vendor is not a pattern"),
    "terminal escapes": ('"text"', '"\\x1b[2J"', "line 5: deviates is not printable text"),
    "an unknown key": ('"a report"\n', '"a report"\n    more: x\n', "line 9: unknown key: 'more'"),
    "a duplicate key": ("    pcr: 0\n", "    pcr: 0\n    pcr: 1\n", "line 8: duplicate key 'pcr'"),
    "an alias": ('"text"', "&a text", "line 5: anchors, aliases and tags"),
    "the name of a shipped quirk": ("site-dl160", "hp-exit-boot-services", "id: hp-exit-boot-services"),
    "100 MB": ('"text"', '"' + "x" * 300_000 + '"', "more than 262144 bytes"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_b13_a_hostile_table_is_refused_with_its_place(what: str) -> None:
    old, new, said = HOSTILE[what]
    with pytest.raises(MalformedInput) as caught:
        parse_added_quirks(_text().replace(old, new).encode(), "quirks.yaml")
    assert str(caught.value).startswith("quirks.yaml")
    assert said in str(caught.value)
