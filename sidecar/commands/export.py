"""`matrix-sidecar export`: the routing as a file for another proxy, and whether such a file is out of date."""

from __future__ import annotations

from difflib import unified_diff
from pathlib import Path

import click

from sidecar.commands.checking import CLEAN, WARNED
from sidecar.commands.options import config_option, no_ask_option
from sidecar.commands.read_or_fail import fail, read_or_fail
from sidecar.exporting.caddy import caddy
from sidecar.exporting.haproxy import haproxy
from sidecar.exporting.model import exported
from sidecar.exporting.nginx import nginx

PROGRAMS = {"nginx": nginx, "haproxy": haproxy, "caddy": caddy}


@click.command(short_help="Write the routing for nginx, HAProxy or Caddy.")
@click.argument("program", type=click.Choice(list(PROGRAMS)))
@config_option
@no_ask_option
@click.option("-o", "--output", metavar="DIR", type=click.Path(path_type=Path), help="Write the file into DIR.")
@click.option(
    "--check", "used", metavar="FILE", type=click.Path(path_type=Path), help="Compare FILE with a fresh export."
)
def export(program: str, config: str, no_ask: bool, output: Path | None, used: Path | None) -> None:
    """Print the same routing as an nginx, HAProxy or Caddy configuration.

    Use it if you cannot run the sidecar, or to go back. The comment at the top of the file lists what the other program
    cannot do. Exit status with --check: 0 up to date, 1 out of date, 2 error.
    """
    if output is not None and used is not None:
        raise click.UsageError("Use either -o, to write, or --check, to compare.")
    deployment = read_or_fail(config, ask=not no_ask)
    ((name, text),) = PROGRAMS[program](
        exported(deployment.plan, deployment.settings, deployment.table.release)
    ).items()
    try:
        if used is not None:
            raise SystemExit(_compare(used, text))
        if output is None:
            click.echo(text, nl=False)
        else:
            output.mkdir(parents=True, exist_ok=True)
            (output / name).write_text(text, encoding="utf-8")
            click.echo(f"wrote {output / name}", err=True)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")


def _compare(used: Path, fresh: str) -> int:
    """Print the difference; 1 if there is any."""
    old = used.read_text(encoding="utf-8", errors="backslashreplace").splitlines()
    lines = list(unified_diff(old, fresh.splitlines(), str(used), "fresh export", lineterm=""))
    click.echo("\n".join(lines) if lines else f"{used} is up to date")
    return WARNED if lines else CLEAN
