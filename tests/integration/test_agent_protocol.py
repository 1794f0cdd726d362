"""The whole agent in this process against a scripted verifier and a software TPM."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest

from nodeseal.agent import service
from nodeseal.agent.identity import StateDirectory
from nodeseal.agent.tpm.connection import SavedKey
from nodeseal.agent.tpm.device import Device
from nodeseal.agent.tpm.failures import TpmFailed
from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.evidence.binding import Channel, Purpose, qualifying_data
from nodeseal.ids import Digest, NodeId, Nonce
from nodeseal.swtpm.machine import Machine
from nodeseal.tpm.attest import decode_attest
from nodeseal.tpm.public import decode_public
from nodeseal.v1 import attestation_pb2
from nodeseal.wire.varlink import KEYS_INTERFACE
from support.agents import (
    MODEL,
    Loader,
    World,
    agent_config,
    agent_process,
    eventually,
    loader,
    play,
    running,
    short_folder,
    trusted,
)
from support.machines import a_machine, a_vendor
from support.scripted_verifier import DATA_KEY, DOMAIN, ScriptedVerifier, scripted_verifier

OTHER = Digest("cd" * 32)


@pytest.fixture(name="machine")
def _machine() -> Iterator[Machine]:
    with a_vendor() as vendor, a_machine(vendor) as machine:
        yield machine


@pytest.fixture(name="made")
def _made(monkeypatch: pytest.MonkeyPatch) -> list[SavedKey]:
    """All release keys that are made, so that what happens to their contexts can be seen."""
    made: list[SavedKey] = []
    create = Device.create_release_key

    def recorded(device: Device, policy: bytes) -> SavedKey:
        made.append(create(device, policy))
        return made[-1]

    monkeypatch.setattr(Device, "create_release_key", recorded)
    return made


@asynccontextmanager
async def opened(here: World) -> AsyncIterator[Loader]:
    """A loader that has opened the model."""
    async with loader(here.config) as client:
        await trusted(here.config)
        reply = await client.open()
        assert not reply.error, reply
        yield client


def test_a_node_enrols_attests_and_is_trusted(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config), loader(here.config) as client:
            await trusted(here.config)
            status = (await client.call(f"{KEYS_INTERFACE}.Status")).parameters
        identity = StateDirectory(here.config.state_directory).identity()
        assert identity is not None
        assert (status["node_id"], status["state"]) == (identity.node_id, "trusted")
        assert identity.peer.trust_domain == DOMAIN
        assert len(here.verifier.enrolments) == 1

    play(machine, scenario)


def test_a_quote_is_bound_to_challenge_node_channel_and_claims(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(here: World) -> None:
        nonce = b"n" * 32
        challenge = here.verifier.challenge()
        challenge.nonce = nonce
        monkeypatch.setattr(ScriptedVerifier, "challenge", lambda _self: challenge)
        async with running(here.config):
            await eventually(lambda: here.verifier.seen)
        evidence, der = here.verifier.seen[0], ssl.PEM_cert_to_DER_cert(here.verifier.peers[0].decode())
        identity = StateDirectory(here.config.state_directory).identity()
        assert identity is not None
        channel = Channel(
            trust_domain=DOMAIN, node_id=identity.node_id, certificate_sha256=hashlib.sha256(der).digest()
        )
        expected = qualifying_data(Purpose.ATTEST, Nonce(nonce), channel, evidence.claims)
        assert decode_attest(evidence.attest).extra_data == expected
        ak = decode_public(here.verifier.enrolments[0].ak_public)
        SignatureVerifier(ak).verify(evidence.signature, evidence.attest)

    play(machine, scenario)


def test_values_travel_only_when_they_changed_or_are_required(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        seen = here.verifier.seen
        async with running(here.config):
            await eventually(lambda: len(seen) >= 3)
            assert [len(each.pcr_values) for each in seen[:3]] == [17, 0, 0]
            await asyncio.to_thread(machine.extend, 12, bytes(32))
            await eventually(lambda: any(each.pcr_values for each in seen[3:]))
            here.verifier.values_required = True
            count = len(seen)
            await eventually(lambda: len(seen) >= count + 3)
            assert len(seen[-1].pcr_values) == 17

    play(machine, scenario)


def test_values_travel_again_until_a_round_is_accepted(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        here.verifier.state = attestation_pb2.NODE_STATE_PENDING
        async with running(here.config):
            await eventually(lambda: len(here.verifier.seen) >= 3)
        assert all(len(each.pcr_values) == 17 for each in here.verifier.seen)

    play(machine, scenario)


def test_values_travel_after_a_round_that_was_not_accepted(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        seen = here.verifier.seen
        async with running(here.config):
            await eventually(lambda: seen and not seen[-1].pcr_values)
            lose_trust(here)
            await eventually(lambda: seen[-1].pcr_values)

    play(machine, scenario)


def test_a_loader_opens_a_model_and_hears_of_renewals(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config), loader(here.config) as client:
            await trusted(here.config)
            first = await client.open()
            assert base64.b64decode(str(first.parameters["data_key"])) == DATA_KEY
            assert first.parameters["model_digest"] == MODEL
            assert first.continues
            renewal = await client.reply()
            assert renewal.parameters.keys() == {"expires"}
            assert str(renewal.parameters["expires"]) > str(first.parameters["expires"])
            lease = str(first.parameters["lease_id"])
            await eventually(lambda: lease in here.verifier.claims().leases)

    play(machine, scenario)


def test_a_loader_that_closes_gives_its_lease_back_and_the_epoch_goes_on(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config):
            async with opened(here):
                epoch = here.epoch
            await eventually(lambda: here.verifier.returned)
            await eventually(lambda: not here.verifier.claims().leases)
        assert here.epoch == epoch

    play(machine, scenario)


def test_two_loaders_of_one_model_share_a_lease_until_the_last_one_closes(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config):
            async with opened(here):
                async with opened(here):
                    pass
                await asyncio.sleep(0.2)
                assert not here.verifier.returned
            await eventually(lambda: here.verifier.returned)
        assert len(here.verifier.releases) == len(here.verifier.returned) == 1

    play(machine, scenario)


def test_k03_the_tpm_refuses_the_second_opening_after_a_pcr_moved(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config), opened(here), loader(here.config) as late:
            await asyncio.to_thread(machine.extend, 4, os.urandom(32))
            reply = await late.open()
            assert reply.error == f"{KEYS_INTERFACE}.Refused"
            assert "data_key" not in reply.parameters
            assert "'id': 'release.tpm-refused'" in str(reply.parameters)
        assert len(here.verifier.releases) == 1

    play(machine, scenario)


@pytest.mark.parametrize(
    ("context", "why"),
    [
        pytest.param({"node_id": "n-" + "a" * 26}, "another node", id="of another node"),
        pytest.param({"model_digest": OTHER}, "another node, model or lease", id="of another model"),
        pytest.param({"lease_id": "l-" + "a" * 26}, "another node, model or lease", id="of another lease"),
    ],
)
def test_k04_a_release_made_for_something_else_is_not_used(
    machine: Machine, made: list[SavedKey], context: dict[str, str], why: str
) -> None:
    async def scenario(here: World) -> None:
        here.verifier.context = context
        async with running(here.config), loader(here.config) as client:
            await trusted(here.config)
            reply = await client.open()
            assert reply.error == f"{KEYS_INTERFACE}.Unavailable"
            assert why in str(reply.parameters["reason"])
            assert [key.wiped for key in made] == [True]

    play(machine, scenario)


def test_a_release_key_that_could_not_be_certified_is_wiped(
    machine: Machine, made: list[SavedKey], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise TpmFailed("TPM2_Certify: no", 0x921)

    async def scenario(here: World) -> None:
        async with running(here.config), loader(here.config) as client:
            await trusted(here.config)
            monkeypatch.setattr(Device, "certify", refuse)
            assert "TPM2_Certify" in str((await client.open()).parameters["reason"])
        assert [key.wiped for key in made] == [True]

    play(machine, scenario)


def test_no_key_is_asked_for_while_the_tpm_does_not_begin_an_epoch(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise TpmFailed("TPM2_PCR_Reset: no", 0x921)

    async def scenario(here: World) -> None:
        monkeypatch.setattr(Device, "begin_epoch", refuse)
        async with running(replace(here.config, tpm_timeout_seconds=2)), loader(here.config) as client:
            await trusted(here.config)
            assert "has not begun a new lease epoch" in str((await client.open()).parameters["reason"])
        assert not here.verifier.releases

    play(machine, scenario)


@pytest.mark.parametrize(
    ("policy", "how"),
    [
        pytest.param((0, 4, 15), "leaves out sha256 PCR 23, the lease epoch", id="without the lease epoch"),
        pytest.param((), "names no PCRs", id="that is empty"),
    ],
)
def test_a_policy_of_a_verifier_of_the_first_release_is_refused_and_says_what_to_update(
    machine: Machine, policy: tuple[int, ...], how: str
) -> None:
    async def scenario(here: World) -> None:
        here.verifier.policy_pcrs = policy
        async with running(here.config), loader(here.config) as client:
            await trusted(here.config)
            reason = str((await client.open()).parameters["reason"])
            assert how in reason
            assert "update nodeseal-verifier" in reason
        assert not here.verifier.releases

    play(machine, scenario)


def test_a_policy_over_pcrs_that_are_not_quoted_is_refused(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        here.verifier.policy_pcrs = (0, 4, 16, 23)
        async with running(here.config), loader(here.config) as client:
            await trusted(here.config)
            assert "PCRs that the quote does not cover" in str((await client.open()).parameters["reason"])
        assert not here.verifier.releases

    play(machine, scenario)


def test_a_trusted_verdict_without_time_is_no_trust(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        here.verifier.trusted_for_ms = 0
        async with running(here.config), loader(here.config) as client:
            await eventually(lambda: len(here.verifier.seen) >= 3)
            assert "trusted_until" not in (await client.call(f"{KEYS_INTERFACE}.Status")).parameters
            assert "trust ended" in str((await client.open()).parameters["reason"])

    play(machine, scenario)


@pytest.mark.parametrize("when", ["enrolment", "renewal"])
def test_a_certificate_that_names_another_node_is_not_taken(machine: Machine, when: str) -> None:
    async def scenario(here: World) -> None:
        here.verifier.lifetime = timedelta(minutes=2)
        other = NodeId("n-" + "a" * 26)
        if when == "enrolment":
            here.verifier.certify_as = other
        async with running(here.config):
            if when == "renewal":
                await trusted(here.config)
                here.verifier.certify_as = other
                await eventually(lambda: here.verifier.renewals >= 1)
            else:
                await eventually(lambda: here.verifier.enrolments)
            await asyncio.sleep(0.2)
        identity = StateDirectory(here.config.state_directory).identity()
        assert identity is None if when == "enrolment" else identity and identity.node_id != other

    play(machine, scenario)


def send_revocation(here: World, cause: attestation_pb2.EndCause.ValueType, *ids: str) -> None:
    revocation = attestation_pb2.Revocation(lease_ids=ids, reason="the test says so", cause=cause)
    here.verifier.instructions.put_nowait(attestation_pb2.Instruction(revocation=revocation))


def revoke_all(here: World) -> None:
    send_revocation(here, attestation_pb2.END_CAUSE_REVOCATION, *here.verifier.claims().leases)


def revoke_as_the_first_release_does(here: World) -> None:
    send_revocation(here, attestation_pb2.END_CAUSE_UNSPECIFIED, *here.verifier.claims().leases)


def revoke_for_silence(here: World) -> None:
    send_revocation(here, attestation_pb2.END_CAUSE_SILENCE, *here.verifier.claims().leases)


def distrust(here: World) -> None:
    send_revocation(here, attestation_pb2.END_CAUSE_DISTRUST)


def end_for_a_reason_of_the_future(here: World) -> None:
    send_revocation(here, 99)  # type: ignore[arg-type]  # as a newer verifier may


def call_stale(here: World) -> None:
    here.verifier.state = attestation_pb2.NODE_STATE_STALE


def lose_trust(here: World) -> None:
    here.verifier.state = attestation_pb2.NODE_STATE_UNTRUSTED


def let_trust_run_out(here: World) -> None:
    here.verifier.interval = 3600


SAID = "revoked: the test says so"
RAN_OUT = "the node's trust ran out"


@pytest.mark.parametrize(
    ("event", "cause", "reason"),
    [
        pytest.param(revoke_all, "revocation", SAID, id="a revocation"),
        pytest.param(revoke_as_the_first_release_does, "revocation", SAID, id="a revocation without a cause"),
        pytest.param(revoke_for_silence, "silence", SAID, id="silence that the verifier names"),
        pytest.param(distrust, "distrust", SAID, id="distrust that names no lease"),
        pytest.param(end_for_a_reason_of_the_future, "distrust", SAID, id="a cause that this version does not know"),
        pytest.param(lose_trust, "distrust", "the verifier's verdict is untrusted", id="an untrusted verdict"),
        pytest.param(call_stale, "silence", "the verifier has heard no good round in time", id="a stale verdict"),
        pytest.param(let_trust_run_out, "silence", RAN_OUT, id="silence past the deadline"),
    ],
)
def test_k09_an_end_by_force_wipes_keys_ends_the_epoch_tells_the_loader_and_runs_the_stop_action_once(
    machine: Machine, event: Callable[[World], None], cause: str, reason: str
) -> None:
    async def scenario(here: World) -> None:
        here.verifier.trusted_for_ms = 3000
        ran = here.config.socket.with_name("ran")
        script = f'echo "$NODESEAL_CAUSE: $NODESEAL_REASON" >> {ran}'
        config = replace(here.config, on_revocation=(("/bin/sh", "-c", script),))
        async with running(config) as agent:
            async with opened(here) as client:
                await eventually(lambda: here.verifier.claims().leases)
                held, epoch = agent._leases.held(), here.epoch
                event(here)
                end = await client.end()
                assert (end["revoked"], end["cause"]) == (reason, cause)
                assert all(lease.release_key.wiped for lease in held)
                with pytest.raises(EOFError):
                    await client.reply()
            await eventually(lambda: here.epoch not in {epoch, bytes(32)})
            await eventually(ran.exists)
            ended = here.epoch
            await asyncio.sleep(0.3)
            assert here.epoch == ended
        assert ran.read_text() == f"{cause}: {reason}\n"
        assert not here.verifier.returned

    play(machine, scenario)


def test_after_an_end_by_force_the_next_lease_begins_without_a_reboot(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config):
            async with opened(here) as client:
                lose_trust(here)
                await client.revoked()
            here.verifier.state = attestation_pb2.NODE_STATE_TRUSTED
            async with opened(here):
                pass
        assert len(here.verifier.releases) == 2

    play(machine, scenario)


def test_a_revocation_of_one_of_two_leases_leaves_the_other_and_its_epoch(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config), opened(here) as one, loader(here.config) as two:
            second = (await two.open(OTHER)).parameters["lease_id"]
            await eventually(lambda: len(here.verifier.claims().leases) == 2)
            epoch = here.epoch
            send_revocation(here, attestation_pb2.END_CAUSE_REVOCATION, str(second))
            assert await two.revoked() == SAID
            assert (await one.reply()).parameters.keys() == {"expires"}
            async with loader(here.config) as again:
                assert not (await again.open()).error
            assert here.epoch == epoch

    play(machine, scenario)


def test_a_lease_survives_silence_as_long_as_its_key_says(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        here.verifier.trusted_for_ms, here.verifier.silence_seconds = 2000, 3600
        async with running(here.config) as agent:
            async with opened(here) as client:
                await eventually(lambda: here.verifier.claims().leases)
                epoch = here.epoch
                let_trust_run_out(here)
                await eventually(lambda: not agent._leases.trusted)
                async with loader(here.config) as late:  # of the lease that runs
                    assert not (await late.open()).error
                async with loader(here.config) as other:
                    assert "trust ended" in str((await other.open(OTHER)).parameters["reason"])
                assert here.epoch == epoch
                distrust(here)
                assert await client.revoked() == SAID
            await eventually(lambda: here.epoch not in {epoch, bytes(32)})

    play(machine, scenario)


def test_k09_the_deadline_holds_when_the_verifier_is_gone(machine: Machine) -> None:
    async def scenario() -> None:
        async with short_folder() as folder:
            async with scripted_verifier() as verifier:
                verifier.trusted_for_ms = 4000
                config = agent_config(folder, machine.tcti, verifier)
                here = World(machine=machine, verifier=verifier, config=config)
                agent = running(config)
                await agent.__aenter__()
                session = opened(here)
                client = await session.__aenter__()
                epoch = here.epoch
            gone = asyncio.get_running_loop().time()
            assert await client.revoked() == RAN_OUT
            assert asyncio.get_running_loop().time() - gone < 8
            await eventually(lambda: here.epoch not in {epoch, bytes(32)})
            await session.__aexit__(None, None, None)
            await agent.__aexit__(None, None, None)

    asyncio.run(scenario())


def test_an_agent_begins_an_epoch_when_it_starts_and_none_while_nothing_was_released(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        here.verifier.state = attestation_pb2.NODE_STATE_UNTRUSTED
        epochs = [here.epoch]
        for _ in range(2):
            here.verifier.seen.clear()
            async with running(here.config):
                await eventually(lambda: len(here.verifier.seen) >= 3)
                epochs.append(here.epoch)
            assert here.epoch == epochs[-1]
        assert len(set(epochs)) == 3

    play(machine, scenario)


def test_a_release_that_trust_did_not_outlive_is_not_used_and_given_back(
    machine: Machine, made: list[SavedKey]
) -> None:
    async def scenario(here: World) -> None:
        here.verifier.release_delay = 0.5
        async with running(here.config), loader(here.config) as client:
            await trusted(here.config)
            answer = asyncio.create_task(client.open())
            await eventually(lambda: here.verifier.releases)
            lose_trust(here)
            reply = await answer
            assert reply.error == f"{KEYS_INTERFACE}.Unavailable"
            assert "trust ended during the release" in str(reply.parameters["reason"])
            assert [key.wiped for key in made] == [True]
            await eventually(lambda: here.verifier.returned)

    play(machine, scenario)


def test_an_agent_that_is_told_to_stop_gives_leases_back_in_the_same_epoch(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        agent = running(here.config)
        await agent.__aenter__()
        async with opened(here) as client:
            epoch = here.epoch
            await agent.__aexit__(None, None, None)
            assert await client.end() == {"revoked": "the agent on this node stops"}
        assert len(here.verifier.returned) == 1
        assert here.epoch == epoch

    play(machine, scenario)


def test_an_unknown_node_enrols_again(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config):
            await trusted(here.config)
            here.verifier.refuse = grpc.StatusCode.NOT_FOUND
            await eventually(lambda: len(here.verifier.enrolments) >= 2)
            here.verifier.refuse = None
            count = len(here.verifier.seen)
            await eventually(lambda: len(here.verifier.seen) > count)
        assert len({each.ak_public for each in here.verifier.enrolments}) == 1

    play(machine, scenario)


def test_a_restarted_agent_keeps_its_identity(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        for _ in range(2):
            async with running(here.config):
                await trusted(here.config)
        assert len(here.verifier.enrolments) == 1

    play(machine, scenario)


def test_a_certificate_that_ran_out_leads_to_a_new_enrolment(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config):
            await trusted(here.config)
        monkeypatch.setattr(service, "_EXPIRY_MARGIN", timedelta(days=2))
        async with running(here.config):
            await eventually(lambda: len(here.verifier.enrolments) >= 2)

    play(machine, scenario)


def test_a_trusted_node_renews_its_certificate_and_quotes_under_the_new_one(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        here.verifier.lifetime = timedelta(minutes=2)  # certificates begin five minutes early: two thirds are over
        async with running(here.config):
            await eventually(lambda: here.verifier.renewals >= 1)
            here.verifier.lifetime = timedelta(days=1)
            await eventually(lambda: len(set(here.verifier.peers)) >= 2)
            count = len(here.verifier.seen)
            await eventually(lambda: len(here.verifier.seen) > count)
        assert len(here.verifier.enrolments) == 1

    play(machine, scenario)


def test_another_tpm_is_another_node(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config):
            await trusted(here.config)
        with a_vendor() as vendor, a_machine(vendor) as other:
            async with running(replace(here.config, tcti=other.tcti)):
                await trusted(here.config)
        assert len({each.ek_public for each in here.verifier.enrolments}) == 2

    play(machine, scenario)


def test_a_tpm_reset_ends_what_was_released_and_the_agent_goes_on(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        async with running(here.config), opened(here), loader(here.config) as late:
            await asyncio.to_thread(machine.reset)
            reply = await late.open()
            assert "release.tpm-refused" in str(reply.parameters)
            count = len(here.verifier.seen)
            await eventually(lambda: len(here.verifier.seen) > count)
            newest, first = (decode_attest(here.verifier.seen[at].attest).clock_info for at in (-1, 0))
            assert newest.reset_count == first.reset_count + 1

    play(machine, scenario)


@pytest.mark.parametrize("point", ["identity", "activation", "enrolled"])
def test_k08_an_agent_killed_during_enrolment_enrols_after_a_restart(machine: Machine, point: str) -> None:
    async def scenario(here: World) -> None:
        here.verifier.pause = point
        with agent_process(machine.tcti, here.config.verifier) as agent:
            await asyncio.wait_for(here.verifier.reached.wait(), 45)
            agent.kill()
            agent.start()
            await trusted(agent)
            assert await asyncio.to_thread(agent.stop) == 0
        assert len({each.ak_public for each in here.verifier.enrolments}) == 1

    play(machine, scenario)


@pytest.mark.parametrize("point", ["ask", "proof", "released"])
def test_k08_an_agent_killed_during_a_release_opens_after_a_restart(machine: Machine, point: str) -> None:
    async def scenario(here: World) -> None:
        with agent_process(machine.tcti, here.config.verifier) as agent:
            await trusted(agent)
            here.verifier.pause = point
            async with loader(agent) as client:
                pending = asyncio.create_task(client.open())
                await asyncio.wait_for(here.verifier.reached.wait(), 45)
                agent.kill()
                await asyncio.gather(pending, return_exceptions=True)
            agent.start()
            await trusted(agent)
            async with loader(agent) as client:
                reply = await client.open()
                assert base64.b64decode(str(reply.parameters["data_key"])) == DATA_KEY
            assert await asyncio.to_thread(agent.stop) == 0
        assert reply.parameters["lease_id"] in here.verifier.returned

    play(machine, scenario)


def test_the_agents_log_is_json_and_holds_no_secret(machine: Machine) -> None:
    async def scenario(here: World) -> None:
        with agent_process(machine.tcti, here.config.verifier) as agent:
            await trusted(agent)
            async with loader(agent) as client:
                await client.open()
                revoke_all(here)
                await client.revoked()
            assert await asyncio.to_thread(agent.stop) == 0
            lines = [json.loads(line) for line in agent.log.splitlines()]
            assert {"enrolled", "model opened", "leases ended", "new lease epoch"} <= {line["event"] for line in lines}
            for secret in (DATA_KEY.hex(), base64.b64encode(DATA_KEY).decode(), "PRIVATE KEY", repr(DATA_KEY)):
                assert secret not in agent.log

    play(machine, scenario)
