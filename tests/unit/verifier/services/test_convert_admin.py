"""Messages for people."""

from __future__ import annotations

import pytest

from nodeseal.v1 import admin_pb2
from nodeseal.verifier.services.convert_admin import MAX_PAGE, first_page

MANY = MAX_PAGE * 2 // 5


@pytest.mark.parametrize(
    ("sizes", "shown"),
    [
        pytest.param([], 0, id="no node"),
        pytest.param([10, 10, 10], 3, id="small ones"),
        pytest.param([MANY, MANY, MANY], 2, id="one that has no room"),
        pytest.param([MANY, MANY, 10, MANY, 10], 3, id="none behind one that has no room"),
        pytest.param([MAX_PAGE, 10], 1, id="a first one that has no room"),
    ],
)
def test_a_page_of_nodes_is_no_larger_than_a_message(sizes: list[int], shown: int) -> None:
    nodes = [admin_pb2.Node(node_id=str(number), reason="r" * size) for number, size in enumerate(sizes)]
    assert [node.node_id for node in first_page(nodes)] == [node.node_id for node in nodes[:shown]]
