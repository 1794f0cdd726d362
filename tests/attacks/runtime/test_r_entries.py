"""Attacks by how IMA entries are written, by signatures, and by what a verifier remembers: rows r05 to r08."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from nodeseal.crypto.ima_signatures import ImaKey
from nodeseal.golden.document import dump_golden
from nodeseal.golden.paths import path_text
from nodeseal.golden.rules import FileDigest, RuntimeRules, SigningKey, Window
from nodeseal.ima.hash import KERNEL_HASHES_BY_NAME
from nodeseal.ima.log import ImaEntry, measured_entry
from nodeseal.ima.template import ImaFields, encode_template
from nodeseal.v1.attestation_pb2 import Challenge, Evidence
from support import ima
from support.admin import activate
from support.damage import flipped
from support.runtime import content, ran
from support.suspects import GOOD_LOG, LOG, Court, Suspect, a_court, a_trial, ids, places, runtime_golden, told, truth

AGENT: Final = "/usr/bin/agent"
PATHS: Final = {
    "a space": b"/opt/my agent/run",
    "two spaces, as fields have in the text log": b"/opt/agent  sha256:00",
    "a newline": b"/opt/line\n10 feed",
    "a tab": b"/opt/a\tb",
    "a percent sign": b"/opt/100%",
    "an escape that is none": b"/opt/%2Fetc",
    "an accent": "/usr/share/ca-certificates/F\u0151.crt".encode(),
    "bytes that are no text": b"/usr/share/F\xc5.crt\xff",
    "a terminal's escape": b"/opt/\x1b[2Jagent",
    "4000 bytes": b"/opt/" + b"a" * 3995,
}
LISTED: Final = (AGENT.encode(), *PATHS.values())
BUFFER: Final = b"root=LABEL=root ro quiet"
RULES: Final = RuntimeRules(
    files={path_text(path): (FileDigest(digest=content("good")),) for path in LISTED},
    buffers={"kexec-cmdline": frozenset({content(BUFFER.decode())})},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A key that signs files, and when a golden accepts it."""

    key: ec.EllipticCurvePrivateKey
    valid: Window

    @property
    def spki(self) -> bytes:
        encoding = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        return self.key.public_key().public_bytes(*encoding)

    def rule(self, name: str) -> SigningKey:
        return SigningKey(spki=self.spki, name=name, valid=self.valid)

    def sign(self, digest: bytes) -> bytes:
        """Return ``security.ima`` as evmctl writes it: version 2, SHA-256."""
        signature = self.key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        algorithm = KERNEL_HASHES_BY_NAME["sha256"].number
        return struct.pack(">BBB4sH", 3, 2, algorithm, ImaKey(self.spki).key_id, len(signature)) + signature


def a_signer(valid: Window) -> Signer:
    return Signer(key=ec.generate_private_key(ec.SECP256R1()), valid=valid)


NOW: Final = datetime.now(UTC).replace(microsecond=0)
SIGNERS: Final = {
    "current": a_signer(Window(start=NOW - timedelta(days=1), end=NOW + timedelta(days=1))),
    "expired": a_signer(Window(end=NOW - timedelta(days=1))),
    "early": a_signer(Window(start=NOW + timedelta(days=1))),
}
STRANGER: Final = a_signer(Window())
SIGNED_RULES: Final = RuntimeRules(
    files={AGENT: (FileDigest(digest=content("good")),)},
    keys=tuple(signer.rule(name) for name, signer in SIGNERS.items()),
)


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    goldens = runtime_golden(LOG, RULES, "files"), runtime_golden(LOG, SIGNED_RULES, "signed")
    with a_court(tmp_path_factory.mktemp("r"), *goldens) as made:
        yield made


# r05: how entries are written


def file_entry(path: bytes, text: str = "good", template: str = "ima-ng") -> ImaEntry:
    return ima.entry(template, ImaFields(algorithm="sha256", digest=content(text), path=path))


@pytest.mark.parametrize("what", PATHS)
def test_r05_a_path_is_its_bytes_and_shown_so_that_none_can_be_mistaken(court: Court, what: str) -> None:
    path = PATHS[what]

    async def case() -> None:
        async with a_trial(court, "files") as trial:
            trial.node.measure(file_entry(path))
            await trial.believed()
            trial.node.measure(file_entry(path, "evil"))
            (found,) = await trial.refused(truth)
            assert found.id == "ima.changed-file"
            assert found.where.startswith(path_text(path)[:200])
            assert found.where.isascii()
            assert found.where.isprintable()

    asyncio.run(case())


SPLIT: Final = {
    "up to its space": b"/opt/my",
    "after its space": b"agent/run",
    "with an underscore for its space": b"/opt/my_agent/run",
    "up to its newline": b"/opt/line",
    "after its newline": b"10 feed",
    "as its spelling spells it": b"/opt/100%25",
    "as its escape reads": b"/opt//etc",
    "with other bytes that are no text": b"/usr/share/F\xc6.crt\xff",
    "with bytes left out that are no text": b"/usr/share/F.crt",
    "composed of other letters": "/usr/share/ca-certificates/Fo\u030b.crt".encode(),
    "and a listed one behind a newline": b"/tmp/x\n/usr/bin/agent",
}


@pytest.mark.parametrize("how", SPLIT)
def test_r05_a_path_that_only_reads_like_a_listed_one_is_unknown(court: Court, how: str) -> None:
    async def case() -> None:
        async with a_trial(court, "files") as trial:
            trial.node.measure(file_entry(SPLIT[how]))
            assert places(await trial.refused(truth)) == [("ima.unknown-file", path_text(SPLIT[how]))]

    asyncio.run(case())


def modsig(text: str) -> ImaEntry:
    others = (("d-modsig", b"sha256:\0" + content(text)), ("modsig", b"\x30\x80"))
    return ima.entry(
        "ima-modsig", ImaFields(algorithm="sha256", digest=content(text), path=AGENT.encode(), others=others)
    )


def buffered(name: bytes, buffer: bytes = BUFFER, digest: bytes = b"") -> ImaEntry:
    said = ImaFields(algorithm="sha256", digest=digest or content(buffer.decode()), path=name, buffer=buffer)
    return ima.entry("ima-buf", said)


def named(template: str, data_of: str, text: str = "good", path: bytes = AGENT.encode()) -> ImaEntry:
    """Return an entry whose template's name is not that of its data: no digest covers the name."""
    digest_type = "ima" if data_of.endswith("v2") else ""
    said = ImaFields(algorithm="sha256", digest=content(text), path=path, digest_type=digest_type)
    return measured_entry(template, encode_template(data_of, said))


READ: Final = {
    "ima-ng": file_entry(AGENT.encode()),
    "ima-sig, without a signature": file_entry(AGENT.encode(), template="ima-sig"),
    "ima-ngv2": named("ima-ngv2", "ima-ngv2"),
    "ima-sigv2": named("ima-sigv2", "ima-sigv2"),
    "ima-modsig": modsig("good"),
    "ima-buf, a listed buffer": buffered(b"kexec-cmdline"),
    "ima-ng, spelled out": named("d-ng|n-ng", "d-ng|n-ng"),
}


@pytest.mark.parametrize("what", READ)
def test_r05_every_template_of_files_is_read(court: Court, what: str) -> None:
    async def case() -> None:
        async with a_trial(court, "files") as trial:
            trial.node.measure(READ[what])
            await trial.believed()

    asyncio.run(case())


EVIL: Final = b"/usr/bin/miner"
REFUSED: Final[dict[str, tuple[ImaEntry, str, str]]] = {
    "ima-modsig of a changed module": (modsig("evil"), "ima.changed-file", AGENT),
    "ima, which knows SHA-1 only": (
        ima.entry("ima", replace(ima.LEGACY, path=AGENT.encode())),
        "ima.template",
        "no path",
    ),
    "a template that nobody knows": (named("ima-next", "ima-ng"), "ima.template", "no path"),
    "a template without a name": (
        ima.entry("d-ng|sig", ImaFields(algorithm="sha256", digest=content("good"))),
        "ima.template",
        "no path",
    ),
    "name and digest the other way round": (
        ima.entry("n-ng|d-ng", ImaFields(algorithm="sha256", digest=content("evil"), path=EVIL)),
        "ima.template",
        "no path",
    ),
    "an evil file under the name of another template": (
        named("ima-ngv2", "ima-ng", "evil", EVIL),
        "ima.template",
        "no path",
    ),
    "an evil file under the name of no template": (
        named("buf|d-ng|n-ng", "ima-ng", "evil", EVIL),
        "ima.template",
        "no path",
    ),
    "an evil file as a buffer": (buffered(EVIL, b"evil"), "ima.buffer", EVIL.decode()),
    "an evil file as an empty buffer": (
        measured_entry(
            "ima-buf", encode_template("ima-sig", ImaFields(algorithm="sha256", digest=content("evil"), path=EVIL))
        ),
        "ima.buffer",
        EVIL.decode(),
    ),
    "a buffer that is not listed": (buffered(b"kexec-cmdline", b"init=/bin/sh"), "ima.buffer", "kexec-cmdline"),
    "a listed buffer by another name": (buffered(b"keyring"), "ima.buffer", "keyring"),
    "another buffer under a listed digest": (
        buffered(b"kexec-cmdline", b"init=/bin/sh", content(BUFFER.decode())),
        "ima.buffer",
        "kexec-cmdline",
    ),
    "a path with a NUL in it": (
        measured_entry(
            "ima-ng",
            encode_template(
                "ima-ng", ImaFields(algorithm="sha256", digest=content("good"), path=b"/usr/bin/agentX/x")
            ).replace(b"X", b"\0"),
        ),
        "ima.template",
        "no path",
    ),
    "a field too many": (
        measured_entry(
            "ima-ng",
            encode_template("ima-sig", ImaFields(algorithm="sha256", digest=content("good"), path=AGENT.encode())),
        ),
        "ima.template",
        "no path",
    ),
    "a digest that is too short": (
        measured_entry(
            "ima-ng",
            struct.pack("<I", 28)
            + b"sha256:\0"
            + content("good")[:20]
            + struct.pack("<I", 15)
            + AGENT.encode()
            + b"\0",
        ),
        "ima.template",
        "no path",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_r05_what_is_not_a_listed_file_is_refused_whatever_its_template_says(court: Court, what: str) -> None:
    entry, finding, path = REFUSED[what]

    async def case() -> None:
        async with a_trial(court, "files") as trial:
            trial.node.measure(entry)
            assert places(await trial.refused(truth)) == [(finding, path)]
            trial.node.reboot_by(GOOD_LOG)
            await trial.believed()

    asyncio.run(case())


MALFORMED: Final = {
    "an entry of 4 GB": struct.pack("<I20sI6sI", 10, bytes(20), 6, b"ima-ng", 0xFFFFFFFF),
    "a template's name of 4 GB": struct.pack("<I20sI", 10, bytes(20), 0xFFFFFFFF) + bytes(64),
    "a PCR that cannot be": struct.pack("<I20sI6sI", 99, bytes(20), 6, b"ima-ng", 0),
    "big-endian": struct.pack(">I20sI6sI", 10, bytes(20), 6, b"ima-ng", 0),
    "a template's name that is none": struct.pack("<I20sI6sI", 10, bytes(20), 6, b"ima\xff\0\n", 0),
    "an entry that is cut off": ima.log((ran(AGENT),))[:-1],
}


@pytest.mark.parametrize("what", MALFORMED)
def test_r05_entries_that_do_not_parse_are_refused_by_their_place(court: Court, what: str) -> None:
    async def case() -> None:
        async with a_trial(court, "files") as trial:
            trial.node.measure(ran(AGENT))
            (found,) = await trial.refused(
                lambda node, asked: told(node, asked, ima_log=MALFORMED[what], offset=asked.ima_offset_known)
            )
            assert found.id == "ima.log-malformed"
            assert "IMA" in found.seen
            trial.node.leases = ()
            await trial.believed()

    asyncio.run(case())


# r06: who signed a file


def signed(signature: bytes, text: str = "signed", path: str = "/opt/signed") -> ImaEntry:
    said = ImaFields(algorithm="sha256", digest=content(text), path=path.encode(), signature=signature)
    return ima.entry("ima-sig", said)


GOOD_SIGNATURE: Final = SIGNERS["current"].sign(content("signed"))
SIGNATURES: Final[dict[str, tuple[ImaEntry, str]]] = {
    "by a key that is not accepted": (signed(STRANGER.sign(content("signed"))), "ima.signature"),
    "by a key that has expired": (signed(SIGNERS["expired"].sign(content("signed"))), "ima.signature"),
    "by a key that is not valid yet": (signed(SIGNERS["early"].sign(content("signed"))), "ima.signature"),
    "over another content": (signed(SIGNERS["current"].sign(content("another"))), "ima.signature"),
    "by a stranger who claims an accepted key's id": (
        signed(GOOD_SIGNATURE[:7] + STRANGER.sign(content("signed"))[7:]),
        "ima.signature",
    ),
    "with a bit flipped": (signed(flipped(GOOD_SIGNATURE)), "ima.signature"),
    "that is cut off": (signed(GOOD_SIGNATURE[:-1]), "ima.signature"),
    "of a length that it has not": (signed(GOOD_SIGNATURE[:7] + b"\xff\xff" + GOOD_SIGNATURE[9:]), "ima.signature"),
    "that is a hash": (signed(b"\4\4" + content("signed")), "ima.signature"),
    "over metadata": (signed(b"\5" + GOOD_SIGNATURE[1:]), "ima.signature"),
    "over an fs-verity descriptor": (signed(b"\6\3" + GOOD_SIGNATURE[2:]), "ima.signature"),
    "that is malformed, of a listed file": (signed(b"\3\2\4junk", "good", AGENT), "ima.signature"),
    "that is not there": (signed(b""), "ima.unknown-file"),
    "by an accepted key in a template that has none": (ran("/opt/signed", "signed"), "ima.unknown-file"),
}


@pytest.mark.parametrize("what", SIGNATURES)
def test_r06_a_signature_counts_only_by_an_accepted_key_in_its_time(court: Court, what: str) -> None:
    entry, finding = SIGNATURES[what]

    async def case() -> None:
        async with a_trial(court, "signed") as trial:
            trial.node.measure(signed(GOOD_SIGNATURE), signed(GOOD_SIGNATURE, path="/opt/any/path"))
            await trial.believed()
            trial.node.measure(entry)
            (found,) = await trial.refused(truth)
            assert found.id == finding
            assert found.where.startswith("/usr/bin/agent" if "listed" in what else "/opt/signed")

    asyncio.run(case())


# r07, r08: what a verifier remembers of one boot is no use in another


def expiring(until: datetime) -> RuntimeRules:
    window = Window(end=until)
    return RuntimeRules(files={AGENT: (FileDigest(digest=content("good"), valid=window),)})


def test_r07_a_mark_of_an_earlier_boot_excuses_nothing_after_a_restart_of_the_verifier(tmp_path: Path) -> None:
    """What was measured in time before the restart stays so; the same file run in another boot was run now."""

    async def in_time(court: Court, until: datetime) -> Suspect | None:
        async with court.verifier.person() as admin:
            await activate(admin, dump_golden(runtime_golden(LOG, expiring(until), "files")))
        try:
            async with a_trial(court, "files", measured=(ran(AGENT),)) as trial:
                return trial.node
        except AssertionError:
            assert datetime.now(UTC) > until
            return None

    async def before(court: Court) -> tuple[Suspect, datetime]:
        for seconds in (5, 20, 80):  # more than it takes, but on a machine that is busy with other work
            until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=seconds)
            if node := await in_time(court, until):
                return node, until
        raise AssertionError("not measured in time")

    async def after(node: Suspect, until: datetime) -> None:
        await asyncio.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()) + 1)
        async with node.attesting() as stream:
            assert places((await stream.round()).findings) == []
        node.reboot_by(GOOD_LOG)
        node.measure(ran(AGENT))
        async with node.attesting() as stream:
            assert places((await stream.round()).findings) == [("ima.expired-file", AGENT)]

    with a_court(tmp_path) as court:
        node, until = asyncio.run(before(court))
        assert court.verifier.stop() == 0
        court.verifier.start()
        asyncio.run(after(node, until))


def test_r07_what_was_found_is_found_again_by_a_verifier_that_starts_anew(tmp_path: Path) -> None:
    """Verdicts are not kept: the whole log is asked for, and without what was found it replays no more than before."""

    async def before(court: Court) -> Suspect:
        async with a_trial(court, "files", measured=(ran(AGENT),)) as trial:
            trial.node.measure(ran("/usr/bin/miner"), ran(AGENT))
            assert ids(await trial.refused(truth)) == {"ima.unknown-file"}
            return trial.node

    async def after(node: Suspect) -> None:
        known = len(node.ima_bytes) - len(ima.log((ran("/usr/bin/miner"), ran(AGENT))))
        lies = node.ima_bytes[:known], node.ima_bytes[:known] + ima.log((ran(AGENT),)), b""
        async with node.attesting() as stream:
            for lie in lies:
                challenge = await stream.challenge()
                assert challenge.ima_offset_known == 0
                for message in told(node, challenge, ima_log=lie):
                    await stream.send(message)
                found = (await stream.verdict()).findings
                assert ids(found) <= {"ima.replay", "ima.log-missing"}
                assert found
            assert places((await stream.round()).findings) == [("ima.unknown-file", "/usr/bin/miner")]

    with a_court(tmp_path, runtime_golden(LOG, RULES, "files")) as court:
        node = asyncio.run(before(court))
        court.verifier.kill()
        court.verifier.start()
        asyncio.run(after(node))


def test_r08_the_log_of_an_earlier_boot_is_refused(court: Court) -> None:
    """Good entries all of them, and the same boot chain: but this boot's PCR 10 is not theirs."""

    async def case() -> None:
        async with a_trial(court, "files", measured=(ran(AGENT),)) as trial:
            earlier = trial.node.ima_bytes
            trial.node.reboot_by(GOOD_LOG)
            trial.node.measure(ran("/usr/bin/miner"))
            found = await trial.refused(lambda node, challenge: told(node, challenge, ima_log=earlier))
            assert places(found) == [("ima.replay", "sha256 PCR 10")]
            assert places(await trial.refused(truth)) == [("ima.unknown-file", "/usr/bin/miner")]

    asyncio.run(case())


def test_r08_the_log_of_another_machine_is_refused(court: Court) -> None:
    async def case() -> None:
        async with a_trial(court, "files", measured=(ran(AGENT),)) as other, a_trial(court, "files") as trial:
            trial.node.measure(ran("/usr/bin/miner"))
            theirs = other.node.ima_bytes

            def borrowed(node: Suspect, asked: Challenge) -> list[Evidence]:
                known = asked.ima_offset_known
                return told(node, asked, ima_log=theirs[known:], offset=known)

            assert places(await trial.refused(borrowed)) == [("ima.replay", "sha256 PCR 10")]

    asyncio.run(case())
