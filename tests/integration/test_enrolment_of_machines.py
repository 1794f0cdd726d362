"""The verifier's enrolment checks against software TPMs: ours, and those that swtpm_setup manufactures."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from nodeseal.agent.tpm.connection import Connection
from nodeseal.agent.tpm.device import Device
from nodeseal.agent.tpm.failures import TpmFailed
from nodeseal.crypto.endorsement import verify_ek_chain
from nodeseal.crypto.tls_key import certificate_request, new_tls_key
from nodeseal.ids import node_id_of
from nodeseal.swtpm.vendor import TpmVendor
from nodeseal.tpm.algorithms import CurveId
from nodeseal.tpm.ek_template import identity_name
from nodeseal.verifier.enrolment.credential import CredentialChallenge
from nodeseal.verifier.enrolment.endorsement import EnrolmentPolicy
from nodeseal.verifier.enrolment.identity import Candidate, ClaimedIdentity, check_identity
from nodeseal.verifier.enrolment.vendors import load_vendors, sort_vendors
from nodeseal.x509.certificate import EcKey, RsaKey, decode_certificate
from support.machines import a_machine, a_vendor, need

SECRET = bytes(range(32))


@pytest.fixture(scope="module")
def vendor() -> Iterator[TpmVendor]:
    with a_vendor() as vendor:
        yield vendor


@pytest.fixture(scope="module")
def policy(vendor: TpmVendor) -> EnrolmentPolicy:
    return EnrolmentPolicy(vendors=load_vendors(vendor.roots_dir, "roots"), ek_allow=frozenset())


@contextmanager
def a_device(vendor: TpmVendor, ek: str) -> Iterator[Device]:
    with a_machine(vendor, ek=ek) as machine:
        device = Device(Connection(machine.tcti), bytes(range(64)))
        try:
            yield device
        finally:
            device.close()


def candidate_of(device: Device, policy: EnrolmentPolicy) -> Candidate:
    identity = device.identity()
    claimed = ClaimedIdentity(
        ek_public=identity.ek_public,
        ek_certificates=identity.ek_certificates,
        ek_chain=identity.ek_chain,
        ak_public=identity.ak_public,
        certificate_request=certificate_request(new_tls_key(), "node"),
    )
    return check_identity(claimed, policy, datetime.now(UTC))


@pytest.mark.parametrize("ek", ["L-1", "L-2", "H-2", "H-3"])
def test_a_machine_is_accepted_and_proves_its_keys(vendor: TpmVendor, policy: EnrolmentPolicy, ek: str) -> None:
    with a_device(vendor, ek) as device:
        candidate = candidate_of(device, policy)
        challenge = CredentialChallenge(candidate, SECRET)
        answer = device.activate(challenge.credential.id_object, challenge.credential.encrypted_secret)
        assert challenge.activate(answer) is candidate
    assert candidate.ek_template == ek
    assert candidate.node_id == node_id_of(identity_name(candidate.ek))


def test_e03_keys_of_two_machines_prove_nothing(vendor: TpmVendor, policy: EnrolmentPolicy) -> None:
    with a_device(vendor, "L-2") as mine, a_device(vendor, "L-2") as theirs:
        made = CredentialChallenge(candidate_of(theirs, policy), SECRET).credential
        with pytest.raises(TpmFailed):
            mine.activate(made.id_object, made.encrypted_secret)


@pytest.fixture(scope="module")
def manufactured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the certificates that swtpm_setup and swtpm_localca make: ca/ and ek-*.crt."""
    need("swtpm_setup", "swtpm_localca")
    folder = tmp_path_factory.mktemp("swtpm")
    ca = folder / "ca"
    (folder / "localca.conf").write_text(
        f"statedir = {ca}\nsigningkey = {ca}/key.pem\nissuercert = {ca}/issuer.pem\ncertserial = {ca}/serial\n"
    )
    (folder / "localca.options").write_text("--platform-manufacturer Test\n--platform-version 1\n--platform-model M\n")
    (folder / "setup.conf").write_text(
        f"create_certs_tool = swtpm_localca\n"
        f"create_certs_tool_config = {folder}/localca.conf\n"
        f"create_certs_tool_options = {folder}/localca.options\n"
    )
    for option in (), ("--ecc",):
        state = folder / f"state{len(option)}"
        state.mkdir()
        command = [
            *("swtpm_setup", "--tpm2", "--tpmstate", str(state), "--create-ek-cert"),
            *("--config", str(folder / "setup.conf"), "--write-ek-cert-files", str(folder), *option),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.parametrize(("file_name", "curve"), [("ek-rsa2048.crt", None), ("ek-secp384r1.crt", CurveId.P384)])
def test_certificates_of_swtpm_setup_verify(manufactured: Path, file_name: str, curve: CurveId | None) -> None:
    files = {path.name: path.read_bytes() for path in manufactured.glob("ca/*cert.pem")}
    files["issuer"] = (manufactured / "ca" / "issuer.pem").read_bytes()
    vendors = sort_vendors(files)
    leaf = decode_certificate((manufactured / file_name).read_bytes())
    chain = verify_ek_chain(leaf, vendors.intermediates, vendors.roots, datetime.now(UTC))
    assert chain.tpm_model.model == "swtpm"
    assert isinstance(chain.key, RsaKey) if curve is None else isinstance(chain.key, EcKey) and chain.key.curve is curve
