"""The pure appraisal of steady rounds: against bare P-256 verifications, and against Keylime's ``checkquote``."""

from __future__ import annotations

import itertools
import secrets
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.harness import Result, pinned, rate, ratios
from benchmarks.keylime import CHECKQUOTE, Keylime, SameQuote
from benchmarks.nodes import SELECTION, Attester, BootedNode, booted_node, golden
from benchmarks.openssl import VERIFY, p256_verifies_per_second
from nodeseal.appraisal.appraise import appraise, known_logs
from nodeseal.appraisal.model import Challenge, KnownNode, NodeKeys, Policy
from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.evidence.binding import Channel, Purpose
from nodeseal.evidence.round import Evidence
from nodeseal.ids import Nonce, node_id_of
from nodeseal.swtpm.vendor import TpmVendor

NODES: Final = 1000
_BATCH: Final = 50
_NOW: Final = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class SteadyRound(NamedTuple):
    """What :func:`appraise` takes, for a node that was appraised before and has not changed."""

    evidence: Evidence
    challenge: Challenge
    node: KnownNode
    policy: Policy
    now: datetime


def over_p256_verify() -> Result:
    """Return appraisals of steady rounds over P-256 verifications."""
    with pinned(0):
        work = _appraising(itertools.cycle(_steady_rounds(NODES)))
        runs = ratios(lambda: rate(work), p256_verifies_per_second)
    return Result.of(
        runs, against=VERIFY, note=f"the pure function, {NODES} nodes in turn, each with logs and PCRs of its own"
    )


def over_keylime_checkquote() -> Result:
    """Return appraisals of one steady round over Keylime's check of the same quote."""
    with pinned(0):
        node, steady = _one_round()
        quote = SameQuote.of(steady.evidence, node.tpm.ak, node.tpm.read_pcrs(SELECTION))
        with Keylime(asdict(quote), "keylime_worker.py") as keylime:
            runs = ratios(lambda: rate(_appraising(itertools.repeat(steady))), keylime.per_second)
    note = "the same quote over and over; Keylime loads the key and hashes the PCR values each time"
    return Result.of(runs, against=CHECKQUOTE, note=note)


def _appraising(rounds: Iterator[SteadyRound]) -> Callable[[], int]:
    def work() -> int:
        for steady in itertools.islice(rounds, _BATCH):
            appraise(*steady)
        return _BATCH

    return work


def _one_round() -> tuple[BootedNode, SteadyRound]:
    with tempfile.TemporaryDirectory() as folder:
        node = booted_node(TpmVendor.create(Path(folder) / "vendor"), "node")
    return node, _steady(node, _policy())


def _steady_rounds(count: int) -> list[SteadyRound]:
    policy = _policy()
    with tempfile.TemporaryDirectory() as folder:
        vendor = TpmVendor.create(Path(folder) / "vendor")
        return [_steady(booted_node(vendor, str(number)), policy) for number in range(count)]


def _policy() -> Policy:
    return Policy(goldens=(golden(),), trust_seconds=120)


def _steady(node: BootedNode, policy: Policy) -> SteadyRound:
    tpm = node.tpm
    channel = Channel(
        trust_domain="bench.example", node_id=node_id_of(tpm.ek.name()), certificate_sha256=secrets.token_bytes(32)
    )
    attester, keys = Attester(node, channel), NodeKeys(ak_name=tpm.ak.name(), verifier=SignatureVerifier(tpm.ak))
    first = appraise(*_round(attester, channel, KnownNode(keys=keys, baseline=None), policy))
    steady = _round(attester, channel, KnownNode(keys=keys, baseline=first.baseline), policy)
    if not appraise(*steady).keeps_leases:
        raise AssertionError("a steady round is a good one")
    return steady


def _round(attester: Attester, channel: Channel, node: KnownNode, policy: Policy) -> SteadyRound:
    challenge = Challenge(
        nonce=Nonce(secrets.token_bytes(32)),
        purpose=Purpose.ATTEST,
        selection=SELECTION,
        issued=_NOW,
        answer_by=_NOW + timedelta(seconds=15),
        channel=channel,
        logs=known_logs(node, policy),
    )
    evidence = attester.evidence(challenge.nonce, challenge.logs, values=node.values_required)
    return SteadyRound(evidence, challenge, node, policy, _NOW + timedelta(seconds=1))
