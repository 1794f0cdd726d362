"""How the gate ends a call that failed."""

from __future__ import annotations

import asyncio
from typing import Any, Never

import grpc
import pytest
from grpc import aio

from nodeseal.errors import NotFound
from nodeseal.line_limit import LineLimit
from nodeseal.verifier.services.interceptor import _abort
from support.failing_logs import let_logs_fail


class Call:
    """A call that notes how it ended."""

    def __init__(self) -> None:
        self.status: grpc.StatusCode | None = None

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def abort(self, status: grpc.StatusCode, *_: object) -> Never:
        self.status = status
        raise aio.AbortError


@pytest.mark.parametrize(
    ("error", "status"),
    [
        pytest.param(NotFound("no such node"), grpc.StatusCode.NOT_FOUND, id="refused"),
        pytest.param(ValueError("inside"), grpc.StatusCode.INTERNAL, id="failed"),
    ],
)
def test_a_call_has_its_status_before_a_word_is_said_of_it(error: Exception, status: grpc.StatusCode) -> None:
    call: Any = Call()
    let_logs_fail()
    with pytest.raises(BrokenPipeError):
        asyncio.run(_abort("/a/B", call, error, LineLimit(1), "somebody"))
    assert call.status is status
