"""Our codecs beside two independent ones: tpm2-pytss (the C marshalling of tpm2-tss) and a TPM itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tpm2_pytss import ESAPI, ESYS_TR, TPM2_ALG, TPM2_ST, TSS2_Exception
from tpm2_pytss.types import (
    TPM2B_DATA,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPML_PCR_SELECTION,
    TPMS_ATTEST,
    TPMT_PUBLIC,
    TPMT_SIG_SCHEME,
    TPMT_SIGNATURE,
)

from nodeseal.crypto.signatures import SignatureVerifier
from nodeseal.tpm.algorithms import HashAlg
from nodeseal.tpm.attest import Certified, Created, Quoted, decode_attest, encode_attest
from nodeseal.tpm.buffer import Reader
from nodeseal.tpm.ek_template import TEMPLATES, identify_ek_template, template
from nodeseal.tpm.pcr import decode_pcr_selection, pcr_digest
from nodeseal.tpm.policy import policy_pcr, policy_secret_endorsement
from nodeseal.tpm.public import decode_public, decode_public_2b
from nodeseal.tpm.signature import decode_signature, encode_signature
from support.software_ak import SoftwareAk
from support.tpm_tools import AK_ATTRIBUTES, TpmTools, tpm_tools
from support.tpm_values import ATTESTED, PUBLICS, SELECTION, attest

SCHEMES = [("P256", "ecdsa-sha256"), ("P384", "ecdsa-sha384"), ("2048", "rsassa-sha256"), ("2048", "rsapss-sha256")]


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TpmTools]:
    with tpm_tools(tmp_path_factory.mktemp("tpm")) as running:
        running.run("tpm2_pcrextend", "1:sha256=" + "11" * 32)
        yield running


@pytest.mark.parametrize("kind", ATTESTED)
def test_pytss_reads_and_writes_the_same_attestation(kind: str) -> None:
    ours = attest(ATTESTED[kind])
    theirs, rest = TPMS_ATTEST.unmarshal(encode_attest(ours))
    assert rest == len(encode_attest(ours))
    assert bytes(theirs.qualifiedSigner) == ours.qualified_signer
    assert bytes(theirs.extraData) == ours.extra_data
    assert (theirs.clockInfo.clock, theirs.clockInfo.resetCount) == (ours.clock_info.clock, ours.clock_info.reset_count)
    assert (theirs.firmwareVersion, theirs.clockInfo.safe) == (ours.firmware_version, 1)
    match ours.attested:
        case Quoted(_, digest):
            assert (theirs.type, bytes(theirs.attested.quote.pcrDigest)) == (TPM2_ST.ATTEST_QUOTE, digest)
        case Certified(name, _):
            assert (theirs.type, bytes(theirs.attested.certify.name)) == (TPM2_ST.ATTEST_CERTIFY, name)
        case Created(_, creation_hash):
            assert bytes(theirs.attested.creation.creationHash) == creation_hash
    assert decode_attest(theirs.marshal()) == ours


@pytest.mark.parametrize("kind", PUBLICS)
def test_pytss_reads_and_names_the_same_public_area(kind: str) -> None:
    ours = PUBLICS[kind]
    theirs, _ = TPMT_PUBLIC.unmarshal(ours.encode())
    assert bytes(theirs.get_name()) == ours.name()
    assert int(theirs.objectAttributes) == int(ours.attributes)
    assert decode_public(theirs.marshal()) == ours


@pytest.mark.parametrize(("kind", "scheme"), SCHEMES)
def test_pytss_reads_and_verifies_the_same_signature(kind: str, scheme: str) -> None:
    ak = SoftwareAk.of(kind, scheme)
    raw = ak.sign_raw(b"message")
    theirs, _ = TPMT_SIGNATURE.unmarshal(raw)
    assert decode_signature(theirs.marshal()) == decode_signature(raw)
    if scheme != "rsapss-sha256":  # pytss expects the salt to be as long as the hash
        theirs.verify_signature(TPM2B_PUBLIC.from_pem(ak.pem()), b"message")


@pytest.mark.parametrize("text", ["sha256:0,1,7+sha1:10,23", "sha1:0+sha256:23+sha384:8,16+sha512:4"])
def test_pytss_reads_the_same_selection(text: str) -> None:
    theirs = TPML_PCR_SELECTION.parse(text)
    ours = decode_pcr_selection(Reader(theirs.marshal(), "theirs"))
    assert ours is not None
    assert str(ours) == text
    assert ours.encode() == theirs.marshal()


def test_what_a_tpm_quotes_and_certifies_is_read(tools: TpmTools) -> None:
    template_ = TPM2B_PUBLIC.parse("ecc256:ecdsa-sha256:null", objectAttributes=AK_ATTRIBUTES)
    with ESAPI(tools.tcti) as tpm:
        ak, ak_public, *_ = tpm.create_primary(TPM2B_SENSITIVE_CREATE(), template_, ESYS_TR.ENDORSEMENT)
        try:
            quoted, signature = tpm.quote(ak, TPML_PCR_SELECTION.parse(str(SELECTION)), TPM2B_DATA(b"nonce"))
            certified, _ = tpm.certify(ak, ak, b"nonce", TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL))
            _, _, values = tpm.pcr_read(TPML_PCR_SELECTION.parse(str(SELECTION)))
        finally:
            tpm.flush_context(ak)
    ours = decode_attest(bytes(quoted))
    assert (ours.quoted.selection, ours.extra_data) == (SELECTION, b"nonce")
    assert ours.quoted.pcr_digest == pcr_digest(HashAlg.SHA256, map(bytes, values))
    public = decode_public(ak_public.publicArea.marshal())
    assert decode_attest(bytes(certified)).certified.name == public.name()
    raw = signature.marshal()
    assert encode_signature(decode_signature(raw)) == raw
    SignatureVerifier(public).verify_decoded(decode_signature(raw), bytes(quoted))


def test_a_quote_of_nothing_is_read_as_such(tools: TpmTools) -> None:
    template_ = TPM2B_PUBLIC.parse("ecc256:ecdsa-sha256:null", objectAttributes=AK_ATTRIBUTES)
    with ESAPI(tools.tcti) as tpm:
        ak, *_ = tpm.create_primary(TPM2B_SENSITIVE_CREATE(), template_, ESYS_TR.ENDORSEMENT)
        quoted, _ = tpm.quote(ak, TPML_PCR_SELECTION(()), TPM2B_DATA(b""))
        tpm.flush_context(ak)
    assert decode_attest(bytes(quoted)).quoted.selection is None


@pytest.mark.parametrize("name", [each.name for each in TEMPLATES])
def test_a_tpm_makes_an_endorsement_key_from_our_template(tools: TpmTools, name: str) -> None:
    area, _ = TPMT_PUBLIC.unmarshal(template(name).public.encode())
    with ESAPI(tools.tcti) as tpm:
        try:
            ek, made, *_ = tpm.create_primary(
                TPM2B_SENSITIVE_CREATE(), TPM2B_PUBLIC(publicArea=area), ESYS_TR.ENDORSEMENT
            )
        except TSS2_Exception:
            if name != "H-7":
                raise
            pytest.skip("this software TPM makes no RSA 4096 keys")
        tpm.flush_context(ek)
    assert identify_ek_template(decode_public(made.publicArea.marshal())) is template(name)


@pytest.mark.parametrize(("algorithm", "name"), [("rsa", "L-1"), ("ecc", "L-2")])
def test_the_endorsement_key_of_tpm2_createek_is_traced_to_its_template(
    tools: TpmTools, algorithm: str, name: str
) -> None:
    public = tools.folder / f"ek.{algorithm}"
    tools.run("tpm2_createek", "-G", algorithm, "-c", tools.folder / "ek.ctx", "-u", public)
    assert identify_ek_template(decode_public_2b(public.read_bytes())).name == name


@pytest.mark.parametrize("selection", ["sha256:0", "sha256:1,15+sha1:0", "sha384:7+sha256:0,1,2,3,23"])
@pytest.mark.parametrize("policy_hash", [HashAlg.SHA256, HashAlg.SHA384])
def test_a_tpm_computes_the_same_pcr_policy(tools: TpmTools, selection: str, policy_hash: HashAlg) -> None:
    session, policy, values = (tools.folder / name for name in ("session", "policy", "values"))
    tools.run("tpm2_startauthsession", "-S", session, "-g", policy_hash.hashlib_name)
    tools.run("tpm2_policypcr", "-S", session, "-l", selection, "-L", policy)
    tools.run("tpm2_flushcontext", session)
    tools.run("tpm2_pcrread", selection, "-o", values)
    ours = decode_pcr_selection(Reader(TPML_PCR_SELECTION.parse(selection).marshal(), "selection"))
    assert ours is not None
    digest = pcr_digest(policy_hash, [values.read_bytes()])
    assert policy_pcr(ours, digest, policy_hash) == policy.read_bytes()


def test_a_tpm_computes_the_same_policy_secret(tools: TpmTools) -> None:
    session, policy = tools.folder / "session", tools.folder / "policy"
    tools.run("tpm2_startauthsession", "-S", session, "-g", "sha256")
    tools.run("tpm2_policysecret", "-S", session, "-c", "e", "-L", policy)
    tools.run("tpm2_flushcontext", session)
    assert policy_secret_endorsement() == policy.read_bytes()
