"""Configuration: one YAML file, read once, frozen. Relative paths start at the folder of the file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from socket import gethostname
from typing import Final

from nodeseal.agent.calls.channels import VerifierConfig
from nodeseal.agent.egress.limits import EgressConfig
from nodeseal.agent.evidence.host import HostFiles
from nodeseal.agent.local.callers import CallerRule
from nodeseal.documents import Fields
from nodeseal.egress.document import Level
from nodeseal.logs import LogStyle, parse_log_style
from nodeseal.settings import load_yaml

_KERNEL: Final = HostFiles(
    boot_id=Path("/proc/sys/kernel/random/boot_id"),
    boot_log=Path("/sys/kernel/security/tpm0/binary_bios_measurements"),
    ima_log=Path("/sys/kernel/security/ima/binary_runtime_measurements"),
    firmware=Path("/sys/class/dmi/id"),
)
_IMA_LOG_OF_SHA256: Final = _KERNEL.ima_log.with_name("binary_runtime_measurements_sha256")
"""There since Linux 6.10, if the TPM has that bank."""
_MAX_HOSTNAME: Final = 253
_MAX_UID: Final = 2**32 - 2
_DIGEST_SIZE: Final = 32
_MAX_SOCKET_PATH: Final = 107
"""unix(7): sun_path has 108 bytes."""
_CAP_PCR: Final = "cap_pcr"
"""A setting of the first release, which means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """All settings of one agent. ``deploy/agent.example.yaml`` explains each.

    Attributes:
        verifier: where the verifier is.
        tcti: the TPM, as tpm2-tools write it.
        tpm_timeout_seconds: how long one TPM operation may take.
        endorsement_auth_file: file with the password of the TPM's endorsement hierarchy; None: it has none.
        state_directory: identity of this node; only the agent may read it.
        socket: path of the local key socket.
        callers: who may ask there; an empty list allows nobody.
        on_revocation: programs to run when leases end by force, each as argument list; no shell.
        revocation_timeout_seconds: how long each of them may run.
        host: where the kernel shows boot id, firmware and logs.
        egress: the limits of what may leave; None: this node has none.
        hostname: what people call this node.
        log_style: style of log lines.
        retired: settings of older versions that the file still has; they are ignored.
    """

    verifier: VerifierConfig
    tcti: str
    tpm_timeout_seconds: int
    endorsement_auth_file: Path | None = None
    state_directory: Path
    socket: Path
    callers: tuple[CallerRule, ...]
    on_revocation: tuple[tuple[str, ...], ...]
    revocation_timeout_seconds: int
    host: HostFiles
    egress: EgressConfig | None = None
    hostname: str
    log_style: LogStyle
    retired: tuple[str, ...] = ()


def load_config(path: Path) -> AgentConfig:
    """Read the configuration file.

    Raises:
        MalformedInput: naming file, line and key.
    """
    fields, folder = load_yaml(path), path.parent
    config = AgentConfig(
        verifier=_verifier(fields.fields("verifier"), folder),
        tcti=fields.text("tcti"),
        tpm_timeout_seconds=_optional_integer(fields, "tpm_timeout_seconds", 30, high=600),
        endorsement_auth_file=folder / fields.text("endorsement_auth_file")
        if fields.has("endorsement_auth_file")
        else None,
        state_directory=folder / fields.text("state_directory"),
        socket=folder / fields.text("socket", max_length=_MAX_SOCKET_PATH),
        callers=tuple(_caller(item, f"{path}: callers") for item in fields.items("callers")),
        on_revocation=_commands(fields),
        revocation_timeout_seconds=_optional_integer(fields, "revocation_timeout_seconds", 30, high=3600),
        host=_host(fields, folder),
        egress=_egress(fields.fields("egress"), folder) if fields.has("egress") else None,
        hostname=fields.text("hostname", max_length=_MAX_HOSTNAME) if fields.has("hostname") else gethostname(),
        log_style=parse_log_style(fields, "log_format") if fields.has("log_format") else LogStyle.JSON,
        retired=fields.drop(_CAP_PCR),
    )
    fields.done()
    return config


def _verifier(fields: Fields, folder: Path) -> VerifierConfig:
    verifier = VerifierConfig(
        address=_address(fields, "address"),
        enrol_address=_address(fields, "enrol_address"),
        ca_file=folder / fields.text("ca_file"),
        server_name=fields.text("server_name") if fields.has("server_name") else "",
    )
    fields.done()
    return verifier


def _host(fields: Fields, folder: Path) -> HostFiles:
    def path(key: str, default: Path) -> Path:
        return folder / fields.text(key) if fields.has(key) else default

    return HostFiles(
        boot_id=path("boot_id_file", _KERNEL.boot_id),
        boot_log=path("boot_log", _KERNEL.boot_log),
        ima_log=path("ima_log", _IMA_LOG_OF_SHA256 if _IMA_LOG_OF_SHA256.exists() else _KERNEL.ima_log),
        firmware=path("firmware_directory", _KERNEL.firmware),
    )


def _egress(fields: Fields, folder: Path) -> EgressConfig:
    file, wrong = folder / fields.text("file"), fields.wrong("level", f"one of {', '.join(Level)}")
    level = fields.text("level") if fields.has("level") else str(Level.NORMAL)
    if level not in tuple(Level):
        raise wrong
    fields.done()
    return EgressConfig(file=file, level=Level(level))


def _address(fields: Fields, key: str) -> str:
    text = fields.text(key)
    host, colon, port = text.rpartition(":")
    if not host or not colon or not port.isdecimal():
        raise fields.wrong(key, "host:port")
    return text


def _caller(item: object, source: str) -> CallerRule:
    fields = Fields(item, source)
    rule = CallerRule(
        uid=fields.integer("uid", low=0, high=_MAX_UID),
        gid=fields.integer("gid", low=0, high=_MAX_UID) if fields.has("gid") else None,
        executable_sha256=fields.hex("executable_sha256", size=_DIGEST_SIZE)
        if fields.has("executable_sha256")
        else None,
        unit=fields.text("unit", max_length=256) if fields.has("unit") else None,
    )
    fields.done()
    return rule


def _commands(fields: Fields) -> tuple[tuple[str, ...], ...]:
    if not fields.has("on_revocation"):
        return ()
    commands = fields.items("on_revocation", max_items=16)
    if not all(isinstance(c, list) and c and all(isinstance(a, str) for a in c) for c in commands):
        raise fields.wrong("on_revocation", "a list of commands, each a list of texts: [[program, argument]]")
    return tuple(tuple(str(a) for a in c) for c in commands if isinstance(c, list))


def _optional_integer(fields: Fields, key: str, default: int, *, high: int) -> int:
    return fields.integer(key, low=1, high=high) if fields.has(key) else default
