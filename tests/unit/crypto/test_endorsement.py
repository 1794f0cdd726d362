from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from nodeseal.crypto import endorsement
from nodeseal.crypto.endorsement import EkChain, Oddity, certified_form, examine_ek_chain, verify_ek_chain
from nodeseal.crypto.issuance import signature_fault
from nodeseal.crypto.weak_keys import weakness
from nodeseal.errors import ProofFailed
from nodeseal.findings import FindingId
from nodeseal.tpm.algorithms import CurveId
from nodeseal.tpm.ek_template import template
from nodeseal.tpm.public import EccPublic, RsaPublic
from nodeseal.x509.certificate import Certificate, EcKey, RsaKey, decode_certificate
from support import certificates as made
from support.certificates import AT, EK, EK_CERTIFICATE, INTERMEDIATE, ROOT, RSA_EK, ec_key, name, rsa_key
from support.vendor_certificates import ek_certificate, vendor_authorities

CRITICAL_UNKNOWN = made.extension("1.2.3.4", b"", critical=True)
NAMED_ONLY = replace(EK, extensions=(made.usage(4), made.tpm_names()))


def printable_name(text: str) -> bytes:
    """Encode a common name as PrintableString; :func:`name` makes it a UTF8String."""
    return made.sequence(made.tlv(0x31, made.sequence(made.oid("2.5.4.3"), made.tlv(0x13, text.encode()))))


def verify(
    leaf: made.Facts = EK,
    intermediate: made.Facts = INTERMEDIATE,
    root: made.Facts = ROOT,
    *,
    at: datetime = AT,
) -> EkChain:
    return verify_ek_chain(
        decode_certificate(made.ek_certificate(leaf)),
        [decode_certificate(made.intermediate(intermediate))],
        [decode_certificate(made.root(root))],
        at,
    )


def findings(refused: pytest.ExceptionInfo[ProofFailed]) -> list[FindingId]:
    return [finding.id for finding in refused.value.findings]


def test_a_good_chain_verifies() -> None:
    chain = verify()
    assert [each.subject for each in chain.path] == [EK.subject, INTERMEDIATE.subject, ROOT.subject]
    assert chain.tpm_model.model == "Test"
    assert chain.key == decode_certificate(made.ek_certificate()).key


@pytest.mark.parametrize(
    ("leaf", "intermediate", "root"),
    [
        pytest.param(RSA_EK, INTERMEDIATE, ROOT, id="RSA key below ECDSA authorities, as Intel's"),
        pytest.param(replace(EK, not_after="99991231235959Z"), INTERMEDIATE, ROOT, id="a certificate without end"),
        pytest.param(NAMED_ONLY, INTERMEDIATE, ROOT, id="a TPM's name without a purpose"),
        pytest.param(
            replace(EK, extensions=(made.usage(4), made.extended_usage(EK_CERTIFICATE))),
            INTERMEDIATE,
            ROOT,
            id="a purpose without a TPM's name",
        ),
        pytest.param(
            replace(EK, issuer=name("  INTERmediate ")), INTERMEDIATE, ROOT, id="names that differ in case and space"
        ),
        pytest.param(
            EK, replace(INTERMEDIATE, issuer=printable_name("Root")), ROOT, id="names in another type of string"
        ),
        pytest.param(EK, replace(INTERMEDIATE, extensions=ROOT.extensions), ROOT, id="authority for any use"),
        pytest.param(
            EK, INTERMEDIATE, replace(ROOT, issuer=name("Someone")), id="a root that is signed by someone else"
        ),
        pytest.param(
            EK,
            INTERMEDIATE,
            replace(ROOT, extensions=(made.constraints(ca=True, path_length=1), made.usage(5))),
            id="a path length that is just enough",
        ),
    ],
)
def test_variants_of_a_good_chain_verify(leaf: made.Facts, intermediate: made.Facts, root: made.Facts) -> None:
    assert len(verify(leaf, intermediate, root).path) == 3


@pytest.mark.parametrize("moment", ["2025-01-01T00:00:00+00:00", "2035-01-01T00:00:00+00:00"])
def test_both_ends_of_validity_are_valid(moment: str) -> None:
    verify(at=datetime.fromisoformat(moment))


@pytest.mark.parametrize(
    ("extensions", "seen"),
    [
        pytest.param((made.constraints(ca=True), made.usage(4), made.tpm_names()), "cA", id="an authority"),
        pytest.param((made.constraints(ca=False), made.tpm_names()), "none", id="no key usage"),
        pytest.param((made.usage(0), made.tpm_names()), "bits", id="a signing key"),
        pytest.param((made.usage(4), made.extended_usage("2.23.133.8.3")), "2.23.133.8.3", id="an AK certificate"),
        pytest.param((made.usage(4), made.extended_usage("2.5.29.37.0")), "2.5.29.37.0", id="any use"),
        pytest.param(
            (made.usage(4), made.extended_usage("1.3.6.1.5.5.7.3.1"), made.tpm_names()),
            "1.3.6.1.5.5.7.3.1",
            id="a TPM's name and another purpose",
        ),
        pytest.param((made.usage(4),), "no extended key usage, and no TPM", id="neither purpose nor TPM"),
        pytest.param((made.usage(4), made.tpm_names(manufacturer="")), "no TPM", id="a TPM of no manufacturer"),
        pytest.param((made.usage(4), made.tpm_names(model="")), "no TPM", id="a TPM without a model"),
        pytest.param((made.usage(4), made.tpm_names(version="")), "no TPM", id="a TPM without a version"),
        pytest.param(
            (made.usage(4), made.tpm_names(), CRITICAL_UNKNOWN), "1.2.3.4", id="critical extension not understood"
        ),
    ],
)
def test_a_leaf_that_is_no_ek_certificate_is_refused(extensions: tuple[bytes, ...], seen: str) -> None:
    with pytest.raises(ProofFailed, match=seen) as refused:
        verify(replace(EK, extensions=extensions))
    assert findings(refused) == [FindingId.EK_USAGE]


@pytest.mark.parametrize(
    ("leaf", "intermediate", "oddity"),
    [
        pytest.param(
            replace(EK, extensions=(made.usage(2), made.tpm_names())),
            INTERMEDIATE,
            Oddity.EC_KEY_ENCIPHERMENT,
            id="Intel PTT",
        ),
        pytest.param(
            replace(RSA_EK, extensions=(made.usage(4), made.tpm_names())),
            INTERMEDIATE,
            Oddity.RSA_KEY_AGREEMENT,
            id="Microsoft Pluton",
        ),
        pytest.param(
            replace(EK, extensions=(made.usage(4), made.extension("1.3.6.1.4.1.11129.2.1.21", made.NULL))),
            INTERMEDIATE,
            Oddity.CLOUD_INSTANCE,
            id="Google",
        ),
        pytest.param(
            EK, replace(INTERMEDIATE, issuer=printable_name("Root")), Oddity.NAMES_BY_TEXT, id="STMicroelectronics"
        ),
    ],
)
def test_what_vendors_do_is_tolerated_by_name(leaf: made.Facts, intermediate: made.Facts, oddity: Oddity) -> None:
    assert verify(leaf, intermediate).oddities == (oddity,)


@pytest.mark.parametrize("leaf", [EK, RSA_EK])
def test_nothing_is_tolerated_where_nothing_is_odd(leaf: made.Facts) -> None:
    both = made.usage(2, 4)
    assert verify(leaf).oddities == ()
    assert verify(replace(leaf, extensions=(both, *leaf.extensions[2:]))).oddities == ()


@pytest.mark.parametrize("where", ["intermediate", "root"])
@pytest.mark.parametrize(
    "extensions",
    [
        pytest.param((made.usage(5),), id="no basic constraints"),
        pytest.param((made.constraints(ca=False), made.usage(5)), id="no authority"),
        pytest.param((made.constraints(ca=True),), id="no key usage"),
        pytest.param((made.constraints(ca=True), made.usage(0, 6)), id="may not sign certificates"),
        pytest.param(
            (made.constraints(ca=True), made.usage(5), made.extended_usage("1.3.6.1.5.5.7.3.1")), id="for TLS"
        ),
        pytest.param((made.constraints(ca=True), made.usage(5), CRITICAL_UNKNOWN), id="critical extension"),
        pytest.param(
            (made.constraints(ca=True), made.usage(5), made.extension("2.5.29.30", b"0\0", critical=True)),
            id="name constraints",
        ),
    ],
)
def test_an_issuer_that_may_not_issue_is_refused(where: str, extensions: tuple[bytes, ...]) -> None:
    chain = {"intermediate": INTERMEDIATE, "root": ROOT}
    chain[where] = replace(chain[where], extensions=extensions)
    with pytest.raises(ProofFailed) as refused:
        verify(EK, chain["intermediate"], chain["root"])
    assert findings(refused) == [FindingId.EK_USAGE]


def test_a_path_longer_than_an_authority_allows_is_refused() -> None:
    with pytest.raises(ProofFailed, match="at most 0 authorities below, seen 1") as refused:
        verify(root=replace(ROOT, extensions=(made.constraints(ca=True, path_length=0), made.usage(5))))
    assert findings(refused) == [FindingId.EK_USAGE]


@pytest.mark.parametrize(
    ("leaf", "intermediate", "root"),
    [
        pytest.param(replace(EK, not_after="20260301000000Z"), INTERMEDIATE, ROOT, id="leaf ran out"),
        pytest.param(replace(EK, not_before="20260401000000Z"), INTERMEDIATE, ROOT, id="leaf to come"),
        pytest.param(EK, replace(INTERMEDIATE, not_after="20260301000000Z"), ROOT, id="intermediate ran out"),
        pytest.param(EK, INTERMEDIATE, replace(ROOT, not_after="20260301000000Z"), id="root ran out"),
    ],
)
def test_a_certificate_that_is_not_valid_now_is_refused(
    leaf: made.Facts, intermediate: made.Facts, root: made.Facts
) -> None:
    with pytest.raises(ProofFailed) as refused:
        verify(leaf, intermediate, root)
    assert findings(refused) == [FindingId.EK_EXPIRED]


@pytest.mark.parametrize(
    ("leaf", "intermediate", "root"),
    [
        pytest.param(replace(EK, issuer=name("Another")), INTERMEDIATE, ROOT, id="issuer not there"),
        pytest.param(EK, replace(INTERMEDIATE, issuer=name("Another")), ROOT, id="root not there"),
    ],
)
def test_a_chain_to_no_trusted_root_is_refused(leaf: made.Facts, intermediate: made.Facts, root: made.Facts) -> None:
    with pytest.raises(ProofFailed) as refused:
        verify(leaf, intermediate, root)
    assert findings(refused) == [FindingId.EK_UNTRUSTED_ROOT]


def test_without_roots_nothing_is_trusted() -> None:
    leaf, intermediate = decode_certificate(made.ek_certificate()), decode_certificate(made.intermediate())
    root = decode_certificate(made.root())
    with pytest.raises(ProofFailed) as refused:
        verify_ek_chain(leaf, [intermediate, root], [], AT)
    assert findings(refused) == [FindingId.EK_UNTRUSTED_ROOT]


def test_an_authority_without_a_name_issues_nothing() -> None:
    with pytest.raises(ProofFailed) as refused:
        verify(replace(EK, issuer=made.sequence()), replace(INTERMEDIATE, subject=made.sequence()))
    assert findings(refused) == [FindingId.EK_UNTRUSTED_ROOT]


@pytest.mark.parametrize(
    ("leaf", "intermediate", "seen"),
    [
        pytest.param(EK, replace(INTERMEDIATE, key=made.key_info(ec_key("x"))), "not by the issuer", id="another key"),
        pytest.param(
            replace(EK, algorithm=made.RSA_SHA1),
            replace(INTERMEDIATE, key=made.key_info(rsa_key("authority"))),
            "SHA-1 with RSA",
            id="SHA-1",
        ),
        pytest.param(
            replace(EK, algorithm=replace(made.RSA_SHA1, identifier=made.rsa_algorithm(4, hashes.SHA1()).identifier)),  # noqa: S303
            replace(INTERMEDIATE, key=made.key_info(rsa_key("authority"))),
            "MD5 with RSA",
            id="MD5",
        ),
        pytest.param(
            replace(EK, algorithm=made.RSA_SHA256),
            replace(INTERMEDIATE, key=made.key_info(rsa_key("weak authority", 1024))),
            "1024 bits",
            id="RSA 1024",
        ),
        pytest.param(
            EK,
            replace(INTERMEDIATE, key=made.key_info(ec_key("weak", ec.SECP224R1()))),
            "P224",
            id="P-224",
        ),
        pytest.param(
            EK,
            replace(INTERMEDIATE, key=made.key_info(rsa_key("authority"))),
            "signature algorithm 1.2.840.10045.4.3.2",
            id="ECDSA by an RSA key",
        ),
    ],
)
def test_a_signature_that_does_not_hold_is_refused(leaf: made.Facts, intermediate: made.Facts, seen: str) -> None:
    signer = _SIGNERS.get(leaf.algorithm.identifier, ec_key("intermediate"))
    raw = leaf.sign(rsa_key("weak authority", 1024) if "1024" in seen else signer)
    with pytest.raises(ProofFailed, match=seen) as refused:
        verify_ek_chain(
            decode_certificate(raw),
            [decode_certificate(made.intermediate(intermediate))],
            [decode_certificate(made.root())],
            AT,
        )
    assert findings(refused) == [FindingId.EK_UNTRUSTED_ROOT, FindingId.EK_SIGNATURE]


_SIGNERS: dict[bytes, made.PrivateKey] = {
    made.RSA_SHA1.identifier: rsa_key("authority"),
    made.rsa_algorithm(4, hashes.SHA256()).identifier: rsa_key("authority"),
    made.RSA_SHA256.identifier: rsa_key("authority"),
}


def test_one_flipped_bit_of_the_signature_is_refused() -> None:
    raw = bytearray(made.ek_certificate())
    raw[-1] ^= 1
    with pytest.raises(ProofFailed) as refused:
        verify_ek_chain(
            decode_certificate(bytes(raw)),
            [decode_certificate(made.intermediate())],
            [decode_certificate(made.root())],
            AT,
        )
    assert FindingId.EK_SIGNATURE in findings(refused)


def test_all_that_is_wrong_is_named() -> None:
    with pytest.raises(ProofFailed) as refused:
        verify(
            replace(EK, extensions=(made.tpm_names(),), not_after="20260301000000Z"),
            replace(INTERMEDIATE, extensions=(made.usage(5),)),
        )
    assert findings(refused) == [FindingId.EK_USAGE, FindingId.EK_EXPIRED, FindingId.EK_USAGE]


def test_another_path_is_taken_where_the_first_is_wrong() -> None:
    old = decode_certificate(made.intermediate(replace(INTERMEDIATE, not_after="20260301000000Z")))
    new = decode_certificate(made.intermediate())
    chain = verify_ek_chain(
        decode_certificate(made.ek_certificate()), [old, new], [decode_certificate(made.root())], AT
    )
    assert chain.path[1] == new


def test_of_several_wrong_paths_the_best_is_told() -> None:
    worse = decode_certificate(made.intermediate(replace(INTERMEDIATE, not_after="20260301000000Z", extensions=())))
    better = decode_certificate(made.intermediate(replace(INTERMEDIATE, not_after="20260301000000Z")))
    for authorities in ([worse, better], [better, worse]):
        with pytest.raises(ProofFailed) as refused:
            verify_ek_chain(
                decode_certificate(made.ek_certificate()), authorities, [decode_certificate(made.root())], AT
            )
        assert findings(refused) == [FindingId.EK_EXPIRED]


def _ladder(rungs: int) -> tuple[Certificate, list[Certificate], Certificate]:
    """Return a leaf, ``rungs`` intermediates and a root, all signed with one key."""
    key = ec_key("root")
    facts = replace(ROOT, extensions=(made.constraints(ca=True), made.usage(5)))
    steps = [replace(facts, subject=name(f"step {i}"), issuer=name(f"step {i + 1}")) for i in range(rungs)]
    root = replace(facts, subject=name(f"step {rungs}"), issuer=name(f"step {rungs}"))
    leaf = replace(EK, issuer=name("step 0"))
    return (
        decode_certificate(leaf.sign(key)),
        [decode_certificate(step.sign(key)) for step in steps],
        decode_certificate(root.sign(key)),
    )


def test_six_certificates_are_the_longest_path() -> None:
    leaf, steps, root = _ladder(4)
    assert len(verify_ek_chain(leaf, steps, [root], AT).path) == 6
    leaf, steps, root = _ladder(5)
    with pytest.raises(ProofFailed) as refused:
        verify_ek_chain(leaf, steps, [root], AT)
    assert findings(refused) == [FindingId.EK_UNTRUSTED_ROOT]


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """Return the list of all signatures that are checked: certificate and issuer."""
    found: list[tuple[bytes, bytes]] = []

    def counted(certificate: Certificate, issuer: Certificate) -> str:
        found.append((certificate.raw, issuer.raw))
        return signature_fault(certificate, issuer)

    monkeypatch.setattr(endorsement, "signature_fault", counted)
    return found


def test_the_search_ends_whatever_is_presented(checked: list[tuple[bytes, bytes]]) -> None:
    """Sixteen authorities of one name and different keys, each certified by each, have 16^5 paths."""
    facts = replace(ROOT, subject=name("loop"), issuer=name("loop"))
    keys = [ec_key(f"loop {number}") for number in range(16)]
    loop = [
        decode_certificate(replace(facts, key=made.key_info(key), serial=made.integer(i)).sign(keys[i - 1]))
        for i, key in enumerate(keys)
    ]
    leaf = decode_certificate(replace(EK, issuer=name("loop")).sign(keys[0]))
    with pytest.raises(ProofFailed, match="more than 32 signatures"):
        verify_ek_chain(leaf, loop, [decode_certificate(made.root())], AT)
    assert len(checked) == 32
    assert len(set(checked)) == 32


def test_copies_of_an_authority_are_tried_once_on_a_path(checked: list[tuple[bytes, bytes]]) -> None:
    """Five certificates of one name and one key prove no more than one of them."""
    key = ec_key("copied")
    facts = replace(ROOT, subject=name("copy"), issuer=name("Copy"), key=made.key_info(key))
    copies = [decode_certificate(replace(facts, serial=made.integer(i)).sign(key)) for i in range(5)]
    leaf = decode_certificate(replace(EK, issuer=name("copy")).sign(key))
    with pytest.raises(ProofFailed):
        verify_ek_chain(leaf, copies, [decode_certificate(made.root())], AT)
    assert checked == [(leaf.raw, copy.raw) for copy in copies]


def test_a_signature_is_checked_once_however_many_ways_lead_to_it(checked: list[tuple[bytes, bytes]]) -> None:
    leaf, (first, second), _ = _ladder(2)
    copy = replace(ROOT, subject=name("step 0"), issuer=name("step 1"), key=made.key_info(ec_key("root")))
    again = decode_certificate(replace(copy, serial=made.integer(99)).sign(ec_key("root")))
    liar = decode_certificate(made.root(replace(ROOT, subject=name("step 2"), key=made.key_info(ec_key("liar")))))
    with pytest.raises(ProofFailed):
        verify_ek_chain(leaf, [first, again, second, liar], [], AT)
    assert (second.raw, liar.raw) in checked
    assert len(checked) == len(set(checked)) == 5


def test_the_search_ends_with_the_first_good_path(checked: list[tuple[bytes, bytes]]) -> None:
    leaf, root = decode_certificate(made.ek_certificate()), decode_certificate(made.root())
    first, second = (decode_certificate(made.intermediate(INTERMEDIATE)) for _ in range(2))
    assert verify_ek_chain(leaf, [first, second], [root], AT).path == (leaf, first, root)
    assert len(checked) == 2


def test_two_authorities_that_certify_each_other_are_no_chain(checked: list[tuple[bytes, bytes]]) -> None:
    one, other = ec_key("one"), ec_key("other")
    first = replace(ROOT, subject=name("one"), issuer=name("other"), key=made.key_info(one)).sign(other)
    second = replace(ROOT, subject=name("other"), issuer=name("one"), key=made.key_info(other)).sign(one)
    leaf = decode_certificate(replace(EK, issuer=name("one")).sign(one))
    with pytest.raises(ProofFailed) as refused:
        verify_ek_chain(leaf, list(map(decode_certificate, (first, second))), [decode_certificate(made.root())], AT)
    assert findings(refused) == [FindingId.EK_UNTRUSTED_ROOT]
    assert len(checked) == 2


def test_a_chain_that_ends_nowhere_is_told_as_far_as_it_goes() -> None:
    leaf, steps, _ = _ladder(2)
    examined = examine_ek_chain(leaf, steps, [], AT)
    assert (examined.complete, list(examined.path)) == (False, [leaf, *steps])
    assert examined.findings[0].seen == "issuer step 2"


def test_a_root_may_be_issued_by_another_authority() -> None:
    """An operator may trust a factory's authority and nobody above it."""
    leaf, intermediate = decode_certificate(made.ek_certificate()), decode_certificate(made.intermediate())
    assert verify_ek_chain(leaf, [], [intermediate], AT).path == (leaf, intermediate)


def test_keys_compare_with_public_areas() -> None:
    rsa_template, ecc_template = template("L-1").public, template("L-2").public
    assert isinstance(rsa_template, RsaPublic)
    assert isinstance(ecc_template, EccPublic)
    assert certified_form(replace(rsa_template, modulus=b"\0\x05")) == RsaKey(5, 65537)
    assert certified_form(replace(rsa_template, modulus=b"\x05", exponent=3)) == RsaKey(5, 3)
    assert certified_form(replace(ecc_template, x=b"\x01", y=b"\0\x02")) == EcKey(CurveId.P256, 1, 2)


_WHEN = datetime(2024, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def vendors() -> list[Certificate]:
    return [decode_certificate(raw) for raw in vendor_authorities()]


def _roots(vendors: list[Certificate]) -> list[Certificate]:
    return [each for each in vendors if each.self_issued]


@pytest.mark.parametrize(
    ("file_name", "authorities"),
    [
        ("stm-rsa-ca05-padded.der", 3),
        ("stm-rsa-ca06-x1carbon.der", 3),
        ("infineon-rsa-ca035-slb9670.der", 2),
        ("infineon-ecc-ca035-slb9670.der", 2),
        ("infineon-rsa-ca029-slb9665-h12ssl.der", 2),
        ("nuvoton-rsa-malformed-set.der", 1),
        ("google-vtpm-rsa-ek-v1.der", 2),
        ("google-vtpm-ecc-ek-v1.der", 2),
        ("google-vtpm-rsa-ek-v3.der", 2),
        ("intel-ptt-spth-rsa.der", 2),
    ],
)
def test_real_certificates_chain_to_their_makers(vendors: list[Certificate], file_name: str, authorities: int) -> None:
    leaf = decode_certificate(ek_certificate(file_name))
    chain = verify_ek_chain(leaf, vendors, _roots(vendors), _WHEN)
    assert len(chain.path) == 1 + authorities
    assert not weakness(chain.key)


def test_a_real_certificate_without_its_root_is_refused(vendors: list[Certificate]) -> None:
    leaf = decode_certificate(ek_certificate("intel-ptt-spth-rsa.der"))
    others = [root for root in _roots(vendors) if b"Intel" not in root.subject]
    with pytest.raises(ProofFailed) as refused:
        verify_ek_chain(leaf, vendors, others, _WHEN)
    assert FindingId.EK_UNTRUSTED_ROOT in findings(refused)


def test_a_real_ak_certificate_is_no_ek_certificate(vendors: list[Certificate]) -> None:
    leaf = decode_certificate(ek_certificate("azure-vtpm-ak-03.der"))
    with pytest.raises(ProofFailed) as refused:
        verify_ek_chain(leaf, vendors, _roots(vendors), datetime(2026, 8, 1, tzinfo=UTC))
    assert findings(refused) == [FindingId.EK_USAGE, FindingId.EK_USAGE, FindingId.EK_UNTRUSTED_ROOT]
