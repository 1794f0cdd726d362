"""Nodes that send the longest logs as often as they may, to keep the verifier from judging others."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path

import grpc
from grpc import aio

from nodeseal.evidence.logs import MAX_BOOT_LOG
from nodeseal.golden.document import dump_golden
from nodeseal.golden.model import Golden
from nodeseal.golden.rules import FileDigest, RuntimeRules
from nodeseal.ima.log import encode_ima_entry, measured_entry
from nodeseal.ima.template import ImaFields, encode_template
from nodeseal.swtpm.sample_log import SampleBoot, sample_boot_log
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.uefi.event_log import MAX_EVENTS, Event, decode_event_log, encode_event_log
from nodeseal.uefi.event_log_types import EventType
from nodeseal.v1 import attestation_pb2
from support.admin import activate
from support.agents import eventually
from support.fake_node import boot_log_stretches, ima_stretches
from support.floods import GROWTH, Stage, faults, undisturbed
from support.logged import LoggedNode, admitted_logged_node
from support.verifier import refusal_of

ROGUES = 10
ENTRIES = 30_000
GOLDENS = 7
USUAL_BOOT_LOG = 50_000
USUAL_ENTRIES = 5_000


def lengthened(size: int) -> bytes:
    """Return a boot log of about ``size`` bytes, the rest of it commands of the boot loader."""
    log, command = decode_event_log(sample_boot_log(SampleBoot())), b"grub_cmd: insmod part_gpt\0"
    digests = {HashAlg.SHA256: HashAlg.SHA256.digest(command[10:-1])}
    event = Event(pcr=8, claimed_type=EventType.IPL, digests=digests, data=command)
    longer = len(encode_event_log(replace(log, events=(*log.events, event)))) - len(encode_event_log(log))
    number = min((size - len(encode_event_log(log))) // longer, MAX_EVENTS - len(log.events))
    return encode_event_log(replace(log, events=(*log.events, *[event] * number)))


@cache
def made_up() -> bytes:
    """Return entries that nobody had to extend: of another PCR, each of another file that no golden lists."""
    files = (ImaFields(algorithm="sha256", digest=bytes(32), path=b"/opt/%d" % number) for number in range(ENTRIES))
    return b"".join(
        encode_ima_entry(measured_entry("ima-ng", encode_template("ima-ng", file), pcr=11)) for file in files
    )


async def resend(node: LoggedNode, codes: list[grpc.StatusCode]) -> None:
    """Send the longest logs in every round, another boot log each time, and come back when the stream is ended."""
    rounds = count()
    while True:
        with suppress(asyncio.InvalidStateError):
            try:
                async with node.attesting() as stream:
                    while True:
                        challenge = await stream.challenge()
                        *_, evidence = node.answer(challenge)
                        another = node.boot_log[:-4] + b"%04d" % next(rounds)
                        entries = made_up() if challenge.ima_offset_known else (node.ima_log or b"") + made_up()
                        for piece in (
                            *boot_log_stretches(another),
                            *ima_stretches(entries, challenge.ima_offset_known),
                            evidence,
                        ):
                            await stream.send(piece)
                        await stream.verdict()
                        codes.append(grpc.StatusCode.OK)
            except aio.AioRpcError as error:
                codes.append(refusal_of(error).code)
        await asyncio.sleep(0.2)


def listing(number: int) -> bytes:
    """Return one of several goldens that judge what runs, and that no node here matches."""
    runtime = RuntimeRules(files={"/usr/bin/agent": (FileDigest(digest=bytes(32)),)})
    pcrs = {HashAlg.SHA256: {4: frozenset({bytes(32)})}}
    return dump_golden(Golden(name=f"listing-{number}", pcrs=pcrs, runtime=runtime))


def test_d07_nodes_that_send_the_longest_logs_again_and_again_delay_no_first_contact(
    stage: Stage, tmp_path: Path
) -> None:
    async def case() -> None:
        codes = list[grpc.StatusCode]()
        files = {f"/usr/bin/{number}": b"%d" % number for number in range(USUAL_ENTRIES)}
        async with stage.verifier.person() as admin:
            rogues = [await admitted_logged_node(stage.verifier, tmp_path) for _ in range(ROGUES)]
            longest = lengthened(MAX_BOOT_LOG)
            for rogue in rogues:
                rogue.start_by(longest)
            newcomer = await admitted_logged_node(stage.verifier, tmp_path)
            newcomer.start_by(lengthened(USUAL_BOOT_LOG))
            for path, content in files.items():
                newcomer.run(path, content)
            await activate(admin, newcomer.golden({path: [content] for path, content in files.items()}, name="usual"))
            for number in range(GOLDENS):
                await activate(admin, listing(number))
            # each is held as it came, as its events, and once more by the thread that judges
            growth = GROWTH + 3 * ROGUES * (len(longest) + len(made_up()))
            async with undisturbed(stage, growth), asyncio.TaskGroup() as flood:
                tasks = [flood.create_task(resend(node, codes)) for node in rogues]
                await eventually(lambda: bool(codes))
                async with newcomer.attesting() as stream:
                    verdict = await stream.round()
                for task in tasks:
                    task.cancel()
        assert verdict.state == attestation_pb2.NODE_STATE_TRUSTED  # before T, which counts from the challenge

    asyncio.run(case())
    assert not faults(stage.verifier)
