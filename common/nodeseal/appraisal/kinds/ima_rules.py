"""Hold single IMA entries against a golden's runtime rules.

An entry is judged by what its bytes prove. No digest covers the template's *name*, so the name decides nothing: every
accepted template begins with a digest and a file name, which read the same under each name. A signature proves itself.
A buffer must have the digest that the entry states, and a name that no file has. Otherwise an unknown file could pass
for a buffer, and many goldens do not list buffers.

Rules, in the order in which they apply:

1. a violation proves nothing about any file, and its path is a mere claim: refused unless the path is listed for that;
2. an entry without digest and name is refused;
3. a signature that does not parse is refused, even of a file that is listed or excluded;
4. buffers have a list of their own; no list: any buffer may be measured;
5. excluded paths are not judged;
6. a file is allowed by its digest under its path, or by the signature of a key, each in its time.

Digests weaker than SHA-256 satisfy no rule. Neither do fs-verity digests: they are not digests of a file's content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from nodeseal.crypto.ima_signatures import ImaKey
from nodeseal.errors import MalformedInput, ProofFailed
from nodeseal.findings import Finding, FindingId
from nodeseal.golden.canonical import tagged
from nodeseal.golden.model import Golden
from nodeseal.golden.paths import MAX_MEASURED_PATH, path_bytes, path_text
from nodeseal.golden.rules import ALWAYS, FileDigest, RuntimeRules, SigningKey, Window
from nodeseal.ids import Digest
from nodeseal.ima.log import ImaEntry
from nodeseal.ima.signature import ImaSignature, decode_ima_signature
from nodeseal.ima.template import ImaFields, encode_template, parse_template, template_fields
from nodeseal.tpm.algorithms import STRONG_HASHES_BY_DIGEST_SIZE, STRONG_HASHES_BY_NAME, HashAlg

BOOT_AGGREGATE: Final = b"boot_aggregate"
"""Name of the entry that IMA makes of the boot PCRs; a real file's path begins with a slash."""
"""Digests that can satisfy a rule, by the kernel's name of their algorithm."""
_BEGINNINGS: Final = (("d-ng", "n-ng"), ("d-ngv2", "n-ng"))
_DIGEST_TYPES: Final = {"ima-ng": "", "ima-sig": "", "ima-ngv2": "ima", "ima-sigv2": "ima"}
_VERITY: Final = "verity"
_SHOWN: Final = 3
_SHOWN_PATH: Final = 256
"""Bytes that findings show of a path that is longer than Linux has any."""


@dataclass(frozen=True, slots=True)
class Span:
    """When entries were measured: not before ``since``, not after ``until``."""

    since: datetime
    until: datetime

    def meets(self, window: Window) -> bool:
        """Tell whether an entry may have been measured in ``window``."""
        return window.meets(self.since, self.until)

    def __str__(self) -> str:
        if self.since == self.until:
            return f"measured at {_time(self.until)}"
        return f"measured between {_time(self.since)} and {_time(self.until)}"


class _Signer(NamedTuple):
    key: ImaKey
    rule: SigningKey


class CompiledRuntime:
    """A golden's runtime rules, ready to judge with; one object for all nodes.

    Attributes:
        name: the golden's name.
        digest: the golden's digest.

    Raises:
        MalformedInput: a path or key of the rules is not one.
    """

    def __init__(self, golden: Golden, rules: RuntimeRules) -> None:
        self.name: Final = golden.name
        self.digest: Final[Digest] = golden.digest
        self._files: Final = {path_bytes(path): contents for path, contents in rules.files.items()}
        self._signers: Final = tuple(_Signer(ImaKey(key.spki), key) for key in rules.keys)
        self._excluded: Final = frozenset(path_bytes(path) for path in rules.excludes)
        self._folders: Final = tuple(path for path in self._excluded if path.endswith(b"/"))
        self._violations: Final = frozenset(map(path_bytes, rules.violations))
        self._buffers: Final = _by_name(rules.buffers)
        self._tables: Final[dict[tuple[HashAlg, str], Mapping[bytes, bytes]]] = {}

    def table(self, bank: HashAlg, template: str) -> Mapping[bytes, bytes]:
        """Return the template data of every file that is allowed for ever and not signed, and its template hash."""
        if (bank, template) not in self._tables:
            rows = (encode_template(template, fields) for fields in self._always(_DIGEST_TYPES[template]))
            self._tables[bank, template] = {data: bank.digest(data) for data in rows}
        return self._tables[bank, template]

    def judge(self, entry: ImaEntry, span: Span, aggregates: frozenset[tuple[str, bytes]]) -> Finding | None:
        """Return what is wrong with a proved entry, or None.

        Args:
            entry: an entry that is not the first of the log and not in this golden's tables.
            span: when it was measured.
            aggregates: algorithm and digest of the boot aggregates of the quoted boot PCRs, since a kernel that kexec
                starts measures its aggregate again.
        """
        try:
            fields = file_fields(entry)
        except MalformedInput as error:
            return self._violation(ImaFields()) if entry.violation else self._unread(str(error))
        if entry.violation:
            return self._violation(fields)
        if fields.buffer is not None:
            return self._buffer(fields, fields.buffer)
        try:
            signature = decode_ima_signature(fields.signature) if fields.signature else None
        except MalformedInput as error:
            return self._finding(FindingId.IMA_SIGNATURE, fields, "a well-formed signature", str(error))
        excluded = fields.path in self._excluded or fields.path.startswith(self._folders)
        aggregate = fields.path == BOOT_AGGREGATE and (fields.algorithm, fields.digest) in aggregates
        return None if excluded or aggregate else self._file(fields, signature, span)

    def _always(self, digest_type: str) -> Iterator[ImaFields]:
        for path, contents in self._files.items():
            for content in contents:
                if content.valid == ALWAYS:
                    yield ImaFields(
                        algorithm=_algorithm(content), digest=content.digest, path=path, digest_type=digest_type
                    )

    def _unread(self, problem: str) -> Finding:
        return self._finding(FindingId.IMA_TEMPLATE, ImaFields(), "a template of digest and file name", problem)

    def _violation(self, fields: ImaFields) -> Finding | None:
        if fields.path in self._violations:
            return None
        return self._finding(FindingId.IMA_VIOLATION, fields, "no violation", "one that claims this path")

    def _buffer(self, fields: ImaFields, buffer: bytes) -> Finding | None:
        bank = STRONG_HASHES_BY_NAME.get(fields.algorithm)
        if bank is None or bank.digest(buffer) != fields.digest:
            return self._finding(FindingId.IMA_BUFFER, fields, "the SHA-256 of the buffer, or better", _seen(fields))
        if not fields.path or b"/" in fields.path:
            return self._finding(FindingId.IMA_BUFFER, fields, "the name of a buffer", "that of a file")
        if self._buffers is None or fields.digest in self._buffers.get(fields.path, ()):
            return None
        return self._finding(FindingId.IMA_BUFFER, fields, "a buffer that is listed", _seen(fields))

    def _file(self, fields: ImaFields, signature: ImaSignature | None, span: Span) -> Finding | None:
        contents = self._files.get(fields.path, ())
        windows = [content.valid for content in contents if _is_of(content, fields)]
        if any(map(span.meets, windows)):
            return None
        signers = [each.rule for each in self._signers if signature and _signed(each.key, signature, fields)]
        if any(span.meets(each.valid) for each in signers):
            return None
        if windows:
            expected = " or ".join(map(_window, windows))
            return self._finding(FindingId.IMA_EXPIRED_FILE, fields, expected, f"{_seen(fields)} {span}")
        if signature and self._signers and not contents:
            return self._unaccepted(fields, signature, signers, span)
        return self._unlisted(fields, contents)

    def _unlisted(self, fields: ImaFields, contents: tuple[FileDigest, ...]) -> Finding:
        if fields.path == BOOT_AGGREGATE:
            return self._finding(FindingId.IMA_CARRIED, fields, "the aggregate of this boot's PCRs", _seen(fields))
        if not _is_strong(fields):
            expected = "a SHA-256 digest of the content, or better (boot with ima_hash=sha256)"
            return self._finding(FindingId.IMA_UNKNOWN_FILE, fields, expected, _seen(fields))
        if contents:
            return self._finding(FindingId.IMA_CHANGED_FILE, fields, _alternatives(contents), _seen(fields))
        return self._finding(FindingId.IMA_UNKNOWN_FILE, fields, "a file of the runtime list", _seen(fields))

    def _unaccepted(self, fields: ImaFields, signature: ImaSignature, signers: list[SigningKey], span: Span) -> Finding:
        expected = " or ".join(f"a signature by {_key(each.rule)}" for each in self._signers[:_SHOWN])
        by = ", ".join(map(_key, signers)) or f"another key, id {signature.key_id.hex()}"
        return self._finding(FindingId.IMA_SIGNATURE, fields, expected, f"one by {by}, {span}")

    def _finding(self, id_: FindingId, fields: ImaFields, expected: str, seen: str) -> Finding:
        return Finding(id=id_, expected=expected, seen=seen, where=f"{shown_path(fields)}, golden {self.name}")


def file_fields(entry: ImaEntry) -> ImaFields:
    """Return the fields of an entry whose template begins with a digest and a name.

    Raises:
        MalformedInput: the template is another one, or the data does not fit it.
    """
    if template_fields(entry.template)[:2] not in _BEGINNINGS:
        raise MalformedInput(f"template {entry.template[:64]}")
    return parse_template(entry.template, entry.data)


def shown_path(fields: ImaFields) -> str:
    """Return the path as findings show it: a made-up entry has room for one of a million bytes."""
    path = fields.path
    if not path:
        return "no path"
    return path_text(path) if len(path) <= MAX_MEASURED_PATH else f"{path_text(path[:_SHOWN_PATH])}…"


def _signed(key: ImaKey, signature: ImaSignature, fields: ImaFields) -> bool:
    try:
        key.verify(signature, fields)
    except ProofFailed:
        return False
    return True


def _is_strong(fields: ImaFields) -> bool:
    return fields.algorithm in STRONG_HASHES_BY_NAME and fields.digest_type != _VERITY


def _is_of(content: FileDigest, fields: ImaFields) -> bool:
    """Tell whether an entry says this content; strong algorithms differ in the size of their digests."""
    return _is_strong(fields) and content.digest == fields.digest


def _algorithm(content: FileDigest) -> str:
    return STRONG_HASHES_BY_DIGEST_SIZE[len(content.digest)].hashlib_name


def _by_name(buffers: Mapping[str, frozenset[bytes]] | None) -> Mapping[bytes, frozenset[bytes]] | None:
    return None if buffers is None else {path_bytes(name): digests for name, digests in buffers.items()}


def _seen(fields: ImaFields) -> str:
    kind = f"{fields.digest_type}:" if fields.digest_type else ""
    return f"{kind}{fields.algorithm}:{fields.digest.hex()}"


def _alternatives(contents: tuple[FileDigest, ...]) -> str:
    shown = [tagged(content.digest) for content in contents[:_SHOWN]]
    more = len(contents) - len(shown)
    return " or ".join(shown) + (f" or {more} more" if more else "")


def _key(rule: SigningKey) -> str:
    return f"{rule.name or 'a key'} {_window(rule.valid)}"


def _window(window: Window) -> str:
    since = f"from {_time(window.start)}" if window.start else "since ever"
    return f"{since} {f'until {_time(window.end)}' if window.end else 'on'}"


def _time(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
