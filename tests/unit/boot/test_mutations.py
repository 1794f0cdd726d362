"""Spoiled logs: never believed about more, or about anything else, than the log that they were made of."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeseal.appraisal.kinds.boot_rules import judge_boot
from nodeseal.boot.claims import BootClaims, boot_claims
from nodeseal.boot.difference import first_difference, reference_events
from nodeseal.errors import MalformedInput
from nodeseal.swtpm.sample_log import SampleBoot
from nodeseal.uefi.event_log import EventLog, decode_event_log, encode_event_log
from support.boot_logs import SHA256, claims_of, good_log, mutations, proved, quote_of, rules_from

CHAINS = {
    "shim and GRUB": SampleBoot(option_rom=b"option ROM"),
    "unified": SampleBoot(command_line="root=x", sections=((".linux", b"kernel"), (".initrd", b"initrd"))),
}


def _facts(claims: BootClaims) -> tuple[object, ...]:
    """Return all that rules look at, without words and without types."""
    return (
        claims.secure_boot.values,
        claims.secure_boot.proved,
        [image.digest for image in (*claims.chain.images, *claims.drivers)],
        [signer.sha256 for signer in claims.signers],
        sorted(line.text or "" for line in claims.command_lines),
        [(section.name, section.digest) for section in claims.sections],
        [file.digest for file in (*claims.files, *claims.gpt)],
    )


@pytest.mark.parametrize("chain", CHAINS)
def test_a_spoiled_log_says_the_same_or_is_refused(chain: str) -> None:
    log = good_log(CHAINS[chain])
    quoted, good = quote_of(log), claims_of(log)
    rules, kinds = rules_from(good), set[str]()
    assert judge_boot(good, rules) == ()
    for spoiled in mutations(encode_event_log(log), count=1000, seed=len(chain)):
        try:
            claims = claims_of(decode_event_log(spoiled.raw), quoted)
        except MalformedInput:
            continue
        kinds.add(spoiled.kind)
        refused = claims.findings or judge_boot(claims, rules)
        assert refused or _facts(claims) == _facts(good), spoiled.kind
    assert len(kinds) >= 12


def _measured_as_it_stands(log: EventLog) -> EventLog:
    """Return the log of a machine that hashed the data of every event, whatever it is."""
    events = tuple(replace(event, digests={SHA256: SHA256.digest(event.data)}) for event in log.events)
    return EventLog((SHA256,), events)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("rehash", [True, False])
def test_a_machine_that_really_measured_nonsense_is_judged_without_failing(chain: str, rehash: bool) -> None:  # noqa: FBT001
    log = good_log(CHAINS[chain])
    rules, reference = rules_from(claims_of(log)), reference_events(log, (SHA256,))
    judged = 0
    for spoiled in mutations(encode_event_log(log), count=500, seed=17):
        try:
            nonsense = decode_event_log(spoiled.raw)
            result = proved(_measured_as_it_stands(nonsense) if rehash else nonsense)
        except MalformedInput:
            continue
        claims = boot_claims(result)
        objections = (objection.finding() for objection in judge_boot(claims, rules))
        said = [*map(str, (*claims.findings, *objections))]
        said += [first_difference(result, reference, pcr) for pcr in range(16)]
        said += [f"{signer.variable} {signer.subject}" for signer in claims.signers]
        assert all(text.isprintable() for text in said)
        judged += 1
    assert judged > 250


def test_the_same_seed_spoils_in_the_same_ways() -> None:
    raw = encode_event_log(good_log())
    assert list(mutations(raw, 50, seed=7)) == list(mutations(raw, 50, seed=7))
    assert list(mutations(raw, 50, seed=7)) != list(mutations(raw, 50, seed=8))
