"""Goldens and evidence on their way: peers that neither send nor read lose their turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from grpc import aio

from nodeseal.errors import OutOfOrder
from nodeseal.v1 import admin_pb2
from nodeseal.verifier.services import admin


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "_TRANSFER_SECONDS", 0.05)


async def a_part_and_no_more() -> AsyncIterator[admin_pb2.ActivateGoldenRequest]:
    yield admin_pb2.ActivateGoldenRequest(document=b"#")
    await asyncio.Event().wait()


class Unread:
    """A stream whose peer reads nothing."""

    async def write(self, _message: object) -> None:
        await asyncio.Event().wait()


def test_a_golden_that_does_not_arrive_is_not_waited_for() -> None:
    with pytest.raises(OutOfOrder, match="did not arrive"):
        asyncio.run(admin._collected(a_part_and_no_more()))


def test_an_answer_that_nobody_reads_is_given_up() -> None:
    context = cast("aio.ServicerContext[Any, admin_pb2.Golden]", Unread())
    with pytest.raises(OutOfOrder, match="was not read"):
        asyncio.run(admin._send([admin_pb2.Golden()], context))
