"""The one list of checks of an agent's setup, for its start and for ``nodeseal-agent check``, and who it can reach.

What waiting cannot heal is fatal. A TPM, a log or a verifier that is away may come back, so these are warnings.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final

from nodeseal.agent.config import AgentConfig
from nodeseal.agent.egress.host import read_document
from nodeseal.agent.egress.limits import EgressConfig
from nodeseal.agent.egress.nft import Nft
from nodeseal.agent.evidence.host import read_boot_id
from nodeseal.agent.identity import StateDirectory
from nodeseal.agent.tpm.password import is_credential, read_endorsement_password
from nodeseal.checks.certificates import read_certificates, validity_faults
from nodeseal.checks.faults import Check, Fault, passed
from nodeseal.checks.files import Named, file_faults, folder_faults, private_folder_faults, secret_faults
from nodeseal.checks.reach import Server, reach_faults
from nodeseal.errors import NodesealError

_CA: Final = "verifier.ca_file"
_DEVICE: Final = "device:"
_CORRECT: Final = "correct the setting, or put the file there"


def checks_of(config: AgentConfig, file: Path, now: datetime) -> tuple[Check, ...]:
    """Return all checks of a setup that ask nobody else.

    Args:
        config: the settings.
        file: where they stand.
        now: the current time.
    """

    def check(field: str, place: Path, find: Callable[..., Iterable[Fault]], *facts: object) -> Check:
        return Check(field, place, partial(find, *facts), _CORRECT)

    state, host = config.state_directory, config.host
    return (
        check("--config", file, file_faults, Named("--config", file)),
        check(_CA, config.verifier.ca_file, _authority_faults, Named(_CA, config.verifier.ca_file), now),
        check("boot_id_file", host.boot_id, _boot_id_faults, host.boot_id),
        check("state_directory", state, _state_faults, Named("state_directory", state)),
        check("socket", config.socket, _socket_faults, Named("socket", config.socket)),
        check("endorsement_auth_file", state, _password_faults, config.endorsement_auth_file),
        check("on_revocation", file, _command_faults, config.on_revocation),
        check("tcti", file, _device_faults, config.tcti),
        check("egress.file", file, _egress_faults, config.egress),
        check("boot_log", host.boot_log, _log_faults, Named("boot_log", host.boot_log)),
        check("ima_log", host.ima_log, _log_faults, Named("ima_log", host.ima_log)),
    )


def reach_checks(config: AgentConfig) -> tuple[Check, ...]:
    """Return the checks that connect to the verifier."""
    ca, name = Named(_CA, config.verifier.ca_file), config.verifier.server_name
    addresses = {"verifier.enrol_address": config.verifier.enrol_address, "verifier.address": config.verifier.address}
    return tuple(
        Check(field, ca.path, partial(reach_faults, Server(field=field, address=address, ca=ca, server_name=name)), "")
        for field, address in addresses.items()
    )


def _authority_faults(named: Named, now: datetime) -> Iterator[Fault]:
    """Check the verifier's authority. Its validity is a warning: the clock may be wrong, and be set."""
    if not (yield from passed(file_faults(named))):
        return
    (authority, *others) = read_certificates(named)
    if not (authority.authority or others):
        remedy = "copy the file ca.pem of the verifier's folder"
        yield named.fault("not the certificate of an authority", remedy)
    for fault in validity_faults(named, authority, now, "copy the verifier's new ca.pem"):
        yield replace(fault, fatal=False)


def _boot_id_faults(path: Path) -> Iterator[Fault]:
    if (yield from passed(file_faults(Named("boot_id_file", path)))):
        read_boot_id(path)


def _state_faults(named: Named) -> Iterator[Fault]:
    """Check the state directory and the identity in it; the agent makes a directory that is not there."""
    if not named.path.exists() and not named.path.is_symlink():
        return
    if (yield from passed(private_folder_faults(named))):
        StateDirectory(named.path).peek()


def _socket_faults(named: Named) -> Iterator[Fault]:
    yield from folder_faults(Named(named.field, named.path.parent))
    try:
        mode = named.path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        yield named.fault(
            "something else than a socket is there", f"move it away, or name another place in {named.field}"
        )


def _password_faults(path: Path | None) -> Iterator[Fault]:
    if path is None:
        return
    named = Named("endorsement_auth_file", path)
    if (yield from passed(file_faults(named) if is_credential(path) else secret_faults(named, os.geteuid()))):
        read_endorsement_password(path)


def _command_faults(commands: tuple[tuple[str, ...], ...]) -> Iterator[Fault]:
    """Check that the stop actions can be run: nobody sees them fail until they are needed."""
    for program, *_ in commands:
        named = Named("on_revocation", Path(program))
        if not named.path.is_absolute():
            yield named.fault(
                "not an absolute path, so it is looked for in PATH", "name it by its whole path", fatal=False
            )
        elif not named.path.is_file() or not os.access(named.path, os.X_OK):
            yield named.fault(
                "no such program, or not executable", "correct it: leases would end without it", fatal=False
            )


def _device_faults(tcti: str) -> Iterator[Fault]:
    if not tcti.startswith(_DEVICE):
        return
    named = Named("tcti", Path(tcti.removeprefix(_DEVICE)))
    if not named.path.exists():
        remedy = "enable the TPM in the firmware; /dev/tpmrm0 is the kernel's resource manager"
        yield named.fault("no such device", remedy, fatal=False)
    elif not os.access(named.path, os.R_OK | os.W_OK):
        yield named.fault("may not be opened", "let the agent's user be in the group tss", fatal=False)


def _egress_faults(egress: EgressConfig | None) -> Iterator[Fault]:
    """Check the egress file and nft. Both are warnings: whether the node may go without is for its golden to say."""
    if egress is None:
        return
    try:
        read_document(egress.file)
        Nft()
    except NodesealError as error:
        yield Named("egress.file", egress.file).fault(f"no egress limits: {error}", error.remedy, fatal=False)


def _log_faults(named: Named) -> Iterator[Fault]:
    """Warn of a log that is there and cannot be read; one that is not there is no fault."""
    if named.path.exists() and not os.access(named.path, os.R_OK):
        remedy = f"chgrp tss {named.path}, as nodeseal-agent.service does"
        yield named.fault("cannot be read, so it is not sent", remedy, fatal=False)
