from __future__ import annotations

from pathlib import Path

import pytest

from nodeseal.agent import config as config_module
from nodeseal.agent.config import load_config
from nodeseal.agent.egress.limits import EgressConfig
from nodeseal.agent.evidence.host import HostFiles
from nodeseal.agent.local.callers import CallerRule
from nodeseal.egress.document import Level
from nodeseal.errors import MalformedInput
from nodeseal.logs import LogStyle

GOOD = """\
verifier:
  address: "verifier.example:7443"
  enrol_address: "verifier.example:7444"
  ca_file: ca.pem
tcti: "device:/dev/tpmrm0"
state_directory: /var/lib/nodeseal-agent
socket: /run/nodeseal/keys.sock
callers:
  - uid: 1000
"""
EXAMPLE = Path(__file__).resolve().parents[3] / "deploy" / "agent.example.yaml"


def written(folder: Path, text: str) -> Path:
    path = folder / "agent.yaml"
    path.write_text(text)
    return path


def test_a_short_file_has_safe_defaults(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, GOOD))
    assert config.verifier.ca_file == tmp_path / "ca.pem"
    assert config.callers == (CallerRule(uid=1000),)
    assert (config.on_revocation, config.log_style, config.retired) == ((), LogStyle.JSON, ())
    assert config.host.boot_id == Path("/proc/sys/kernel/random/boot_id")
    assert config.host.boot_log == Path("/sys/kernel/security/tpm0/binary_bios_measurements")
    assert config.host.ima_log.name.startswith("binary_runtime_measurements")
    assert config.host.firmware == Path("/sys/class/dmi/id")
    assert config.endorsement_auth_file is None


def test_every_setting_is_read(tmp_path: Path) -> None:
    text = GOOD.replace(
        "  - uid: 1000",
        f'  - {{uid: 1000, gid: 100, executable_sha256: "{"ab" * 32}", unit: vllm.service}}\n'
        "on_revocation:\n  - [/bin/systemctl, stop, vllm.service]\n"
        "revocation_timeout_seconds: 5\ntpm_timeout_seconds: 6\nboot_id_file: id\n"
        "boot_log: boot\nima_log: ima\nfirmware_directory: dmi\nlog_format: console\n"
        "hostname: gpu-17\nendorsement_auth_file: secret",
    ).replace("  ca_file: ca.pem", "  ca_file: ca.pem\n  server_name: localhost")
    config = load_config(written(tmp_path, text))
    rule = CallerRule(uid=1000, gid=100, executable_sha256=b"\xab" * 32, unit="vllm.service")
    assert config.callers == (rule,)
    assert config.on_revocation == (("/bin/systemctl", "stop", "vllm.service"),)
    assert (config.revocation_timeout_seconds, config.tpm_timeout_seconds) == (5, 6)
    assert config.host == HostFiles(
        boot_id=tmp_path / "id", boot_log=tmp_path / "boot", ima_log=tmp_path / "ima", firmware=tmp_path / "dmi"
    )
    assert config.log_style is LogStyle.CONSOLE
    assert config.hostname == "gpu-17"
    assert config.endorsement_auth_file == tmp_path / "secret"
    assert config.verifier.server_name == "localhost"


@pytest.mark.parametrize("present", [True, False])
def test_the_ima_log_of_the_strongest_bank_is_taken_where_the_kernel_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, present: bool
) -> None:
    of_sha256 = tmp_path / "binary_runtime_measurements_sha256"
    if present:
        of_sha256.touch()
    monkeypatch.setattr(config_module, "_IMA_LOG_OF_SHA256", of_sha256)
    name = "binary_runtime_measurements_sha256" if present else "binary_runtime_measurements"
    assert load_config(written(tmp_path, GOOD)).host.ima_log.name == name


def test_egress_limits_are_named_by_their_file_and_normal_unless_said_otherwise(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, GOOD)).egress is None
    plain = load_config(written(tmp_path, GOOD + "egress: {file: egress.yaml}\n")).egress
    assert plain == EgressConfig(file=tmp_path / "egress.yaml", level=Level.NORMAL)
    tight = load_config(written(tmp_path, GOOD + "egress: {file: /etc/e.yaml, level: tight}\n")).egress
    assert tight == EgressConfig(file=Path("/etc/e.yaml"), level=Level.TIGHT)


def test_an_empty_list_of_callers_is_accepted_and_allows_nobody(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, GOOD.replace("callers:\n  - uid: 1000", "callers: []"))).callers == ()


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        pytest.param("tcti:", "tctl:", "tcti is missing", id="a misspelt key"),
        pytest.param("tcti:", "colour: red\ntcti:", "line 5: unknown key: 'colour'", id="an unknown key"),
        pytest.param("  - uid: 1000", "  - gid: 1000", "uid is missing", id="a rule without a user"),
        pytest.param(
            "  - uid: 1000", "  - {uid: 1000, exe: x}", "unknown key: 'exe'", id="a rule with an unknown fact"
        ),
        pytest.param("  - uid: 1000", "  - {uid: -1}", "uid is not an integer from 0", id="a negative user id"),
        pytest.param("callers:\n  - uid: 1000\n", "", "callers is missing", id="no rules at all"),
        pytest.param("verifier.example:7443", "verifier.example", "host:port", id="an address without a port"),
        pytest.param(
            "callers:", "on_revocation: [reboot]\ncallers:", "list of commands", id="a command that needs a shell"
        ),
        pytest.param("callers:", "log_format: xml\ncallers:", "json or console", id="an unknown log format"),
        pytest.param(
            "callers:", "egress: {file: e, level: low}\ncallers:", "level is not one of normal", id="no level"
        ),
        pytest.param("callers:", "egress: {level: tight}\ncallers:", "file is missing", id="limits without a file"),
        pytest.param("callers:", "egress: {file: e, x: 1}\ncallers:", "unknown key: 'x'", id="unknown egress"),
        pytest.param("/run/nodeseal", "/run/" + "n" * 120, "socket is not", id="a socket path that is too long"),
    ],
)
def test_a_wrong_setting_is_refused_with_file_and_key(tmp_path: Path, old: str, new: str, error: str) -> None:
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(MalformedInput) as caught:
        load_config(path)
    assert error in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", ["15", "8", '"fifteen"'])
def test_a_setting_of_the_first_release_is_accepted_and_named(tmp_path: Path, value: str) -> None:
    config = load_config(written(tmp_path, f"cap_pcr: {value}\n{GOOD}"))
    assert config.retired == ("cap_pcr",)


def test_the_example_is_a_configuration() -> None:
    config = load_config(EXAMPLE)
    assert config.tcti == "device:/dev/tpmrm0"
    assert config.callers
