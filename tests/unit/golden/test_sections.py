"""Every section of a golden: what it reads, and each thing it refuses, with line, key and remedy."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from nodeseal.crypto.authority import CertificateAuthority
from nodeseal.errors import MalformedInput
from nodeseal.golden.document import dump_golden, parse_golden
from nodeseal.golden.rules import FileDigest, Image, PlatformRules, ReferenceEvent, Signer, Window
from nodeseal.tpm.algorithms import HashAlg
from support.goldens import FULL, MEASURED, PUBLIC_KEY, A, B, C

MANY = "[" + ", ".join(f'"{number:064x}"' for number in range(65)) + "]"


def parse(text: str) -> object:
    return parse_golden(text.encode(), "g.yaml")


def test_every_section_is_read() -> None:
    golden = parse_golden(FULL.encode(), "g.yaml")
    assert golden.boot is not None
    assert golden.boot.secure_boot
    assert golden.boot.signers == (Signer(sha256=A, name="a maker of systems"),)
    assert golden.boot.images == (Image(name="shimx64.efi", digests=frozenset({A})),)
    assert golden.boot.drivers == (Image(name="network card", digests=frozenset({B})),)
    assert golden.boot.dbx == {C}
    assert golden.boot.command_lines == ("root=UUID=* ro quiet",)
    assert golden.boot.sections == {".linux": frozenset({A})}
    assert golden.boot.gpt == frozenset({A})
    assert golden.platform == PlatformRules(
        manufacturers=frozenset({"IFX"}), firmware=(7, 2, 3, 1), ek_algorithms=frozenset({"rsa2048"})
    )
    assert golden.valid == Window(
        start=datetime(2026, 1, 1, tzinfo=UTC), end=datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)
    )
    assert golden.nodes == {"rack": "a"}
    assert golden.reference[1] == ReferenceEvent(pcr=9, claimed_type=0x40E, digests={HashAlg.SHA256: B})


def test_the_runtime_section_is_read() -> None:
    runtime = parse_golden(FULL.encode(), "g.yaml").runtime
    assert runtime is not None
    assert runtime.files["/usr/bin/bash"] == (FileDigest(digest=A),)
    assert runtime.files["/usr/bin/python3"] == (
        FileDigest(digest=A, valid=Window(end=datetime(2026, 3, 1, tzinfo=UTC))),
        FileDigest(digest=B, valid=Window(start=datetime(2026, 2, 1, tzinfo=UTC))),
    )
    assert [key.name for key in runtime.keys] == ["builders"]
    assert runtime.excludes == ("/var/log/",)
    assert runtime.violations == {"/var/log/journal"}
    assert runtime.buffers == {"kexec-cmdline": frozenset({A + A})}


def test_a_dump_of_every_section_parses_back_to_the_same_digest() -> None:
    golden = parse_golden(FULL.encode(), "g.yaml")
    dumped = dump_golden(golden)
    assert parse_golden(dumped, "dump") == golden
    assert dump_golden(parse_golden(dumped, "dump")) == dumped


@pytest.mark.parametrize(
    ("change", "to"),
    [
        pytest.param('"2026-02-01T01:00:00+01:00"', '"2026-02-01T00:00:00Z"', id="a time in another zone"),
        pytest.param('"EV_EFI_BOOT_SERVICES_APPLICATION"', '"0x80000003"', id="an event type by number"),
        pytest.param("secure_boot: true", "secure_boot: true\n  bank: sha256", id="the bank that is meant anyway"),
    ],
)
def test_another_spelling_of_a_rule_is_the_same_golden(change: str, to: str) -> None:
    assert change in FULL
    assert parse(FULL.replace(change, to)) == parse(FULL)


@pytest.mark.parametrize(
    ("change", "to", "key"),
    [
        pytest.param("boot:\n", "boot:\n  unknown: 1\n", "unknown", id="an unknown boot rule"),
        pytest.param("secure_boot: true", "secure_boot: false", "secure_boot", id="a rule that demands nothing"),
        pytest.param("secure_boot: true", 'secure_boot: "true"', "secure_boot", id="text where true is due"),
        pytest.param("secure_boot: true", "bank: sha1", "bank", id="a bank whose hash has collisions"),
        pytest.param("secure_boot: true", "bank: sha384", "digests", id="digests of another bank"),
        pytest.param(
            f'signers:\n    - {{sha256: "{A.hex()}"', "signers:\n    - {sha256: ab", "sha256", id="half a key"
        ),
        pytest.param('name: "a maker of systems"', 'name: ""', "name", id="an empty name"),
        pytest.param('name: "a maker of systems"', "nam: x", "nam", id="an unknown key of a signer"),
        pytest.param(f'"shimx64.efi", digests: ["{A.hex()}"]', '"shimx64.efi", digests: []', "digests", id="no digest"),
        pytest.param(f'"shimx64.efi", digests: ["{A.hex()}"]', f'"x", digests: {MANY}', "digests", id="65 digests"),
        pytest.param(f'dbx: ["{C.hex()}"]', "dbx: []", "dbx", id="a floor of nothing"),
        pytest.param("root=UUID=* ro quiet", "root=UUID=x * quiet", "command_lines", id="any parameter"),
        pytest.param('["root=UUID=* ro quiet"]', "[12]", "command_lines", id="a number where a pattern is due"),
        pytest.param('".linux"', '"linux"', "linux", id="a section without its dot"),
        pytest.param("sections: {", "sections: {}\n  # {", "sections", id="no section"),
        pytest.param(f'gpt: ["{A.hex()}"]', f'gpt: ["{A.hex()}", "{A.hex()}"]', "gpt", id="a digest twice"),
        pytest.param("/usr/bin/bash:", "/usr/bin/bäsh:", "b\xe4sh", id="a path in another spelling"),
        pytest.param(f'bash: ["sha256:{A.hex()}"]', "bash: []", "bash", id="a file with no content"),
        pytest.param(f'bash: ["sha256:{A.hex()}"]', f'bash: ["{A.hex()}"]', "bash", id="a digest by nothing"),
        pytest.param(f'bash: ["sha256:{A.hex()}"]', f'bash: ["sha1:{A.hex()[:40]}"]', "bash", id="SHA-1"),
        pytest.param(f'bash: ["sha256:{A.hex()}"]', f'bash: ["sha512:{A.hex()}"]', "bash", id="a digest too short"),
        pytest.param(f'bash: ["sha256:{A.hex()}"]', f'bash: [{{digest: "sha256:{A.hex()}"}}]', "bash", id="no window"),
        pytest.param('until: "2026-03-01', 'until: "2026-02-30', "until", id="a day that is not"),
        pytest.param('until: "2026-03-01T00:00:00Z"', 'until: "2026-03-01"', "until", id="a day where a time is due"),
        pytest.param(
            'until: "2026-03-01T00:00:00Z"', "until: 2026-03-01T00:00:00Z", "several things", id="a bare time"
        ),
        pytest.param(
            'until: "2026-03-01', 'from: "2026-04-01T00:00:00Z", until: "2026-03-01', "until", id="ends first"
        ),
        pytest.param('"2026-01-01T00:00:00Z"\n  until', '"2027-01-01T00:00:00Z"\n  until', "until", id="never valid"),
        pytest.param('from: "2026-02-01T01', 'from: "0000-02-01T01', "from", id="a year before the first"),
        pytest.param('from: "2026-02-01T01:00:00+01', 'from: "0001-01-01T00:00:00+23', "from", id="before all time"),
        pytest.param("      key: |\n", "      key: x\n      keys: |\n", "key", id="no PEM"),
        pytest.param("PUBLIC KEY-----\n        MFkw", "PUBLIC KEY-----\n        AAAA", "key", id="PEM of nothing"),
        pytest.param('excludes: ["/var/log/"]', 'excludes: ["/"]', "excludes", id="everything excluded"),
        pytest.param('excludes: ["/var/log/"]', 'excludes: ["/usr/"]', "excludes", id="a top folder excluded"),
        pytest.param('excludes: ["/var/log/"]', 'excludes: ["/var/*/"]', "excludes", id="a wildcard excluded"),
        pytest.param('excludes: ["/var/log/"]', "excludes: []", "excludes", id="an empty list of excludes"),
        pytest.param("kexec-cmdline", "kexec%2Dcmdline", "kexec%2D", id="a buffer's name in another spelling"),
        pytest.param('["IFX"]', '["Infineon"]', "manufacturers", id="a maker by name"),
        pytest.param('"7.2.3.1"', '"7.2.3"', "firmware", id="a version of three numbers"),
        pytest.param('"7.2.3.1"', '"7.2.3.65536"', "firmware", id="a number of 17 bits"),
        pytest.param('"7.2.3.1"', '"7.02.3.1"', "firmware", id="a number with a zero before it"),
        pytest.param('"rsa2048"', '"rsa1024"', "ek_algorithms", id="an unknown endorsement key"),
        pytest.param('{rack: "a"}', "{}", "nodes", id="no label"),
        pytest.param('{rack: "a"}', '{rack: "a b"}', "rack", id="a label's value with a space"),
        pytest.param('{rack: "a"}', '{"Rack": "a"}', "Rack", id="a label in upper case"),
        pytest.param("{pcr: 4,", "{pcr: 24,", "pcr", id="a reference to no PCR"),
        pytest.param('"0x0000040e"', '"EV_UNHEARD_OF"', "type", id="an unknown event type"),
        pytest.param('"0x0000040e"', '"0x40e"', "type", id="a short number"),
        pytest.param(f', sha256: "{B.hex()}"}}', "}", "reference", id="an event without a digest"),
        pytest.param(f'APPLICATION", sha256: "{A.hex()}"', f'APPLICATION", sha256: "{B.hex()}"', "PCR 4", id="replay"),
    ],
)
def test_g06_each_thing_that_a_section_does_not_say_right_is_refused(change: str, to: str, key: str) -> None:
    assert change in FULL
    text = FULL.replace(change, to, 1)
    with pytest.raises(MalformedInput, match=rf"^g\.yaml, (.*, )?line [0-9]+.*{re.escape(key)}") as refusal:
        parse(text)
    assert refusal.value.remedy


def test_an_error_names_the_line_of_a_list_item() -> None:
    line = FULL.splitlines().index('    - {name: "network card", digests: ["' + B.hex() + '"]}') + 1
    with pytest.raises(MalformedInput, match=f"line {line}: drivers: nam"):
        parse(FULL.replace('{name: "network card"', '{nam: "network card"'))


@pytest.mark.parametrize(
    ("section", "key"),
    [
        pytest.param("boot: {}", "boot", id="boot"),
        pytest.param("boot: {bank: sha384}", "bank", id="boot with nothing but a bank"),
        pytest.param("runtime: {}", "runtime", id="runtime"),
        pytest.param('runtime: {excludes: ["/var/log/"]}', "excludes", id="runtime with nothing that may run"),
        pytest.param("platform: {}", "platform", id="platform"),
        pytest.param("valid: {}", "valid", id="valid"),
        pytest.param("nodes: {}", "nodes", id="nodes"),
        pytest.param("reference: []", "reference", id="reference"),
        pytest.param("pcrs: {}", "pcrs", id="pcrs"),
    ],
)
def test_a_section_that_says_nothing_is_refused(section: str, key: str) -> None:
    other = "" if key == "pcrs" else f'pcrs: {{sha256: {{"4": ["{A.hex()}"]}}}}\n'
    with pytest.raises(MalformedInput, match=rf"line [0-9]+: {key} is not"):
        parse(f"format: nodeseal/golden/1\nname: g\n{other}{section}\n")


@pytest.mark.parametrize("key", ["signers", "images"])
def test_a_signer_or_image_twice_is_refused(key: str) -> None:
    row = next(line for line in FULL.splitlines() if line.startswith("    - {" + ("sha" if key == "signers" else "na")))
    again = row.replace("a maker of systems", "another").replace(f'"{A.hex()}"]', f'"{B.hex()}"]')
    with pytest.raises(MalformedInput, match=f"{key} is not a list that has each entry once"):
        parse(FULL.replace(row, f"{row}\n{again}"))


def test_a_certificate_counts_as_its_key() -> None:
    pem = CertificateAuthority.create("builders", datetime(2026, 1, 1, tzinfo=UTC), days=1).certificate_pem
    runtime = parse_golden(FULL.replace(_block(PUBLIC_KEY), _block(pem.decode())).encode(), "g.yaml").runtime
    assert runtime is not None
    key = x509.load_pem_x509_certificate(pem).public_key()
    assert runtime.keys[0].spki == key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def test_two_keys_in_one_place_are_refused() -> None:
    with pytest.raises(MalformedInput, match="key is not one public key or certificate in PEM"):
        parse(FULL.replace(_block(PUBLIC_KEY), _block(PUBLIC_KEY * 2)))


def _block(text: str) -> str:
    return "".join(f"        {line}\n" for line in text.splitlines())


def test_pcr_0_may_start_at_a_locality() -> None:
    started = HashAlg.SHA256.digest((3).to_bytes(32, "big") + A).hex()
    event = f'{{pcr: 0, type: EV_POST_CODE, sha256: "{A.hex()}"}}'
    text = f'format: nodeseal/golden/1\nname: g\npcrs: {{sha256: {{"0": ["{started}"], "4": ["{A.hex()}"]}}}}\n'
    parse(text + f"reference: [{event}]\n")
    with pytest.raises(MalformedInput, match="PCR 4"):
        parse(text + f"reference: [{event.replace('pcr: 0', 'pcr: 4')}]\n")


def test_measured_is_what_the_reference_replays_to() -> None:
    assert MEASURED.hex() in FULL
    assert PUBLIC_KEY.splitlines()[1] in FULL
