"""Which PCRs a node is asked to quote: by its banks, the settings and its goldens."""

from __future__ import annotations

import pytest

from nodeseal.appraisal.banks import choose_selection, no_bank
from nodeseal.appraisal.model import KnownNode, Policy
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import BootRules
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.pcr import PcrSelection
from support.rounds import Round

SHA1, SHA256, SHA384, SHA512 = HashAlg
SM3 = 0x0012
PCRS = (0, 4, 7, 23)
ASKED = PcrSelection.of({SHA256: PCRS})


def pinning(bank: HashAlg, **labels: str) -> Golden:
    return Golden(name=bank.hashlib_name, pcrs={bank: {4: frozenset({b"\1" * bank.digest_size})}}, nodes=labels)


def chosen(banks: tuple[int, ...], *goldens: Golden, asked: PcrSelection = ASKED, node: KnownNode | None = None) -> str:
    node = Round().known if node is None else node
    return str(choose_selection(asked, banks, node, Policy(goldens=goldens, trust_seconds=60)))


@pytest.mark.parametrize(
    ("banks", "expected"),
    [
        pytest.param((), "sha256:0,4,7,23", id="an agent that does not say is asked as the settings say"),
        pytest.param((SHA256,), "sha256:0,4,7,23", id="SHA-256 only"),
        pytest.param((SHA1, SHA256), "sha256:0,4,7,23", id="SHA-1 beside SHA-256 is not quoted"),
        pytest.param((SHA384,), "sha384:0,4,7,23", id="SHA-384 only"),
        pytest.param((SHA1, SHA384), "sha384:0,4,7,23", id="SHA-1 beside SHA-384 is not quoted"),
        pytest.param((SM3, SHA512), "sha512:0,4,7,23", id="SM3 beside SHA-512 is not quoted"),
        pytest.param((SHA256, SHA384), "sha256:0,4,7,23", id="what the settings name comes first"),
        pytest.param((SHA384, SHA512), "sha384:0,4,7,23", id="of others, one is enough"),
    ],
)
def test_a_node_quotes_banks_that_it_has(banks: tuple[int, ...], expected: str) -> None:
    assert chosen(banks) == expected


@pytest.mark.parametrize("banks", [(SHA1,), (SM3,), (SHA1, SM3)])
def test_a_node_without_a_bank_that_counts_is_never_asked_for_sha1(banks: tuple[int, ...]) -> None:
    assert chosen(banks, pinning(SHA256)) == "sha256:0,4,7,23"
    assert no_bank(banks).seen.startswith("only ")


def test_a_golden_adds_the_bank_by_which_it_judges() -> None:
    assert chosen((SHA256, SHA384), pinning(SHA384)) == "sha256:0,4,7,23+sha384:0,4,7,23"
    rules = Golden(name="rules", pcrs={}, boot=BootRules(bank=SHA384, secure_boot=True, images=()))
    assert chosen((SHA256, SHA384), rules) == "sha256:0,4,7,23+sha384:0,4,7,23"


def test_a_golden_for_other_nodes_adds_no_bank() -> None:
    assert chosen((SHA256, SHA384), pinning(SHA384, rack="a")) == "sha256:0,4,7,23"
    labelled = Round().known._replace(labels={"rack": "a"})
    assert chosen((SHA256, SHA384), pinning(SHA384, rack="a"), node=labelled) == "sha256:0,4,7,23+sha384:0,4,7,23"


def test_a_golden_adds_no_bank_that_the_node_lacks() -> None:
    assert chosen((SHA256,), pinning(SHA384)) == "sha256:0,4,7,23"
    assert chosen((SHA512,), pinning(SHA384)) == "sha512:0,4,7,23"


def test_each_bank_that_the_settings_name_has_its_own_pcrs() -> None:
    asked = PcrSelection.of({SHA256: (0, 7, 23), SHA384: (4, 23)})
    assert chosen((SHA384,), asked=asked) == "sha384:4,23"
    assert chosen((SHA512,), asked=asked) == "sha512:0,4,7,23"
