"""`maintenance`: begins or ends the maintenance mode of a running sidecar."""

from __future__ import annotations

import click

from sidecar.commands.operator_options import admin_option, password_file_option, user_option
from sidecar.commands.options import config_option
from sidecar.commands.read_or_fail import fail
from sidecar.commands.top import operator_client


@click.command(short_help="Turn maintenance mode on or off.")
@click.argument("state", type=click.Choice(["on", "off"]))
@config_option
@admin_option
@user_option
@password_file_option
@click.option("--text", help="The text for clients.")
@click.option("--retry-after", metavar="DURATION", help="When clients may ask again, such as 10m (the default).")
@click.option("--all", "everywhere", is_flag=True, help="On all instances (`operator.siblings`).")
def maintenance(
    state: str,
    config: str,
    admin: str | None,
    user: str | None,
    password_file: str | None,
    text: str | None,
    retry_after: str | None,
    everywhere: bool,
) -> None:
    """Answer clients 503 with a text. Requests of other servers are still served, or wait.

    It survives a reload. A restart of the sidecar ends it.
    """
    from sidecar.top.operator_client import SilentSidecarError

    given = {"text": text, "retry_after": retry_after, "all": "" if everywhere else None}
    values = {name: value for name, value in given.items() if value is not None}
    try:
        click.echo(operator_client(config, admin, user, password_file).maintain(state == "on", values))
    except SilentSidecarError as error:
        fail(str(error))
