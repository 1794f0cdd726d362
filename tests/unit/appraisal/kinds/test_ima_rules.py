"""Single IMA entries against a golden's runtime rules: each refusal changes one fact of an entry that is allowed (r01,
r03, r05, r06).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed

from nodeseal.appraisal.kinds.ima_log import compile_runtime
from nodeseal.appraisal.kinds.ima_rules import Span
from nodeseal.crypto.ima_signatures import ImaKey
from nodeseal.errors import MalformedInput
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.rules import FileDigest, RuntimeRules, SigningKey, Window
from nodeseal.ima.hash import KERNEL_HASHES_BY_NAME
from nodeseal.ima.log import ImaEntry
from nodeseal.ima.signature import ImaSignature, SignatureKind
from nodeseal.ima.template import ImaFields
from nodeseal.tpm.algorithms import HashAlg
from support import ima
from support.ima import encode_ima_signature
from support.runtime import AGGREGATE, SHA256, Scene, at, content, fields, golden_of, ids, ran

NOW = Span(at(0), at(0))
SH = fields("/usr/bin/sh")
BUFFER = ImaFields(algorithm="sha256", digest=content("a key"), path=b".ima", buffer=b"a key")
VERITY = ImaFields(algorithm="sha256", digest=content("good"), path=b"/usr/bin/sh", digest_type="verity")


@dataclass(frozen=True)
class Keeper:
    """A key that signs files."""

    private: ec.EllipticCurvePrivateKey

    @property
    def spki(self) -> bytes:
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self.private.public_key().public_bytes(serialization.Encoding.DER, form)

    def rule(self, **window: int) -> SigningKey:
        ends = {name: at(minutes) for name, minutes in window.items()}
        return SigningKey(spki=self.spki, name="packages", valid=Window(**ends))

    def sign(self, unsigned: ImaFields, kind: SignatureKind = SignatureKind.FILE) -> ImaFields:
        signed = self.private.sign(unsigned.digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        signature = ImaSignature(
            kind=kind, hash_alg=KERNEL_HASHES_BY_NAME["sha256"], key_id=ImaKey(self.spki).key_id, signature=signed
        )
        return replace(unsigned, signature=encode_ima_signature(signature))


KEEPER, STRANGER = (Keeper(ec.generate_private_key(ec.SECP256R1())) for _ in range(2))


def rules(**changed: object) -> RuntimeRules:
    """Return rules that know one file, one excluded file and folder, and one file that may be in violation."""
    known: dict[str, object] = {
        "files": {"/usr/bin/sh": (FileDigest(digest=content("good")),)},
        "excludes": ("/var/cache/", "/etc/mtab"),
        "violations": frozenset({"/var/log/wtmp"}),
    }
    return RuntimeRules(**{**known, **changed})  # type: ignore[arg-type]  # rules by name


RULES = rules()
SIGNED = rules(keys=(KEEPER.rule(),))
BUFFERS = rules(buffers={".ima": frozenset({content("a key")})})


def judged(entry: ImaEntry, known: RuntimeRules = RULES, span: Span = NOW) -> Finding | None:
    return compile_runtime(golden_of(known)).judge(entry, span, frozenset())


def named(template: str, said: ImaFields) -> ImaEntry:
    return ima.entry(template, said)


def signed(path: str, text: str = "unlisted") -> ImaEntry:
    return named("ima-sig", KEEPER.sign(fields(path, text)))


ALLOWED = {
    "a listed file": (named("ima-ng", SH), RULES),
    "a listed file, template with a signature that is empty": (named("ima-sig", SH), RULES),
    "a listed file, newer template": (named("ima-ngv2", replace(SH, digest_type="ima")), RULES),
    "a listed file, newer template with a signature": (named("ima-sigv2", replace(SH, digest_type="ima")), RULES),
    "a listed module with its appended signature": (named("ima-modsig", SH), RULES),
    "a listed file, template spelled out": (named("d-ng|n-ng|sig", SH), RULES),
    "a listed file with its metadata": (named("evm-sig", SH), RULES),
    "a listed file signed by a stranger": (named("ima-sig", STRANGER.sign(SH)), SIGNED),
    "an excluded file": (ran("/etc/mtab", "any"), RULES),
    "a file below an excluded folder": (ran("/var/cache/a/b", "any"), RULES),
    "an excluded file with a weak digest": (named("ima-ng", replace(ima.LEGACY, path=b"/etc/mtab")), RULES),
    "a signed file": (signed("/usr/bin/new"), SIGNED),
    "a signed file, newer template": (
        named("ima-sigv2", KEEPER.sign(replace(fields("/usr/bin/new", "x"), digest_type="ima"))),
        SIGNED,
    ),
    "a signed version of a listed file": (signed("/usr/bin/sh"), SIGNED),
    "a listed violation": (ima.violation(b"/var/log/wtmp"), RULES),
    "any buffer, where buffers are not listed": (named("ima-buf", BUFFER), RULES),
    "a listed buffer": (named("ima-buf", BUFFER), BUFFERS),
    "a path that is no text": (
        named("ima-ng", replace(SH, path=b"/\xff\n %")),
        rules(files={"/%FF%0A %25": (FileDigest(digest=SH.digest),)}),
    ),
}


@pytest.mark.parametrize(("entry", "known"), ALLOWED.values(), ids=ALLOWED)
def test_what_rules_allow_is_found_nothing_about(entry: ImaEntry, known: RuntimeRules) -> None:
    assert judged(entry, known) is None


UNKNOWN, CHANGED = FindingId.IMA_UNKNOWN_FILE, FindingId.IMA_CHANGED_FILE
SIGNATURE, VIOLATION = FindingId.IMA_SIGNATURE, FindingId.IMA_VIOLATION
BUFFER_ID, TEMPLATE = FindingId.IMA_BUFFER, FindingId.IMA_TEMPLATE
CUT = replace(SH, signature=KEEPER.sign(SH).signature[:-1])
REFUSED = {
    "r01 a file that is not listed": (ran("/usr/bin/evil"), RULES, UNKNOWN),
    "r01 a listed file with another content": (ran("/usr/bin/sh", "evil"), RULES, CHANGED),
    "r01 a listed content under another path": (ran("/usr/bin/zsh"), RULES, UNKNOWN),
    "r01 a listed path with something behind it": (ran("/usr/bin/sh2"), RULES, UNKNOWN),
    "a listed digest that says it is of another algorithm": (
        named("ima-ng", replace(SH, algorithm="sha3-256")),
        RULES,
        UNKNOWN,
    ),
    "a SHA-1 digest of a listed file": (
        named("ima-ng", replace(SH, algorithm="sha1", digest=HashAlg.SHA1.digest(b"good"))),
        RULES,
        UNKNOWN,
    ),
    "a listed digest that is of an fs-verity descriptor": (named("ima-ngv2", VERITY), RULES, UNKNOWN),
    "a file beside an excluded file": (ran("/etc/mtab2"), RULES, UNKNOWN),
    "a file beside an excluded folder": (ran("/var/cachet"), RULES, UNKNOWN),
    "the excluded folder's own name": (ran("/var/cache"), RULES, UNKNOWN),
    "r03 a violation": (ima.violation(b"/usr/bin/sh"), RULES, VIOLATION),
    "r03 a violation of an excluded file": (ima.violation(b"/etc/mtab"), RULES, VIOLATION),
    "r03 a violation that does not even read": (
        ImaEntry(10, bytes(20), "ima-ng", b"\0"),
        RULES,
        VIOLATION,
    ),
    "r03 a file that may be in violation but is none": (ran("/var/log/wtmp"), RULES, UNKNOWN),
    "r05 an unknown template": (ImaEntry(10, b"1" * 20, "ima-new", SH.path), RULES, TEMPLATE),
    "r05 a template without a digest": (named("n-ng|sig", SH), RULES, TEMPLATE),
    "r05 a template that begins with the name": (named("n-ng|d-ng", SH), RULES, TEMPLATE),
    "r05 the legacy template": (named("ima", ima.LEGACY), RULES, TEMPLATE),
    "r05 data that does not fit its template": (
        named("ima-ng", SH)._replace(template="ima-sig"),
        RULES,
        TEMPLATE,
    ),
    "r06 a file signed by a stranger": (
        named("ima-sig", STRANGER.sign(fields("/usr/bin/new"))),
        SIGNED,
        SIGNATURE,
    ),
    "r06 a signature of another content": (
        named("ima-sig", replace(fields("/usr/bin/new"), signature=KEEPER.sign(fields("/usr/bin/new", "x")).signature)),
        SIGNED,
        SIGNATURE,
    ),
    "r06 a signed file where no key is accepted": (signed("/usr/bin/new"), RULES, UNKNOWN),
    "r06 a malformed signature of a listed file": (named("ima-sig", CUT), RULES, SIGNATURE),
    "r06 a malformed signature of an excluded file": (
        named("ima-sig", replace(CUT, path=b"/etc/mtab")),
        RULES,
        SIGNATURE,
    ),
    "r06 a signature over metadata only": (
        named("ima-sig", KEEPER.sign(fields("/usr/bin/new"), SignatureKind.EVM_PORTABLE)),
        SIGNED,
        SIGNATURE,
    ),
    "an unsigned file where a key is accepted": (named("ima-sig", fields("/usr/bin/new")), SIGNED, UNKNOWN),
    "a listed file changed and signed by a stranger": (
        named("ima-sig", STRANGER.sign(fields("/usr/bin/sh", "evil"))),
        SIGNED,
        CHANGED,
    ),
    "a module that only its appended signature speaks for": (
        named("ima-modsig", replace(fields("/lib/x.ko"), others=(("modsig", b"\x30\x80"),))),
        SIGNED,
        UNKNOWN,
    ),
    "a buffer that is not listed": (
        named("ima-buf", replace(BUFFER, digest=content("b"), buffer=b"b")),
        BUFFERS,
        BUFFER_ID,
    ),
    "a listed buffer under another name": (named("ima-buf", replace(BUFFER, path=b".evm")), BUFFERS, BUFFER_ID),
    "a buffer that is not what its digest says": (named("ima-buf", replace(BUFFER, buffer=b"b")), RULES, BUFFER_ID),
    "a buffer whose digest is smaller": (named("ima-buf", replace(BUFFER, digest=bytes(32))), RULES, BUFFER_ID),
    "a buffer whose digest is greater": (named("ima-buf", replace(BUFFER, digest=b"\xff" * 32)), RULES, BUFFER_ID),
    "a buffer with a weak digest": (
        named("ima-buf", replace(BUFFER, algorithm="sha1", digest=HashAlg.SHA1.digest(b"a key"))),
        RULES,
        BUFFER_ID,
    ),
    "a signed file passed off as a buffer": (
        signed("/usr/bin/evil")._replace(template="ima-buf"),
        RULES,
        BUFFER_ID,
    ),
    "a buffer with the name of a file": (named("ima-buf", replace(BUFFER, path=b"/usr/bin/sh")), RULES, BUFFER_ID),
    "a buffer without a name": (named("ima-buf", replace(BUFFER, path=b"")), RULES, BUFFER_ID),
    "a buffer passed off as a signed file": (named("ima-buf", BUFFER)._replace(template="ima-sig"), RULES, SIGNATURE),
}


@pytest.mark.parametrize(("entry", "known", "found"), REFUSED.values(), ids=REFUSED)
def test_what_rules_do_not_allow_is_found(entry: ImaEntry, known: RuntimeRules, found: FindingId) -> None:
    finding = judged(entry, known)
    assert finding is not None
    assert finding.id is found


@pytest.mark.parametrize(("entry", "known"), ALLOWED.values(), ids=ALLOWED)
def test_whole_rounds_allow_the_same(entry: ImaEntry, known: RuntimeRules) -> None:
    scene = Scene((golden_of(known),))
    scene.round(0, entry)
    assert scene.verdict().findings == ()


@pytest.mark.parametrize(("entry", "known", "found"), REFUSED.values(), ids=REFUSED)
def test_whole_rounds_find_the_same(entry: ImaEntry, known: RuntimeRules, found: FindingId) -> None:
    scene = Scene((golden_of(known),))
    scene.round(0, entry)
    assert ids(scene.verdict().findings) == [found]


@pytest.mark.parametrize("template", ["ima-ng", "ima-sig", "ima-ngv2", "ima-sigv2"])
def test_every_listed_file_of_a_plain_template_is_known_without_a_closer_look(template: str) -> None:
    entry = ran("/usr/bin/sh", template=template)
    compiled = compile_runtime(golden_of(RULES))
    for bank in (SHA256, HashAlg.SHA384):
        assert compiled.table(bank, template) == {entry.data: bank.digest(entry.data)}


def test_only_what_is_allowed_for_ever_is_known_without_a_closer_look() -> None:
    ending = FileDigest(digest=content("good"), valid=Window(end=at(1)))
    assert not compile_runtime(golden_of(rules(files={"/usr/bin/sh": (ending,)}))).table(SHA256, "ima-ng")


KEY_WINDOWS = {
    "before it begins": (Span(at(0), at(4)), SIGNATURE),
    "when it begins": (Span(at(5), at(5)), None),
    "perhaps when it begins": (Span(at(0), at(5)), None),
    "when it ends": (Span(at(9), at(9)), None),
    "after it has ended": (Span(at(10), at(20)), SIGNATURE),
}


@pytest.mark.parametrize(("span", "found"), KEY_WINDOWS.values(), ids=KEY_WINDOWS)
def test_r06_a_key_counts_in_its_time(span: Span, found: FindingId | None) -> None:
    finding = judged(signed("/usr/bin/new"), rules(keys=(KEEPER.rule(start=5, end=9),)), span)
    assert (finding.id if finding else None) is found


def test_r06_the_finding_about_an_expired_key_names_it() -> None:
    finding = judged(signed("/usr/bin/new"), rules(keys=(KEEPER.rule(end=9),)), Span(at(10), at(20)))
    assert finding is not None
    assert f"packages since ever until {at(9).isoformat()}" in finding.seen
    assert f"measured between {at(10).isoformat()} and {at(20).isoformat()}" in finding.seen


def test_r06_the_finding_about_a_stranger_shows_the_key_id_that_the_signature_claims() -> None:
    finding = judged(named("ima-sig", STRANGER.sign(fields("/usr/bin/new"))), SIGNED)
    assert finding is not None
    assert finding.expected == "a signature by packages since ever on"
    assert ImaKey(STRANGER.spki).key_id.hex() in finding.seen


def test_only_the_boot_aggregate_itself_may_have_its_digest() -> None:
    compiled = compile_runtime(golden_of(RULES))
    aggregates = frozenset({("sha256", AGGREGATE.digest)})
    cases = ((b"boot_aggregate", True), (b"/boot_aggregate", False), (b"/usr/bin/sh", False), (b"zz", False))
    for path, allowed in cases:
        entry = named("ima-ng", replace(AGGREGATE, path=path))
        assert (compiled.judge(entry, NOW, aggregates) is None) is allowed


def test_one_of_two_windows_is_enough() -> None:
    good = content("good")
    early, late = (FileDigest(digest=good, valid=window) for window in (Window(end=at(1)), Window(start=at(9))))
    for span, found in ((NOW, None), (Span(at(2), at(8)), FindingId.IMA_EXPIRED_FILE), (Span(at(9), at(9)), None)):
        finding = judged(ran("/usr/bin/sh"), rules(files={"/usr/bin/sh": (early, late)}), span)
        assert (finding.id if finding else None) is found


def test_a_weak_digest_says_what_to_boot_with() -> None:
    finding = judged(named("ima-ng", replace(ima.LEGACY, path=b"/usr/bin/sh")))
    assert finding is not None
    assert "ima_hash=sha256" in finding.expected


def test_a_changed_file_shows_a_few_of_the_contents_it_may_have() -> None:
    known = tuple(FileDigest(digest=content(str(number))) for number in range(5))
    finding = judged(ran("/usr/bin/sh", "evil"), rules(files={"/usr/bin/sh": known}))
    assert finding is not None
    assert finding.expected.count("sha256:") == 3
    assert finding.expected.endswith("or 2 more")
    assert finding.seen == f"sha256:{content('evil').hex()}"


def test_findings_spell_paths_as_goldens_do_so_that_no_terminal_obeys_them() -> None:
    finding = judged(named("ima-ng", replace(SH, path=b"/\x1b[2J\xff")))
    assert finding is not None
    assert finding.where == "/%1B[2J%FF, golden good"


def test_rules_with_a_key_that_is_none_are_refused() -> None:
    with pytest.raises(MalformedInput):
        compile_runtime(golden_of(rules(keys=(SigningKey(spki=b"no key"),))))


def test_of_a_path_that_is_longer_than_linux_has_any_the_beginning_is_shown() -> None:
    longest, longer = judged(ran("/" + "a" * 4095)), judged(ran("/" + "a" * 4096))
    assert longest is not None
    assert longer is not None
    assert longest.where == f"/{'a' * 4095}, golden good"
    assert longer.where == f"/{'a' * 255}…, golden good"
