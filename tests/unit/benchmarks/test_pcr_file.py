"""The PCR file that Keylime is given says what the quote says."""

from __future__ import annotations

from benchmarks.keylime import serialized_pcrs
from benchmarks.nodes import SELECTION
from nodeseal.tpm.tools import decode_pcr_file


def test_the_file_reads_back_as_the_values_in_it() -> None:
    values = tuple(bytes([number]) * 32 for number in range(SELECTION.size))
    assert decode_pcr_file(serialized_pcrs(values), SELECTION).values == values
