"""``nodeseal golden runtime`` and its neighbours without a verifier: lists from sources, and lists in a rollout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nodeseal.cli.main import app
from nodeseal.errors import MalformedInput
from nodeseal.golden.document import parse_golden
from nodeseal.golden.rules import FileDigest, Window
from nodeseal.golden.schema import golden_schema
from nodeseal.ima.log import encode_ima_entry, measured_entry
from nodeseal.ima.template import ImaFields, encode_template
from nodeseal.tpm.algorithms import HashAlg
from support.goldens import FULL, A
from support.packages import TRAILER, cpio, deb, member, rpm, tar

HI, HO = (HashAlg.SHA256.digest(content) for content in (b"hi", b"ho"))
EXACT = f'format: nodeseal/golden/1\nname: g\npcrs: {{sha256: {{"4": ["{A.hex()}"]}}}}\n'


def run(*arguments: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, ["golden", *arguments])
    if isinstance(result.exception, Exception) and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == exit_code, result.output
    return result.stdout


def files(text: str) -> dict[str, tuple[FileDigest, ...]]:
    runtime = parse_golden(text.encode() if text.startswith("format") else (EXACT + text).encode(), "g").runtime
    assert runtime is not None
    return dict(runtime.files)


@pytest.fixture
def package(tmp_path: Path) -> str:
    (tmp_path / "x.deb").write_bytes(deb(tar([member("./usr/bin/x", b"hi")])))
    return str(tmp_path / "x.deb")


def test_a_list_comes_from_every_kind_of_source(tmp_path: Path, package: str) -> None:
    (tmp_path / "tree/opt").mkdir(parents=True)
    (tmp_path / "tree/opt/y").write_bytes(b"hi")
    (tmp_path / "z.rpm").write_bytes(rpm(cpio(b"./usr/bin/z", b"hi") + TRAILER))
    sources = ("--from-tree", str(tmp_path / "tree"), "--deb", package, "--rpm", str(tmp_path / "z.rpm"))
    found = files(run("runtime", *sources))
    assert found == {path: (FileDigest(digest=HI),) for path in ("/opt/y", "/usr/bin/x", "/usr/bin/z")}


def test_paths_may_get_a_prefix_and_digests_another_hash(package: str) -> None:
    found = files(run("runtime", "--deb", package, "--path-prefix", "/opt/image/", "--hash", "sha512"))
    assert found == {"/opt/image/usr/bin/x": (FileDigest(digest=HashAlg.SHA512.digest(b"hi")),)}


def test_paths_are_listed_as_ima_spells_them(tmp_path: Path) -> None:
    (tmp_path / "tree/opt").mkdir(parents=True)
    (tmp_path / "tree/opt/a b").write_bytes(b"hi")
    (tmp_path / "x.deb").write_bytes(deb(tar([member("./usr/bin/c d", b"hi")])))
    (tmp_path / "y.rpm").write_bytes(rpm(cpio(b"./usr/bin/e f", b"hi") + TRAILER))
    sources = (
        "--from-tree",
        str(tmp_path / "tree"),
        "--deb",
        str(tmp_path / "x.deb"),
        "--rpm",
        str(tmp_path / "y.rpm"),
    )
    found = files(run("runtime", *sources, "--path-prefix", "/srv/my image"))
    assert set(found) == {f"/srv/my_image{path}" for path in ("/opt/a_b", "/usr/bin/c_d", "/usr/bin/e_f")}


def log(*entries: ImaFields, template: str = "ima-ng") -> bytes:
    measured = (measured_entry(template, encode_template(template, fields)) for fields in entries)
    return b"".join(map(encode_ima_entry, measured))


def test_a_list_comes_from_the_log_of_a_machine(tmp_path: Path) -> None:
    aggregate = ImaFields(algorithm="sha256", digest=bytes(32), path=b"boot_aggregate")
    file = ImaFields(algorithm="sha256", digest=HI, path=b"/usr/bin/a b")
    (tmp_path / "log").write_bytes(log(aggregate, file))
    found = files(run("runtime", "--ima-log", str(tmp_path / "log"), "--path-prefix", "/ignored"))
    assert found == {"/usr/bin/a b": (FileDigest(digest=HI),)}


def test_what_a_log_says_of_no_files_content_is_not_listed(tmp_path: Path) -> None:
    file = ImaFields(algorithm="sha256", digest=HI, path=b"/usr/bin/a", digest_type="ima")
    verity = replace(file, path=b"/usr/bin/verity", digest_type="verity")
    violated = encode_template("ima-ngv2", replace(file, path=b"/var/log/written"))
    buffer = ImaFields(algorithm="sha256", digest=HI, path=b"kexec-cmdline", buffer=b"hi")
    raw = log(file, verity, template="ima-ngv2") + log(buffer, template="ima-buf")
    raw += encode_ima_entry(measured_entry("ima-ngv2", violated)._replace(template_digest=bytes(20)))
    (tmp_path / "log").write_bytes(raw)
    assert set(files(run("runtime", "--ima-log", str(tmp_path / "log")))) == {"/usr/bin/a"}


def test_a_log_with_weak_digests_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(log(ImaFields(algorithm="sha1", digest=bytes(20), path=b"/usr/bin/a")))
    with pytest.raises(MalformedInput, match="was hashed with 'sha1'") as refusal:
        run("runtime", "--ima-log", str(tmp_path / "log"))
    assert "ima_hash=sha256" in refusal.value.remedy


def test_a_log_whose_digests_do_not_hold_is_refused(tmp_path: Path) -> None:
    raw = log(ImaFields(algorithm="sha256", digest=HI, path=b"/usr/bin/a"))
    (tmp_path / "log").write_bytes(raw.replace(HI, HO))
    with pytest.raises(MalformedInput, match="digest"):
        run("runtime", "--ima-log", str(tmp_path / "log"))


def test_what_is_no_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"hello")
    with pytest.raises(MalformedInput, match="is no IMA log"):
        run("runtime", "--ima-log", str(tmp_path / "log"))


def test_merging_keeps_old_and_new_side_by_side(tmp_path: Path) -> None:
    text = FULL.replace(f'bash: ["sha256:{A.hex()}"]', f'bash: ["sha256:{HO.hex()}"]')
    (tmp_path / "g.yaml").write_text(text)
    (tmp_path / "x.deb").write_bytes(deb(tar([member("./bin/bash", b"hi")])))
    window = ("--valid-from", "2026-02-01T00:00:00Z", "--old-until", "2026-03-01T00:00:00Z")
    merge = ("--merge", str(tmp_path / "g.yaml"), "-o", str(tmp_path / "new.yaml"))
    run("runtime", "--deb", str(tmp_path / "x.deb"), *window, *merge)
    old, new = (parse_golden((tmp_path / name).read_bytes(), name) for name in ("g.yaml", "new.yaml"))
    assert old.runtime is not None
    assert new.runtime is not None
    by_digest = {content.digest: content.valid for content in new.runtime.files["/usr/bin/bash"]}
    assert (by_digest[HO].start, str(by_digest[HO].end)) == (None, "2026-03-01 00:00:00+00:00")
    assert (str(by_digest[HI].start), by_digest[HI].end) == ("2026-02-01 00:00:00+00:00", None)
    assert new.runtime.files["/usr/bin/python3"] == old.runtime.files["/usr/bin/python3"]
    assert (new.boot, new.pcrs, new.reference) == (old.boot, old.pcrs, old.reference)
    assert run("diff", str(tmp_path / "g.yaml"), str(tmp_path / "new.yaml"), exit_code=1).count("/usr/bin") == 1


def test_a_golden_without_a_list_gets_one(tmp_path: Path, package: str) -> None:
    (tmp_path / "g.yaml").write_text(EXACT)
    merged = run("runtime", "--deb", package, "--merge", str(tmp_path / "g.yaml"))
    assert files(merged) == {"/usr/bin/x": (FileDigest(digest=HI, valid=Window()),)}


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="no source"),
        pytest.param(("--deb", "absent.deb"), id="a package that is not there"),
        pytest.param(("--from-tree", ".", "--hash", "sha1"), id="a hash that has collisions"),
        pytest.param(("--from-tree", ".", "--path-prefix", "opt"), id="a prefix that is no absolute path"),
        pytest.param(("--from-tree", ".", "--valid-from", "tomorrow"), id="a time that is none"),
        pytest.param(
            ("--from-tree", ".", "--valid-from", "2026-02-01T00:00:00Z", "--valid-until", "2026-01-01T00:00:00Z"),
            id="a window that ends before it begins",
        ),
    ],
)
def test_misuse_is_told_from_refusal(arguments: tuple[str, ...]) -> None:
    run("runtime", *arguments, exit_code=2)


def test_a_source_without_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MalformedInput, match="there is no file to list"):
        run("runtime", "--from-tree", str(tmp_path))


def test_the_schema_is_printed() -> None:
    assert run("schema") == golden_schema()


def test_lint_says_what_is_judged_and_what_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(FULL)
    said = run("lint", str(tmp_path / "g.yaml"))
    assert "who signed what runs" in said
    assert "PCR 1 (firmware settings): nothing looks at it" in said
    plain = json.loads(run("lint", str(tmp_path / "g.yaml"), "--json"))
    assert set(plain) == {"digest", "judged", "open"}


def test_diff_tells_section_by_section(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(FULL)
    (tmp_path / "b.yaml").write_text(FULL.replace("quiet", "debug").replace('rack: "a"', 'rack: "b"'))
    both = (str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml"))
    said = run("diff", *both, exit_code=1)
    assert "boot command_lines" in said
    assert "nodes rack" in said
    rows = json.loads(run("diff", *both, "--json", exit_code=1))
    assert rows[1] == {"section": "nodes", "where": "rack", "a": ["a"], "b": ["b"]}
    assert "the goldens judge alike" in run("diff", both[0], both[0])
