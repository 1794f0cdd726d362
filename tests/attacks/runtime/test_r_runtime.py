"""Attacks by what ran, and by IMA logs that are not what PCR 10 was extended by: rows r01 to r04."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from nodeseal.golden.rules import FileDigest, RuntimeRules
from nodeseal.ima.log import ImaEntry, boot_aggregate_candidates
from nodeseal.ima.template import ImaFields
from nodeseal.v1.attestation_pb2 import NODE_STATE_UNTRUSTED, Challenge, Evidence
from support import ima
from support.boot_logs import values_of
from support.machine_tpm import MachineTpm, tpm_of
from support.machines import a_machine
from support.runtime import content, fields, ran
from support.suspects import (
    GOOD_LOG,
    LOG,
    SHA1,
    SHA256,
    Court,
    Suspect,
    Tell,
    Trial,
    a_court,
    a_trial,
    ids,
    places,
    runtime_golden,
    told,
    truth,
)

AGENT, PYTHON, LIBC = ("/usr/bin/agent", "/usr/bin/python3", "/usr/lib/libc.so")
RULES: Final = RuntimeRules(
    files={path: (FileDigest(digest=content("good")),) for path in (AGENT, PYTHON, LIBC)},
    excludes=("/var/log/",),
    violations=frozenset({"/var/log/journal"}),
)
HISTORY: Final = (ran(AGENT), ran(LIBC))
"""What every node here ran before the attack."""
EVIL: Final = ran("/usr/bin/miner", "evil")


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    with a_court(tmp_path_factory.mktemp("r"), runtime_golden(LOG, RULES, "files")) as made:
        yield made


async def stays_for_the_boot(trial: Trial) -> None:
    """See to it that no good round makes the last bad one good, and that a reboot does."""
    trial.node.leases = ()
    before = (await trial.answer(truth)).findings
    assert (await trial.answer(truth)).state == NODE_STATE_UNTRUSTED
    assert before
    trial.node.reboot_by(GOOD_LOG)
    await trial.believed()


# r01: what ran


def digested(path: str, algorithm: str, digest: bytes, digest_type: str = "") -> ImaEntry:
    """Return an entry of a file by any digest."""
    template = "ima-ngv2" if digest_type else "ima-ng"
    said = ImaFields(algorithm=algorithm, digest=digest, path=path.encode(), digest_type=digest_type)
    return ima.entry(template, said)


FILES: Final[dict[str, tuple[ImaEntry, str, str]]] = {
    "an unknown file": (ran("/usr/bin/miner"), "ima.unknown-file", "/usr/bin/miner"),
    "a changed file": (ran(AGENT, "evil"), "ima.changed-file", AGENT),
    "a known file's content under another path": (ran("/tmp/agent"), "ima.unknown-file", "/tmp/agent"),  # noqa: S108
    "one known file's content under another's path, were they not the same": (
        digested(PYTHON, "sha256", content("better")),
        "ima.changed-file",
        PYTHON,
    ),
    "a path that goes on": (ran(f"{AGENT}.old"), "ima.unknown-file", f"{AGENT}.old"),
    "a path in other letters": (ran("/usr/bin/Agent"), "ima.unknown-file", "/usr/bin/Agent"),
    "a path that means the same": (ran("/usr/bin/../bin/agent"), "ima.unknown-file", "/usr/bin/../bin/agent"),
    "a relative path": (ran("agent"), "ima.unknown-file", "agent"),
    "no path": (ran(""), "ima.unknown-file", "no path"),
    "a path beside an excluded folder": (ran("/var/logs/x"), "ima.unknown-file", "/var/logs/x"),
    "an excluded folder itself": (ran("/var/log"), "ima.unknown-file", "/var/log"),
    "a known path by a SHA-1 digest": (
        digested(AGENT, "sha1", SHA1.digest(b"good")),
        "ima.unknown-file",
        AGENT,
    ),
    "a known path by its descriptor's digest": (
        digested(AGENT, "sha256", content("good"), "verity"),
        "ima.unknown-file",
        AGENT,
    ),
    "a file that calls itself the boot aggregate": (
        ran("boot_aggregate", "evil"),
        "ima.log-carried",
        "boot_aggregate",
    ),
}


@pytest.mark.parametrize("what", FILES)
def test_r01_what_the_golden_does_not_list_is_found_by_its_path(court: Court, what: str) -> None:
    entry, finding, path = FILES[what]

    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            trial.node.measure(ran(PYTHON), ran("/var/log/anything"))
            await trial.believed()
            trial.node.measure(entry, ran(PYTHON))
            (found,) = await trial.refused(truth)
            assert places([found]) == [(finding, path)]
            assert found.event.startswith("IMA entry at byte ")
            await stays_for_the_boot(trial)

    asyncio.run(case())


def test_r01_every_bad_file_is_named_and_many_are_counted(court: Court) -> None:
    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            trial.node.measure(*(ran(f"/tmp/{number}") for number in range(250)))  # noqa: S108 - no files
            found = await trial.refused(truth)
            assert [each.id for each in found] == ["ima.unknown-file"] * 101
            assert {each.where.partition(",")[0] for each in found[:100]} == {f"/tmp/{number}" for number in range(100)}  # noqa: S108
            assert found[100].seen == "150 more findings"

    asyncio.run(case())


def test_r01_a_machine_with_a_real_tpm_is_refused_for_what_it_ran(court: Court) -> None:
    async def case(tpm: MachineTpm) -> None:
        async with a_trial(court, "files", tpm=tpm, measured=HISTORY) as trial:
            trial.node.measure(EVIL)
            assert places(await trial.refused(truth)) == [("ima.unknown-file", "/usr/bin/miner")]
            await stays_for_the_boot(trial)

    with a_machine(court.verifier.vendor) as machine, tpm_of(machine) as tpm:
        asyncio.run(case(tpm))


# r02: logs that are not what was extended

Change = Callable[[bytes, int], tuple[bytes, int]]
"""Makes of the true log, and of the offset up to which it is known, what is sent and its offset."""


def entries_sent(*entries: ImaEntry) -> Change:
    """Send these entries instead of what is new."""
    return lambda _, known: (ima.log(entries), known)


NEW: Final = (ran(PYTHON), EVIL, ran(AGENT), ran("/var/log/x"))
"""What ran since the last good round: something bad among the good."""
CLEAN: Final = (NEW[0], NEW[2], NEW[3])
LIES: Final[dict[str, Change]] = {
    "an entry is removed": entries_sent(*CLEAN),
    "an entry is replaced by a good one": entries_sent(NEW[0], ran(LIBC), NEW[2], NEW[3]),
    "its digest is another": entries_sent(NEW[0], ran("/usr/bin/miner"), NEW[2], NEW[3]),
    "its path is that of a good file": entries_sent(NEW[0], ran(AGENT, "evil"), NEW[2], NEW[3]),
    "its path is in an excluded folder": entries_sent(NEW[0], ran("/var/log/miner", "evil"), NEW[2], NEW[3]),
    "it is said to be of another PCR": entries_sent(NEW[0], EVIL._replace(pcr=11), NEW[2], NEW[3]),
    "it is said to be an excused violation": entries_sent(NEW[0], ima.violation(b"/var/log/journal"), NEW[2], NEW[3]),
    "its template digest says violation": entries_sent(
        NEW[0], EVIL._replace(template_digest=bytes(20)), NEW[2], NEW[3]
    ),
    "entries are in another order": entries_sent(NEW[2], NEW[1], NEW[0], NEW[3]),
    "the last entries are missing": entries_sent(NEW[0]),
    "all new entries are missing": entries_sent(),
    "an entry is there twice": entries_sent(NEW[0], *NEW),
    "a stretch that skips the first new entry": lambda log, known: (
        log[known + len(ima.log(NEW[:2])) :],
        known + len(ima.log(NEW[:2])),
    ),
    "a stretch that begins before what is known": lambda log, known: (
        log[known - len(ima.log(HISTORY[1:])) :],
        known - len(ima.log(HISTORY[1:])),
    ),
    "a whole log that is shorter than last time": lambda log, known: (log[: known - len(ima.log(HISTORY[1:]))], 0),
    "a whole log that ends where it did last time": lambda log, known: (log[:known], 0),
    "a whole log without what was bad": lambda log, known: (log[:known] + ima.log(CLEAN), 0),
    "a whole log of another past": lambda log, known: (
        log[: known - len(ima.log(HISTORY))] + ima.log((*reversed(HISTORY), *NEW)),
        0,
    ),
    "a whole log without its beginning": lambda log, known: (log[known - len(ima.log(HISTORY)) :], 0),
}


@pytest.mark.parametrize("how", LIES)
def test_r02_a_log_that_is_not_what_was_extended_is_refused(court: Court, how: str) -> None:
    def lie(node: Suspect, challenge: Challenge) -> list[Evidence]:
        log, offset = LIES[how](node.ima_bytes, challenge.ima_offset_known)
        return told(node, challenge, ima_log=log, offset=offset)

    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            trial.node.measure(*NEW)
            found = await trial.refused(lie)
            assert ids(found) == {"ima.replay"}
            assert found[0].where in {"sha256 PCR 10", "IMA log"}
            assert places(await trial.refused(truth)) == [("ima.unknown-file", "/usr/bin/miner")]

    asyncio.run(case())


@pytest.mark.parametrize("entries", [NEW[:1], (NEW[0], NEW[2]), ()], ids=["one entry", "two entries", "nothing new"])
def test_r02_a_log_that_is_sent_whole_again_though_nobody_asked_for_it_is_refused_unread(
    court: Court, entries: tuple[ImaEntry, ...]
) -> None:
    """No honest agent does so, and to judge a long one in every round would cost the verifier seconds."""

    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            trial.node.measure(*entries)
            found = await trial.refused(lambda node, challenge: told(node, challenge, ima_log=node.ima_bytes))
            assert places(found) == [("ima.replay", "IMA log")]
            trial.node.leases = ()
            await trial.believed()

    asyncio.run(case())


def test_r02_silence_about_the_log_does_not_hide_that_the_pcr_moved(court: Court) -> None:
    """Neither in this boot, nor in the first round of one, nor round after round."""

    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            trial.node.measure(EVIL)
            for _ in range(3):
                assert ids(await trial.refused(told)) == {"ima.replay"}
            trial.node.reboot_by(GOOD_LOG)
            assert ids(await trial.refused(told)) == {"ima.log-missing"}

    asyncio.run(case())


def test_r02_something_that_the_kernel_did_not_measure_moves_the_pcr_for_good(court: Court) -> None:
    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            trial.node.tpm.extend(10, {SHA256: SHA256.digest(b"by hand")})
            for _ in range(2):
                assert places(await trial.refused(truth)) == [("ima.replay", "sha256 PCR 10")]

    asyncio.run(case())


def aggregate(values: dict[int, bytes]) -> ImaEntry:
    digest = boot_aggregate_candidates(values, SHA256)[0]
    return ima.entry("ima-ng", ImaFields(algorithm="sha256", digest=digest, path=b"boot_aggregate"))


BEGINNINGS: Final = {
    "of another boot": aggregate({**values_of(LOG), 4: bytes(32)}),
    "that is a file": ran(AGENT),
    "that is a violation": ima.violation(b"boot_aggregate"),
    "by another name": ima.entry("ima-ng", fields("boot_aggregate2")),
    "in a template of no file": ima.entry("d-ng|sig", fields("")),
}


@pytest.mark.parametrize("how", BEGINNINGS)
def test_r02_a_log_begins_with_the_aggregate_of_the_quoted_boot(court: Court, how: str) -> None:
    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            trial.node.reboot_by(GOOD_LOG, ima_log=ima.log((BEGINNINGS[how],)))
            trial.node.measure(*HISTORY)
            found = await trial.refused(truth)
            assert ("ima.boot-aggregate", "first entry of the IMA log") in places(found)
            assert ids(await trial.refused(truth)) == ids(found)  # it stays for the boot
            trial.node.reboot_by(GOOD_LOG)
            await trial.believed()

    asyncio.run(case())


# r03: files that were written while they were measured


VIOLATIONS: Final = {
    "of an unknown file": b"/usr/bin/miner",
    "of a known file": AGENT.encode(),
    "of a file in an excluded folder": b"/var/log/messages",
    "of a file beside an excused one": b"/var/log/journal2",
    "of the boot aggregate": b"boot_aggregate",
}


@pytest.mark.parametrize("what", VIOLATIONS)
def test_r03_a_violation_is_never_skipped(court: Court, what: str) -> None:
    path = VIOLATIONS[what]

    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            trial.node.measure(ima.violation(b"/var/log/journal"))  # the golden excuses this one
            await trial.believed()
            trial.node.measure(ima.violation(path))
            assert places(await trial.refused(truth)) == [("ima.violation", path.decode())]
            await stays_for_the_boot(trial)

    asyncio.run(case())


def test_r03_a_violation_that_does_not_even_parse_is_one(court: Court) -> None:
    odd = ima.violation(AGENT.encode())._replace(template="d-ng|sig", data=b"junk")

    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            trial.node.measure(odd)
            assert places(await trial.refused(truth)) == [("ima.violation", "no path")]

    asyncio.run(case())


def test_r03_a_violation_cannot_be_told_as_a_measurement(court: Court) -> None:
    seen = ima.violation(b"/usr/bin/miner")
    template_digest = ima.entry("ima-ng", fields(AGENT)).template_digest

    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            trial.node.measure(seen)
            lies = seen._replace(template_digest=template_digest), ran(AGENT), ima.violation(b"/var/log/journal")
            for lie in lies[:2]:
                tell = telling_new(ima.log((lie,)))
                assert places(await trial.refused(tell)) == [("ima.replay", "sha256 PCR 10")]

    asyncio.run(case())


def telling_new(log: bytes) -> Tell:
    """Return how a node answers that has these new entries."""
    return lambda node, challenge: told(node, challenge, ima_log=log, offset=challenge.ima_offset_known)


# r04: the log is read after the quote


def ahead(*entries: ImaEntry, tail: bytes = b"") -> Tell:
    """Return how a node answers that measures while it answers: the log has more than the quote."""

    def tell(node: Suspect, challenge: Challenge) -> list[Evidence]:
        quoted = node.evidence(challenge)
        node.measure(*entries)
        log = node.ima_bytes[challenge.ima_offset_known :] + tail
        return [*told(node, challenge, ima_log=log, offset=challenge.ima_offset_known)[:-1], quoted]

    return tell


def test_r04_a_log_that_runs_ahead_is_judged_up_to_the_quote_and_the_rest_in_the_next_round(court: Court) -> None:
    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            proved = len(trial.node.ima_bytes)
            await trial.believed(ahead(ran(PYTHON), EVIL))
            challenge = await trial.stream.challenge()
            assert challenge.ima_offset_known == proved
            for message in trial.node.answer(challenge):
                await trial.stream.send(message)
            verdict = await trial.stream.verdict()
            assert places(verdict.findings) == [("ima.unknown-file", "/usr/bin/miner")]
            assert verdict.state == NODE_STATE_UNTRUSTED
            await stays_for_the_boot(trial)

    asyncio.run(case())


def test_r04_running_ahead_for_ever_hides_nothing_that_is_quoted(court: Court) -> None:
    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            for _ in range(3):
                await trial.believed(ahead(ran(PYTHON)))
            await trial.believed(ahead(EVIL))
            found = await trial.refused(ahead(ran(PYTHON)))
            assert places(found) == [("ima.unknown-file", "/usr/bin/miner")]

    asyncio.run(case())


def test_r04_what_runs_ahead_must_be_whole_entries(court: Court) -> None:
    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            assert ids(await trial.refused(ahead(ran(PYTHON), tail=b"\n\0\0\0"))) == {"ima.log-malformed"}
            trial.node.leases = ()
            await trial.believed()

    asyncio.run(case())


def test_r04_entries_that_never_reach_the_pcr_are_not_known(court: Court) -> None:
    """A log may claim that more ran than did; that neither helps nor sticks."""

    async def case() -> None:
        async with a_trial(court, "files", measured=HISTORY) as trial:
            await trial.believed(telling_new(ima.log((ran(PYTHON), EVIL))))
            await trial.believed()

    asyncio.run(case())
