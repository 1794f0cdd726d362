"""Models on web servers that behave, and on servers that do not."""

from __future__ import annotations

import ssl
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nodeseal.errors import ProofFailed, Unavailable
from nodeseal.findings import FindingId
from nodeseal.loader import open_model, web
from nodeseal.loader.web import WebFolder, WebOptions
from support.sealed import PLAIN_WEIGHTS, Sample, sealed_model
from support.web import Request, Script, WebServer

WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    return sealed_model(tmp_path_factory.mktemp("web"))


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "RETRY_SECONDS", 0.001)


@pytest.fixture
def server(sample: Sample) -> Iterator[WebServer]:
    with WebServer(sample.directory) as server:
        yield server


def read(server: WebServer, sample: Sample, options: WebOptions | None = None) -> bytes:
    with open_model(WebFolder(server.url, options), sample.keys) as model:
        return bytes(model.read(WEIGHTS))


def for_weights(script: Script) -> Script:
    """Answer by ``script`` whenever a segment of the weights is asked for, otherwise well."""

    def answer(request: Request) -> None:
        first = int(request.headers["Range"].removeprefix("bytes=").split("-")[0])
        (script if WEIGHTS in request.path and first >= 4096 else Request.serve)(request)

    return answer


def test_a_model_is_read_by_ranges_over_few_connections(server: WebServer, sample: Sample) -> None:
    with open_model(server.url, sample.keys) as model:
        assert bytes(model.read(WEIGHTS)) == PLAIN_WEIGHTS
        assert bytes(model.read("config.json")) == (sample.plain / "config.json").read_bytes()
        assert bytes(model.read("sub/tokenizer.json")) == b"{}"
        before = server.sent
        assert bytes(model.read_range(WEIGHTS, 10, 20)) == PLAIN_WEIGHTS[10:20]
    assert server.sent - before < 1.1 * (1 << 18)
    assert all("Range" in headers for _, headers in server.requests)


def test_later_requests_are_bound_to_the_entity_tag_of_the_first(server: WebServer, sample: Sample) -> None:
    read(server, sample)
    bound = [headers.get("If-Range") for path, headers in server.requests if WEIGHTS in path]
    assert f'"{sample.weights.stat().st_size}"' in bound


def test_a_transfer_that_breaks_is_taken_up_where_it_broke(server: WebServer, sample: Sample) -> None:
    broken: set[str] = set()

    def once(request: Request) -> None:
        if (wanted := request.headers["Range"]) not in broken:
            broken.add(wanted)
            request.serve(cut=1000)
        else:
            request.serve()

    server.script = for_weights(once)
    assert read(server, sample) == PLAIN_WEIGHTS
    assert len(broken) >= 3
    stored = sum(path.stat().st_size for path in sample.directory.rglob("*") if path.is_file())
    assert server.sent < stored + 3 * 4096 + 20 * 100


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_that_is_busy_is_asked_again(server: WebServer, sample: Sample, status: int) -> None:
    refused: list[int] = []

    def twice(request: Request) -> None:
        if len(refused) < 2:
            refused.append(status)
            request.refuse(status)
        else:
            request.serve()

    server.script = for_weights(twice)
    assert read(server, sample) == PLAIN_WEIGHTS
    assert len(refused) == 2


def hang_up(request: Request) -> None:
    request.close_connection = True


def neighbour(request: Request) -> None:
    first, last = (int(part) for part in request.headers["Range"].removeprefix("bytes=").split("-"))
    size = (request.server.folder / f"{WEIGHTS}.sealed").stat().st_size
    request.serve(content_range=f"bytes {first - 1}-{last - 1}/{size}")


def whole_file(request: Request) -> None:
    request.answer(200, (request.server.folder / f"{WEIGHTS}.sealed").read_bytes())


def dripping(request: Request) -> None:
    request.send_response(206)
    first, last = request.headers["Range"].removeprefix("bytes=").split("-")
    size = (request.server.folder / f"{WEIGHTS}.sealed").stat().st_size
    request.send_header("Content-Range", f"bytes {first}-{last}/{size}")
    request.send_header("ETag", f'"{size}"')
    request.send_header("Content-Length", str(int(last) - int(first) + 1))
    request.end_headers()
    for _ in range(100):
        request.wfile.write(b"\0")
        time.sleep(0.02)


def dripping_headers(request: Request) -> None:
    request.send_response(206)
    request.flush_headers()
    for number in range(90):
        request.wfile.write(b"X-%d: x\r\n" % number)
        time.sleep(0.02)


def always_continue(request: Request) -> None:
    while True:  # until the client hangs up
        request.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


@pytest.mark.parametrize(
    ("why", "script"),
    [
        ("hangs up", hang_up),
        ("always breaks off", lambda r: r.serve(cut=200_000)),
        ("is always busy", lambda r: r.refuse(503)),
        ("lost the file", lambda r: r.refuse(404)),
        ("forbids", lambda r: r.refuse(403)),
        ("answers with no status that fits", lambda r: r.refuse(204)),
        ("sends the whole file", whole_file),
        ("names no range", lambda r: r.serve(content_range="")),
        ("names another range", neighbour),
        ("names a range that is none", lambda r: r.serve(content_range="bytes 1-x/100")),
        ("has another entity tag", lambda r: r.serve(etag='"other"')),
        ("has no entity tag any more", lambda r: r.serve(etag="")),
        ("compresses", lambda r: r.serve(content_encoding="gzip")),
        ("redirects in circles", lambda r: r.refuse(302, location=r.path)),
        ("redirects to no address", lambda r: r.refuse(302, location="file:///etc/passwd")),
        ("redirects without an address", lambda r: r.refuse(302)),
        ("redirects to half an address", lambda r: r.refuse(302, location="http://[")),
        ("redirects to a port that is none", lambda r: r.refuse(302, location="http://127.0.0.1:99999999/")),
        ("redirects to a path in Latin-1", lambda r: r.refuse(302, location="/\xe4")),
        ("redirects to a path with a space", lambda r: r.refuse(302, location="/a b")),
        ("redirects to a name that no DNS has", lambda r: r.refuse(302, location=f"http://{'a' * 70}.example/")),
        ("drips", dripping),
        ("drips headers", dripping_headers),
        ("goes on announcing an answer", always_continue),
    ],
)
def test_a_load_ends_with_a_clear_error_from_a_server_that(
    server: WebServer, sample: Sample, why: str, script: Script
) -> None:
    server.script = for_weights(script)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1.*model\.safetensors") as caught:
        read(server, sample, WebOptions(timeout_seconds=5, request_seconds=0.05))
    assert "etc/passwd" not in str(caught.value), why


def test_a_server_that_says_nothing_is_given_up(server: WebServer, sample: Sample) -> None:
    server.script = for_weights(lambda _: time.sleep(0.3))
    with pytest.raises(Unavailable):
        read(server, sample, WebOptions(timeout_seconds=0.02))


def test_a_size_that_changes_is_refused(server: WebServer, sample: Sample) -> None:
    def longer(request: Request) -> None:
        first, last = request.headers["Range"].removeprefix("bytes=").split("-")
        request.serve(content_range=f"bytes {first}-{last}/{10 << 30}")

    server.script = for_weights(longer)
    with pytest.raises(Unavailable, match="changed while it was read"):
        read(server, sample)


def test_a_server_without_ranges_is_refused_without_reading_on(server: WebServer, sample: Sample) -> None:
    server.script = lambda request: request.answer(200, b"{}")
    with pytest.raises(Unavailable, match="does not serve ranges"):
        read(server, sample)


def test_what_a_server_changes_does_not_verify(server: WebServer, sample: Sample) -> None:
    def flipped(request: Request) -> None:
        first, last = (int(part) for part in request.headers["Range"].removeprefix("bytes=").split("-"))
        raw = bytearray(sample.weights.read_bytes())
        raw[5000] ^= 1
        request.answer(
            206, bytes(raw[first : last + 1]), etag=f'"{len(raw)}"', content_range=f"bytes {first}-{last}/{len(raw)}"
        )

    server.script = for_weights(flipped)
    with pytest.raises(ProofFailed) as caught:
        read(server, sample)
    assert caught.value.findings[0].id is FindingId.SEALED_SEGMENT


def test_a_missing_file_is_found_when_the_model_is_opened(server: WebServer, sample: Sample) -> None:
    def without_tokenizer(request: Request) -> None:
        request.refuse(404) if "tokenizer" in request.path else request.serve()

    server.script = without_tokenizer
    with pytest.raises(ProofFailed) as caught:
        read(server, sample)
    assert [finding.where for finding in caught.value.findings] == ["sub/tokenizer.json"]


def test_an_empty_file_has_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with WebServer(tmp_path) as server:
        source = WebFolder(server.url).open("empty")
        source.read_into(memoryview(bytearray()), 0)
        assert source.size == 0
        with pytest.raises(Unavailable, match="ends before"):
            source.read_into(memoryview(bytearray(1)), 0)
        source.close()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host/x",
        "https://",
        "host/x",
        "https://u:s3cret@host/x",
        "https://:s3cret@host/x",
        "https://s3cret@host/x",
        "https://host/x?sig=s3cret",
        "https://host/x#s3cret",
    ],
)
def test_an_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https") as caught:
        WebFolder(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("value", ["Bearer s3cret\n", "Bearer s3cr\xe9t", "Bearer\x00"])
def test_a_header_that_http_would_refuse_is_refused_without_quoting_it(value: str) -> None:
    with pytest.raises(ValueError, match="line break") as caught:
        WebFolder("https://host/x", WebOptions(headers={"Authorization": value}))
    assert "Bearer" not in "".join(traceback.format_exception(caught.value))


def test_headers_travel_over_tls_alone() -> None:
    with pytest.raises(ValueError, match="https alone"):
        WebFolder("http://127.0.0.1/x", WebOptions(headers={"Authorization": "Bearer x"}))
    assert "Bearer" not in repr(WebOptions(headers={"Authorization": "Bearer x"}))


# TLS and redirections


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for loopback that nobody trusts."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


def tls_server(sample: Sample, certificate: Path, script: Script = Request.serve) -> WebServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return WebServer(sample.directory, script, tls=context)


def trusting(certificate: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def test_over_tls_with_a_certificate_that_is_trusted(sample: Sample, certificate: Path) -> None:
    options = WebOptions(tls=trusting(certificate), headers={"Authorization": "Bearer x"})
    with tls_server(sample, certificate) as server:
        assert read(server, sample, options) == PLAIN_WEIGHTS
    assert all(headers["Authorization"] == "Bearer x" for _, headers in server.requests)


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(sample: Sample, certificate: Path) -> None:
    with tls_server(sample, certificate) as server, pytest.raises(Unavailable):
        read(server, sample)
    assert server.requests == []
    assert server.connections == 1


def test_a_redirection_is_followed_without_headers_to_other_servers(sample: Sample, certificate: Path) -> None:
    def elsewhere(request: Request) -> None:
        request.refuse(307, location=f"{other.url}{request.path}?signature=s3cret")

    options = WebOptions(tls=trusting(certificate), headers={"Authorization": "Bearer x"})
    with tls_server(sample, certificate) as other, tls_server(sample, certificate, elsewhere) as first:
        assert read(first, sample, options) == PLAIN_WEIGHTS
        other.script = lambda request: request.refuse(403)
        with pytest.raises(Unavailable) as caught:
            read(first, sample, options)
        assert "s3cret" not in str(caught.value)
    assert all("Authorization" in headers for _, headers in first.requests)
    assert other.requests
    assert not any("Authorization" in headers for _, headers in other.requests)


def test_a_redirection_from_https_to_http_is_refused(server: WebServer, sample: Sample, certificate: Path) -> None:
    def downgrade(request: Request) -> None:
        request.refuse(302, location=f"{server.url}{request.path}")

    with (
        tls_server(sample, certificate, downgrade) as first,
        pytest.raises(Unavailable, match="not https"),
    ):
        read(first, sample, WebOptions(tls=trusting(certificate)))
    assert server.requests == []


def test_a_signed_address_that_ran_out_is_asked_for_again(sample: Sample, server: WebServer) -> None:
    signatures: list[str] = []

    def storage(request: Request) -> None:
        if request.path.partition("?")[2] == signatures[-1] and len(signatures) != 6:
            request.serve()
        else:
            request.refuse(403)

    def sign(request: Request) -> None:
        signatures.append(f"s{len(signatures)}")
        request.refuse(302, location=f"{other.url}{request.path}?{signatures[-1]}")

    server.script = sign
    with WebServer(sample.directory, storage) as other:
        assert read(server, sample) == PLAIN_WEIGHTS
