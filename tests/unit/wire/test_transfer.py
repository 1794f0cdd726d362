from __future__ import annotations

import pytest

from nodeseal.errors import MalformedInput
from nodeseal.wire.transfer import PART_SIZE, Assembly, in_parts


@pytest.mark.parametrize(("size", "parts"), [(0, 1), (1, 1), (PART_SIZE, 1), (PART_SIZE + 1, 2), (3 * PART_SIZE, 3)])
def test_a_document_comes_back_from_its_parts(size: int, parts: int) -> None:
    document = bytes(range(256)) * (size // 256) + bytes(size % 256)
    cut = list(in_parts(document))
    assert (len(cut), max(map(len, cut)) <= PART_SIZE) == (parts, True)
    assembly = Assembly(size, "the golden")
    for part in cut:
        assembly.add(part)
    assert assembly.whole() == document


def test_a_document_above_its_limit_is_refused_as_soon_as_it_is() -> None:
    assembly = Assembly(2 << 20, "the golden")
    assembly.add(bytes(2 << 20))
    with pytest.raises(MalformedInput, match="the golden has more than 2 MiB"):
        assembly.add(b"x")
