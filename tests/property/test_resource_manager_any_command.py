"""No command bytes, however odd, break the resource manager or reach another client's objects."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeseal.swtpm import commands
from nodeseal.swtpm.process import TpmProcess
from nodeseal.swtpm.resource_manager import ResourceManager
from nodeseal.tpm.buffer import u16, u32
from nodeseal.tpm.ek_template import template
from nodeseal.tpm.handles import PermanentHandle
from support.machines import need

VICTIM, ATTACKER = 1, 2
HANDLES = st.one_of(
    st.sampled_from([0x80FFFFFF, 0x80FFFFFE, 0x80000000, 0x80000001, 0x02000000, 0x03000000, 0x40000007, 0x40000009]),
    st.integers(0, 2**32 - 1),
).map(u32)
# Not TPM2_Clear and other commands that the platform's owner may rightly use against everybody
CODES = st.sampled_from([0x12B, 0x13E, 0x148, 0x153, 0x157, 0x161, 0x162, 0x165, 0x173, 0x176, 0x17A, 0x186, 0x189])


@pytest.fixture(scope="module")
def manager() -> Iterator[ResourceManager]:
    need("swtpm")
    with tempfile.TemporaryDirectory(prefix="nodeseal-") as directory:
        (Path(directory) / "state").mkdir()
        process = TpmProcess(Path(directory) / "state", Path(directory) / "log")
        process.startup()
        manager = ResourceManager(process.transact)
        made = manager.execute(VICTIM, commands.create_primary(PermanentHandle.OWNER, template("H-2").public))
        assert commands.body(made, "create").u32("handle") == 0x80FFFFFF
        yield manager
        process.kill()


@given(
    tag=st.sampled_from([0x8001, 0x8002]),
    code=CODES,
    handles=st.lists(HANDLES, max_size=3),
    rest=st.binary(max_size=60),
)
def test_an_odd_command_is_answered_and_the_victims_object_stays(
    manager: ResourceManager, tag: int, code: int, handles: list[bytes], rest: bytes
) -> None:
    body = b"".join(handles) + rest
    response = manager.execute(ATTACKER, u16(tag) + u32(10 + len(body)) + u32(code) + body)
    assert int.from_bytes(response[2:6], "big") == len(response) >= 10
    shown = manager.execute(VICTIM, u16(0x8001) + u32(14) + u32(0x173) + u32(0x80FFFFFF))
    assert commands.response_code(shown) == 0
