"""`doctor`: an installation that runs, tested from end to end. Prints; what is tested is in `sidecar.doctor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from enum import Enum
from typing import TYPE_CHECKING, Any

import click

from sidecar.commands.checking import FAILED
from sidecar.commands.operator_options import password_file_option
from sidecar.commands.options import config_option, json_option
from sidecar.commands.progress import progress
from sidecar.commands.questions import EndpointKind
from sidecar.config.passwords import PlainPassword, secret_of
from sidecar.errors import ConfigError
from sidecar.install import units
from sidecar.loading.deployment import Deployment, deployment_of
from sidecar.plurals import counted

if TYPE_CHECKING:
    from sidecar.doctor.examination import Examination, Wishes
    from sidecar.doctor.findings import Finding

_STYLES = {"fine": "green", "unknown": "cyan", "warning": "yellow", "error": "red"}
LONGEST = 600.0
"""The maximum of --slow, in seconds."""
JSON_VERSION = 1
"""Of `doctor --json`; raised when a key of it goes or changes its meaning (docs/doctor.schema.json)."""


class Shown(Enum):
    """What is printed of the findings."""

    ALL = "all"
    FAULTS = "faults"
    JSON = "json"


@click.command(short_help="Test a running installation from end to end.")
@config_option
@click.option("--public", metavar="URL", help="Where clients connect. Also tests the proxy in front.")
@click.option(
    "--connect-to", metavar="ADDRESS[:PORT]", default="", help="Connect there for --public, whatever DNS says."
)
@click.option("--ca", metavar="FILE", type=click.Path(exists=True), help="Certificates to trust for --public.")
@click.option("--well-known", metavar="URL", help="Where .well-known is. Default: https:// and the server's name.")
@click.option(
    "--slow",
    metavar="SECONDS",
    type=click.FloatRange(1, LONGEST),
    is_flag=False,
    flag_value=100.0,
    help="Also wait this long for a slow answer through --public (default: 100).",
)
@click.option(
    "--admin",
    metavar="ENDPOINT",
    type=EndpointKind(),
    multiple=True,
    help="Operator's listener of an instance; repeatable. Default: `admin` in the file, and those of the units.",
)
@password_file_option
@click.option(
    "--run-as", metavar="NAME", help="Check access to sockets as this user. Default: the user of a running sidecar."
)
@click.option("-q", "--quiet", is_flag=True, help="Print only warnings and errors; nothing if there are none.")
@json_option
def doctor(config: str, quiet: bool, in_json: bool, password_file: str | None, **options: Any) -> None:
    """Test a running installation, from the proxy in front to each worker, and print what to fix.

    Exit status, also with --quiet and --json: 0 all tests passed, 1 warnings only, 2 errors.
    """
    from sidecar.doctor.examination import Examination

    shown = Shown.JSON if in_json else Shown.FAULTS if quiet else Shown.ALL
    try:
        deployment = deployment_of(config, ask=True)
    except ConfigError as error:
        raise SystemExit(_print_unusable(error, shown)) from None
    wishes = _wishes(password=_password(deployment, password_file), **options)
    try:
        told = _examined(Examination(deployment=deployment, wishes=wishes), shown)
    except units.NoUserError as error:
        raise click.UsageError(str(error)) from None
    raise SystemExit(_print_end(told, shown))


def _examined(examination: Examination, shown: Shown) -> list[tuple[str, Finding]]:
    """Every finding with its area; printed as it is found, because some take their time."""
    told: list[tuple[str, Finding]] = []
    watched = shown is Shown.ALL and sys.stdout.isatty()
    with progress("Testing", len(examination.names), hidden=watched) as step:
        step(0, examination.names[0])
        for number, (area, findings) in enumerate(examination.areas(), start=1):
            told += [(area, finding) for finding in _print(area, findings, shown)]
            step(1, "".join(examination.names[number : number + 1]))
    if shown is Shown.FAULTS:
        for area in examination.names:
            _print(area, [each for where, each in told if where == area and each.is_fault], Shown.ALL)
    return told


def _print_end(told: list[tuple[str, Finding]], shown: Shown) -> int:
    from sidecar.doctor.findings import Level, status_of

    status = status_of(finding for _, finding in told)
    if shown is Shown.JSON:
        _print_json(status, [_as_json(*each) for each in told])
    elif shown is Shown.ALL:
        counts = [sum(finding.level is level for _, finding in told) for level in (Level.ERROR, Level.WARNING)]
        click.secho(f"\n{_counted(*counts)}", bold=True)
    return status


def _print_unusable(error: ConfigError, shown: Shown) -> int:
    """A configuration with which nothing can be tested."""
    if shown is Shown.JSON:
        levels = [(each.severity.value, each.told()) for each in error.problems]
        found = [{"area": "Configuration", "level": level, "sentence": told, "mend": ""} for level, told in levels]
        _print_json(FAILED, found)
    else:
        click.echo(str(error), err=True)
    return FAILED


def _print_json(status: int, findings: list[dict[str, str]]) -> None:
    click.echo(json.dumps({"version": JSON_VERSION, "status": status, "findings": findings}, indent=1))


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


def _print(area: str, findings: Iterable[Finding], shown: Shown) -> list[Finding]:
    """Print each as it is found, if all are shown."""
    told = []
    for number, finding in enumerate(findings):
        told.append(finding)
        if shown is not Shown.ALL:
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
        return "All tests passed."
    parts = [counted(count, word) for count, word in ((errors, "error"), (warnings, "warning")) if count]
    return f"{' and '.join(parts)}."
