"""`routes`: the command. Which rows there are is worked out in `listing`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from sidecar.commands.checking import WARNED
from sidecar.commands.fitting_table import table, terminal_width
from sidecar.commands.listing import Row, as_json, rows_in_force
from sidecar.commands.options import config_option, json_option, no_ask_option
from sidecar.commands.read_or_fail import read_or_fail
from sidecar.errors import nearest_name, unknown_name
from sidecar.loading.deployment import Deployment
from sidecar.routing.forming import sentences

_TITLES = ("METHODS", "PATH", "POOL", "AFFINITY", "WORKERS", "FALLBACK", "WHY")
_STYLES = (None, "bold", "cyan", None, "green", None, None)


@click.command(short_help="List every endpoint with its pool and workers.")
@config_option
@no_ask_option
@json_option
@click.option("--pool", metavar="NAME", help="Only endpoints of this pool.")
@click.option("--grep", "text", metavar="TEXT", help="Only rows in which TEXT appears; case does not matter.")
def routes(config: str, no_ask: bool, in_json: bool, pool: str | None, text: str | None) -> None:
    """List every endpoint with its pool and workers, and why it goes there.

    On a terminal, columns are cut to fit its width. In a pipe, nothing is cut. Exit status: 1 if no row matches
    --pool and --grep.
    """
    deployment = read_or_fail(config, ask=not no_ask)
    rows = [row for row in rows_in_force(deployment) if _is_wanted(row, deployment, pool, text)]
    if in_json:
        click.echo(json.dumps(as_json(deployment.table.release, rows), indent=1))
    elif rows:
        _print(rows, [] if pool or text else list(sentences(deployment.plan)))
    if not rows:
        click.echo(_nothing(deployment, pool, text), err=True)
        raise SystemExit(WARNED)


def _is_wanted(row: Row, deployment: Deployment, pool: str | None, text: str | None) -> bool:
    if pool is not None and row.pool != _pool_named(pool, deployment):
        return False
    return text is None or any(text.lower() in cell.lower() for cell in (*_cells(row), row.endpoint))


def _pool_named(name: str, deployment: Deployment) -> str:
    """The pool of this name. Ends the command where there is none."""
    pools = deployment.plan.pools
    if name not in pools:
        raise click.UsageError(f"--pool: {unknown_name('pool', name, pools)}")
    return name


def _nothing(deployment: Deployment, pool: str | None, text: str | None) -> str:
    if text is None:
        return f"Nothing goes to pool {pool}."
    of_pool = f" of pool {pool}" if pool else ""
    words = {word for row in deployment.plan.rows for word in (*row.endpoint.path, row.endpoint.name, row.pool)}
    near = nearest_name(text.strip("/"), sorted(words))
    return f"{text!r} appears in no row{of_pool}." + (f" Did you mean {near}?" if near else "")


def _print(rows: Sequence[Row], remarks: Sequence[str]) -> None:
    lines, is_cut = table(_TITLES, [_cells(row) for row in rows], _STYLES, terminal_width())
    click.echo("\n".join(lines))
    for line in ["", *remarks] if remarks else []:
        click.echo(line)
    if is_cut:
        click.echo("\nColumns are cut to fit. To see everything: matrix-sidecar routes | less -S", err=True)


def _cells(row: Row) -> tuple[str, ...]:
    outcome = row.pool if row.action == "forward" else f"{row.action} {row.status or ''}".rstrip()
    nobody = "nobody" if row.action == "forward" else "-"
    reserve = f" ({','.join(row.reserve)})" if row.reserve else ""
    names = (",".join(row.sharing) + reserve or nobody, ",".join(row.fallback) or "-")
    return (",".join(row.methods), row.path, outcome, row.affinity or "-", *names, row.reason)
