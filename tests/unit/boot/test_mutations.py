"""Spoiled logs: never believed about more, or about anything else, than the log that they were made of."""

from __future__ import annotations

import pytest

from nodeseal.boot.claims import BootClaims
from nodeseal.errors import MalformedInput
from nodeseal.swtpm.sample_log import BootChain
from nodeseal.tcg.event_log import decode_event_log, encode_event_log
from nodeseal.verifier.appraisal.boot_rules import judge_boot
from support.boot_logs import claims_of, good_log, mutations, quote_of, rules_from

CHAINS = {
    "shim and GRUB": BootChain(option_rom=b"option ROM"),
    "unified": BootChain(command_line="root=x", sections=((".linux", b"kernel"), (".initrd", b"initrd"))),
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


def test_the_same_seed_spoils_in_the_same_ways() -> None:
    raw = encode_event_log(good_log())
    assert list(mutations(raw, 50, seed=7)) == list(mutations(raw, 50, seed=7))
    assert list(mutations(raw, 50, seed=7)) != list(mutations(raw, 50, seed=8))
