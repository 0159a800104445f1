"""`doctor`: an installation that runs, tested from end to end. Prints; what is tested is in `sidecar.doctor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from sidecar.commands.checking import FAILED
from sidecar.commands.questions import EndpointKind
from sidecar.config.passwords import PlainPassword, secret_of
from sidecar.errors import ConfigError
from sidecar.install import units
from sidecar.loading.deployment import DEFAULT_PATH, Deployment, deployment_of

if TYPE_CHECKING:
    from sidecar.doctor.examination import Wishes
    from sidecar.doctor.findings import Finding

_STYLES = {"fine": "green", "unknown": "cyan", "warning": "yellow", "error": "red"}
LONGEST = 600.0
"""Seconds of --slow at most."""


@click.command()
@click.option(
    "-c", "--config", metavar="FILE", type=click.Path(), default=DEFAULT_PATH, show_default=True, help="Configuration."
)
@click.option("--public", metavar="URL", help="Where clients connect to: the proxy in front is tested, too.")
@click.option(
    "--connect-to", metavar="ADDRESS[:PORT]", default="", help="Go there for --public, whatever its name says."
)
@click.option("--ca", metavar="FILE", type=click.Path(exists=True), help="Certificates to trust for --public.")
@click.option("--well-known", metavar="URL", help="Where the server's name leads; else https:// and that name.")
@click.option(
    "--slow",
    metavar="SECONDS",
    type=click.FloatRange(1, LONGEST),
    is_flag=False,
    flag_value=100.0,
    help="Also wait for an answer that takes so long, 100 unless said otherwise, through --public.",
)
@click.option(
    "--admin",
    metavar="ENDPOINT",
    type=EndpointKind(),
    multiple=True,
    help="The operator's listener, of each instance; else that of the file and those of the units.",
)
@click.option("--password-file", metavar="FILE", type=click.Path(exists=True), help="The operator's password.")
@click.option(
    "--run-as", metavar="NAME", help="User of the sidecar, by whom reach is judged; else that of a running one."
)
@click.option("--json", "in_json", is_flag=True, help="Print JSON.")
def doctor(config: str, in_json: bool, password_file: str | None, **options: Any) -> None:
    """Test a running installation, from the proxy in front to each worker, and print what to mend.

    Exit status: 0 everything that was tested is fine, 1 warnings only, 2 errors.
    """
    from sidecar.doctor.examination import Examination
    from sidecar.doctor.findings import Level, status_of

    try:
        deployment = deployment_of(config, ask=True)
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(FAILED) from None
    wishes = _wishes(password=_password(deployment, password_file), **options)
    examination = Examination(deployment=deployment, wishes=wishes)
    told: list[tuple[str, Finding]] = []
    try:
        for area, findings in examination.areas():
            told += [(area, finding) for finding in _print(area, findings, quiet=in_json)]
    except units.NoUserError as error:
        raise click.UsageError(str(error)) from None
    status = status_of(finding for _, finding in told)
    if in_json:
        click.echo(json.dumps({"status": status, "findings": [_as_json(*each) for each in told]}, indent=1))
    else:
        counts = [sum(finding.level is level for _, finding in told) for level in (Level.ERROR, Level.WARNING)]
        click.secho(f"\n{_counted(*counts)}", bold=True)
    raise SystemExit(status)


def _wishes(
    *,
    public: str | None,
    connect_to: str,
    ca: str | None,
    well_known: str | None,
    slow: float | None,
    admin: tuple[str, ...],
    password: bytes | None,
    run_as: str | None,
) -> Wishes:
    from sidecar.doctor.examination import Wishes
    from sidecar.doctor.public import Public

    try:
        return Wishes(
            admin=admin,
            password=password,
            run_as=run_as,
            public=None if public is None else Public.of(public, connect_to, ca),
            well_known=None if well_known is None else Public.of(well_known, ca=ca).place,
            slow=slow,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None


def _password(deployment: Deployment, file: str | None) -> bytes | None:
    """The operator's: from a file where it stands as it is, else from who sits at the terminal."""
    secret = deployment.secret if file is None else secret_of(None, file)[0]
    if isinstance(secret, PlainPassword):
        return secret.octets
    if secret is None or not sys.stdin.isatty():
        return None
    asked: str = click.prompt(f"Password of {deployment.settings.operator.user}", hide_input=True, err=True)
    return asked.encode("utf-8", "surrogateescape")


def _print(area: str, findings: Iterable[Finding], *, quiet: bool) -> list[Finding]:
    """Print each as it is found, because some take their time."""
    told = []
    for number, finding in enumerate(findings):
        told.append(finding)
        if quiet:
            continue
        if not number:
            click.secho(f"\n{area}", bold=True)
        word = finding.level.value
        click.echo(f"  {click.style(word.ljust(7), fg=_STYLES[word])}  {finding.sentence}")
        if finding.mend:
            click.echo(f"           {finding.mend}")
        sys.stdout.flush()
    return told


def _as_json(area: str, finding: Finding) -> dict[str, str]:
    return {"area": area, "level": finding.level.value, "sentence": finding.sentence, "mend": finding.mend}


def _counted(errors: int, warnings: int) -> str:
    if not errors and not warnings:
        return "Everything that was tested is fine."
    parts = [
        f"{count} {word}{'s' * (count > 1)}" for count, word in ((errors, "error"), (warnings, "warning")) if count
    ]
    return f"{' and '.join(parts)}."
