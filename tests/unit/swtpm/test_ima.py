"""What a machine's IMA log holds and extends, without a TPM."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.ima.log import replay_ima
from nodeseal.ima.template import ImaFields, parse_template
from nodeseal.swtpm.ima import Ima
from nodeseal.tpm.algorithms import HashAlg
from support.ima import decode_ima_log


class Kernel:
    """An IMA log and a PCR 10 per bank."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "log"
        self.pcrs = {bank: bytes(bank.digest_size) for bank in HashAlg}
        self.ima = Ima(self.file, self._extend)

    def _extend(self, pcr: int, digests: Mapping[HashAlg, bytes]) -> None:
        assert pcr == 10
        for bank, digest in digests.items():
            self.pcrs[bank] = bank.digest(self.pcrs[bank] + digest)

    def fields(self) -> list[ImaFields]:
        return [parse_template(entry.template, entry.data) for entry in decode_ima_log(self.file.read_bytes())]


@pytest.fixture(name="kernel")
def _kernel(tmp_path: Path) -> Kernel:
    return Kernel(tmp_path)


def test_the_log_accounts_for_the_pcr_in_every_bank(kernel: Kernel) -> None:
    kernel.ima.begin({pcr: bytes([pcr]) * 32 for pcr in range(10)}, HashAlg.SHA256)
    kernel.ima.measure(b"/usr/bin/a", bytes(32))
    kernel.ima.violate(b"/var/log/b")
    kernel.ima.measure(b"/usr/bin/c", bytes(20), signature=b"\x03\x02")
    entries = decode_ima_log(kernel.file.read_bytes())
    assert {bank: replay_ima(entries, bank) for bank in HashAlg} == kernel.pcrs
    assert [entry.template for entry in entries] == ["ima-ng", "ima-ng", "ima-ng", "ima-sig"]
    assert [entry.violation for entry in entries] == [False, False, True, False]


def test_entries_name_file_as_the_kernel_spells_it_digest_and_signature(kernel: Kernel) -> None:
    kernel.ima.measure(b"/usr/bin/with space", bytes(48), signature=b"sig")
    assert kernel.fields() == [
        ImaFields(algorithm="sha384", digest=bytes(48), path=b"/usr/bin/with_space", signature=b"sig")
    ]


def test_the_first_entry_aggregates_the_boot(kernel: Kernel) -> None:
    pcrs = {pcr: bytes([pcr]) * 32 for pcr in range(24)}
    kernel.ima.begin(pcrs, HashAlg.SHA256)
    (first,) = kernel.fields()
    over_ten = HashAlg.SHA256.digest(b"".join(pcrs[pcr] for pcr in range(10)))
    assert (first.path, first.algorithm, first.digest) == (b"boot_aggregate", "sha256", over_ten)


def test_a_digest_of_no_algorithm_is_refused_before_anything_is_measured(kernel: Kernel) -> None:
    with pytest.raises(MalformedInput, match="31 bytes"):
        kernel.ima.measure(b"/usr/bin/a", bytes(31))
    assert not kernel.file.exists()


def test_a_log_that_does_not_parse_is_not_replayed(kernel: Kernel) -> None:
    with pytest.raises(MalformedInput):
        kernel.ima.replay(b"not a log", HashAlg.SHA1)
    assert not kernel.file.exists()
