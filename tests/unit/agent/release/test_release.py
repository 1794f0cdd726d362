"""What an agent says of a release that fails before its TPM is asked."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import grpc.aio
import pytest

from nodeseal.agent.calls.channels import Link
from nodeseal.agent.release.epoch import LeaseEpoch
from nodeseal.agent.release.leases import Leases
from nodeseal.agent.release.release import Releaser
from nodeseal.agent.tpm.failures import TpmPolicyFailed
from nodeseal.crypto.hpke import WRAPPED_SIZE, Suite, Wrapped, uncompressed_point
from nodeseal.crypto.synthetic import SyntheticKey
from nodeseal.errors import MalformedInput, PolicyRefused, Unavailable
from nodeseal.ids import Digest, KeyId
from nodeseal.sealed.slots import Slot
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.v1 import key_release_pb2_grpc
from support.leases import released

UNUSED = cast("Any", None)
DIGEST = Digest("ab" * 32)
SLOT = Slot(
    key_id=KeyId("key"),
    key_version=1,
    suite=Suite.MLKEM768_X25519,
    sealed=Wrapped(bytes(Suite.MLKEM768_X25519.enc_size), bytes(WRAPPED_SIZE)),
)


class FirstRelease(key_release_pb2_grpc.KeyReleaseServicer):
    """A verifier of the first release, which reads digest and slots from other fields."""

    async def Release(self, _requests: object, context: Any) -> None:  # type: ignore[override]  # noqa: N802  # gRPC's
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT, "model digest is not 64 lower-case hex digits: ''", trailing_metadata=()
        )

    async def Return(self, _request: object, context: Any) -> None:  # type: ignore[override]  # noqa: N802  # gRPC's
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "nobody has a lease")


async def ask() -> None:
    server = grpc.aio.server()
    key_release_pb2_grpc.add_KeyReleaseServicer_to_server(FirstRelease(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    attester = SimpleNamespace(banks=AsyncMock(return_value=(HashAlg.SHA256,)))
    releaser = Releaser(UNUSED, cast("Any", attester), Leases(lambda: 0.0, UNUSED), LeaseEpoch(UNUSED, 1.0))
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            releaser.link = Link(channel=channel, identity=UNUSED, address="v:1")
            await releaser.lease(DIGEST, (SLOT,))
    finally:
        await server.stop(None)


class Refusing:
    """A TPM whose policy sessions fail."""

    async def call(self, _operation: object) -> None:
        raise TpmPolicyFailed("TPM2_ECDH_ZGen: policy", 0x09D)


@pytest.mark.parametrize(
    ("ended", "error", "why"),
    [
        pytest.param(False, PolicyRefused, r"release\.tpm-refused", id="while the lease runs"),
        pytest.param(True, Unavailable, "the lease has ended", id="since the lease ended meanwhile"),
    ],
)
def test_a_key_that_the_tpm_refuses_is_told_from_one_that_was_wiped(
    *, ended: bool, error: type[Exception], why: str
) -> None:
    peer = SyntheticKey()
    lease = replace(released(), sealed=Wrapped(uncompressed_point(peer.x, peer.y), bytes(48)))
    releaser = Releaser(cast("Any", Refusing()), UNUSED, UNUSED, UNUSED)
    if ended:
        lease.release_key.wipe()
    with pytest.raises(error, match=why):
        asyncio.run(releaser.open(lease))


def test_a_verifier_of_the_first_release_is_to_be_updated() -> None:
    with pytest.raises(MalformedInput, match=r"verifier v:1: model digest is not .*: update nodeseal-verifier, if"):
        asyncio.run(ask())
