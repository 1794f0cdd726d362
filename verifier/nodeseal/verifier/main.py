"""``nodeseal-verifier``: sets up and runs a verifier, and manages the people who operate it.

Exit codes: 0 done, 1 refused or failed, 2 misused. A command imports what it needs when it is called, since help and
mistakes need none of it.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Annotated, Final

import typer

from nodeseal.errors import NodesealError
from nodeseal.ids import parse_person_id, parse_trust_domain
from nodeseal.program import HELP_NAMES, VersionOption, asks_for_json, plain_error
from nodeseal.verifier.backup_commands import BACKUP_EXAMPLE, RESTORE_EXAMPLE, backup, restore
from nodeseal.verifier.log_commands import LOG_KEY_EXAMPLE, NEW_ORIGIN_EXAMPLE, log_key, new_origin
from nodeseal.verifier.person_commands import ConfigOption, JsonOption, parsed, person_app, rules_app

app = typer.Typer(
    no_args_is_help=True,
    context_settings=HELP_NAMES,
    pretty_exceptions_enable=False,
    help="Appraise nodes and release model keys to those that have proved what they run.",
    epilog="Start here: nodeseal-verifier init /etc/nodeseal/verifier --trust-domain example.org --ek-roots vendors/",
)
app.add_typer(person_app, name="person")
app.add_typer(rules_app, name="rules")
ek_app = typer.Typer(no_args_is_help=True, help="Understand the certificates of endorsement keys.")
app.add_typer(ek_app, name="ek")

app.command("backup", epilog=BACKUP_EXAMPLE)(backup)
app.command("restore", epilog=RESTORE_EXAMPLE)(restore)
app.command("log-key", epilog=LOG_KEY_EXAMPLE)(log_key)
app.command("new-origin", epilog=NEW_ORIGIN_EXAMPLE)(new_origin)

GRPC_VARIABLES: Final = {
    "GRPC_VERBOSITY": "NONE",  # peers can cause its lines; they are not JSON, and wait
    "GRPC_EXPERIMENTS": "-event_engine_listener,-event_engine_client,-event_engine_for_all_other_endpoints",
}
"""What gRPC reads when it is loaded. With these experiments, threads of its own would read sockets and hand over what
they read to the one that waits."""
_COLLECT_AFTER = 50_000
"""New objects between two searches for cycles. Rounds leave none, so Python's 700 would search too often."""


def _address(text: str) -> str:
    from nodeseal.verifier.config import split_address

    split_address(text)
    return text


def _pair(first: Path | None, second: Path | None, names: str) -> tuple[Path, Path] | None:
    if first is not None and second is not None:
        return first, second
    if first is None and second is None:
        return None
    raise typer.BadParameter(f"{names} go together")


@app.callback()
def _options(*, _version: VersionOption = False) -> None:
    """Appraise nodes and release model keys to those that have proved what they run."""


@app.command(
    "init",
    epilog="Example: nodeseal-verifier init ./verifier --trust-domain example.org "
    "--server-name verifier.example.org --ek-roots ./vendors",
)
def init_command(  # noqa: PLR0913, PLR0917 - one parameter per option
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    trust_domain: Annotated[
        str, typer.Option(parser=parsed(parse_trust_domain), metavar="NAME", help="SPIFFE trust domain.")
    ],
    server_name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="DNS name or IP address of the verifier; repeat for more.")
    ] = None,
    listen: Annotated[
        str, typer.Option(parser=parsed(_address), metavar="HOST:PORT", help="Address for nodes and people.")
    ] = "127.0.0.1:7443",
    listen_enrol: Annotated[
        str, typer.Option(parser=parsed(_address), metavar="HOST:PORT", help="Address for enrolment.")
    ] = "127.0.0.1:7444",
    ek_roots: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Certificates of the TPM vendors you trust, in subfolders as you like."),
    ] = None,
    admin: Annotated[
        str, typer.Option(parser=parsed(parse_person_id), metavar="NAME", help="The first person.")
    ] = "admin",
    ca_cert: Annotated[Path | None, typer.Option(metavar="PEM", help="Your own certificate authority.")] = None,
    ca_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key.")] = None,
    server_cert: Annotated[Path | None, typer.Option(metavar="PEM", help="Your own server certificate.")] = None,
    server_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Its private key.")] = None,
) -> None:
    """Make a folder with certificates, database, keys, settings and the first person's client."""
    from nodeseal.verifier.enrolment.explanation import vendor_lines
    from nodeseal.verifier.setup import OwnCertificates, SetupPlan, initialise

    own = OwnCertificates(
        authority=_pair(ca_cert, ca_key, "--ca-cert and --ca-key"),
        server=_pair(server_cert, server_key, "--server-cert and --server-key"),
    )
    plan = SetupPlan(
        trust_domain=trust_domain,
        server_names=tuple(server_name or ("localhost", "127.0.0.1")),
        listen=listen,
        listen_enrol=listen_enrol,
        ek_roots=ek_roots,
        admin=parse_person_id(admin),
        own=own,
    )
    now = datetime.now(UTC)
    vendors = initialise(folder, plan, now)
    typer.echo(f"verifier: {folder / 'verifier.yaml'}\nclient:   {folder / 'persons' / admin}")
    for line in vendor_lines(vendors, now):
        typer.echo(line)


@app.command("run", epilog="Example: nodeseal-verifier run --config /etc/nodeseal/verifier/verifier.yaml")
def run_command(config: ConfigOption) -> None:
    """Serve nodes and people until SIGTERM."""
    for name, value in GRPC_VARIABLES.items():
        os.environ.setdefault(name, value)
    gc.set_threshold(_COLLECT_AFTER)
    import structlog
    import uvloop

    from nodeseal.logs import configure_logs
    from nodeseal.verifier.checks.start import proved
    from nodeseal.verifier.config import load_config
    from nodeseal.verifier.keys.stores import open_key_stores
    from nodeseal.verifier.wiring import serve

    settings = load_config(config)
    configure_logs(settings.log_style)
    for setting in settings.retired:
        structlog.get_logger().warning("setting ignored", setting=setting, remedy=f"delete it from {config}")
    with proved(settings, config, datetime.now(UTC)) as vendors:
        uvloop.run(serve(settings, open_key_stores(settings), vendors))  # a PIN is asked for while Ctrl-C still works


@app.command("check", epilog="Example: nodeseal-verifier check --config /etc/nodeseal/verifier/verifier.yaml --json")
def check_command(config: ConfigOption, as_json: JsonOption = False) -> None:  # noqa: FBT002 - a flag
    """Check everything that `run` checks before it is ready, and show all faults; exit code 1 if it would not start.

    It changes nothing, and may run beside a running verifier.
    """
    from nodeseal.checks.faults import report_lines
    from nodeseal.verifier.checks.start import fault_of, faults_beside
    from nodeseal.verifier.config import load_config

    holder = ""
    try:
        faults, holder = faults_beside(load_config(config), config, datetime.now(UTC))
    except NodesealError as error:
        faults = (fault_of(error),)
    if as_json:
        typer.echo(json.dumps({"faults": [fault.to_json() for fault in faults], "running": holder}, indent=2))
    else:
        typer.echo("\n".join(report_lines(faults)) or "no fault found")
        if holder:
            typer.echo(f"running  {holder}; its ports were not checked")
    if any(fault.fatal for fault in faults):
        raise typer.Exit(1)


@app.command(
    "renew-server", epilog="Example: nodeseal-verifier renew-server --config /etc/nodeseal/verifier/verifier.yaml"
)
def renew_server_command(
    config: ConfigOption,
    server_name: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="DNS name or IP address; repeat; as before if left out.")
    ] = None,
) -> None:
    """Make a new key and certificate for the server; a running verifier serves them from the next connection on."""
    from nodeseal.verifier.config import load_config
    from nodeseal.verifier.setup import renew_server

    settings = load_config(config)
    until = renew_server(settings, tuple(server_name or ()), datetime.now(UTC))
    typer.echo(f"{settings.tls.certificate}: valid until {until:%Y-%m-%d}")


@app.command("upgrade", epilog="Example: nodeseal-verifier upgrade --config /etc/nodeseal/verifier/verifier.yaml")
def upgrade_command(config: ConfigOption) -> None:
    """Upgrade database and keys to this version; stop the verifier first."""
    from nodeseal.verifier.checks.start import claimed
    from nodeseal.verifier.config import load_config
    from nodeseal.verifier.ledger.log import has_begun, has_tree, load_mac_key, make_mac_key, open_log, open_tree
    from nodeseal.verifier.ledger.tree.log_tree import LogTree, load_log_key, make_log_key
    from nodeseal.verifier.people.rulebook import set_first_rules
    from nodeseal.verifier.setup import make_ear_key
    from nodeseal.verifier.store.database import opened_engine, require_database
    from nodeseal.verifier.store.migrate import migrate

    settings = load_config(config)
    require_database(settings.database)
    with claimed(settings), opened_engine(settings.database) as engine:
        migrate(engine)
        make_ear_key(settings.ear_key)
        if not has_begun(engine):
            make_mac_key(settings.acts_key)
        mac_key = load_mac_key(settings.acts_key)
        open_log(engine, mac_key, datetime.now(UTC))
        if not has_tree(engine):
            make_log_key(settings.log_key)
        open_tree(engine, mac_key, LogTree(load_log_key(settings.log_key), settings.trust_domain, settings.checkpoint))
        set_first_rules(engine, mac_key, datetime.now(UTC))


@app.command("ear-key", epilog="Example: nodeseal-verifier ear-key --config verifier.yaml > verifier.jwk")
def ear_key_command(config: ConfigOption) -> None:
    """Print the public key that tokens about nodes are verified with, as a JSON Web Key."""
    from nodeseal.files import read_private
    from nodeseal.verifier.config import load_config
    from nodeseal.verifier.results.tokens import EarSigner

    typer.echo(EarSigner(read_private(load_config(config).ear_key, "keys.ear")).public_jwk)


@ek_app.command(
    "check",
    epilog="Example: tpm2_nvread -o ek.der 0x1c0000a && nodeseal-verifier ek check ek.der --ek-roots ./vendors",
)
def ek_check(
    certificates: Annotated[
        list[Path],
        typer.Argument(metavar="CERT", help="The key's certificate; then authorities that the TPM holds, if any."),
    ],
    ek_roots: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Certificates of the TPM vendors you trust.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", metavar="FILE", help="Take them from this verifier.yaml.")
    ] = None,
) -> None:
    """Explain how a certificate chains to a vendor you trust, or why it does not; exit code 1 if it is refused."""
    from nodeseal.files import read_small
    from nodeseal.verifier.enrolment.endorsement import MAX_CHAIN
    from nodeseal.verifier.enrolment.explanation import explain_chain
    from nodeseal.verifier.enrolment.vendors import load_vendors
    from nodeseal.x509.certificate import decode_certificate_file

    vendors = load_vendors(_vendor_folder(ek_roots, config), "vendors")
    files = [decode_certificate_file(read_small(path, MAX_CHAIN), str(path)) for path in certificates]
    leaf, *others = chain.from_iterable(files)
    explained = explain_chain(leaf, others, vendors, datetime.now(UTC))
    typer.echo("\n".join(explained.lines))
    if not explained.good:
        raise typer.Exit(1)


def _vendor_folder(ek_roots: Path | None, config: Path | None) -> Path:
    if ek_roots is not None and config is None:
        return ek_roots
    if config is not None and ek_roots is None:
        from nodeseal.verifier.config import load_config

        return load_config(config).enrolment.ek_roots
    raise typer.BadParameter("give either --ek-roots or --config")


def main() -> None:
    """Run the command line and end the process with its exit code."""
    try:
        app()
    except NodesealError as error:
        hint = f"\n  {error.remedy}" if error.remedy else ""
        sys.stderr.write(f"nodeseal-verifier: {error}{hint}\n")
        if asks_for_json(sys.argv):
            typer.echo(json.dumps(plain_error(error), indent=2))
        sys.exit(1)
