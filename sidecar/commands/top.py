"""`top`: the command, which finds the sidecar and the credentials. What it shows is in `sidecar.top`."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import click

from sidecar.commands.operator_options import admin_option, password_file_option, password_in, user_option
from sidecar.commands.options import config_option
from sidecar.commands.read_or_fail import fail
from sidecar.config.load import load_settings
from sidecar.config.passwords import PlainPassword, secret_of
from sidecar.config.schema import Settings
from sidecar.errors import ConfigError

if TYPE_CHECKING:
    from sidecar.top.operator_client import OperatorClient


@click.command(short_help="Watch a running sidecar in the terminal.")
@config_option
@admin_option
@user_option
@password_file_option
@click.option(
    "--interval",
    metavar="SECONDS",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    help="Time between updates.",
)
@click.option("--once", is_flag=True, help="Print one screen and end. Without a terminal it always does.")
def top(
    config: str, admin: str | None, user: str | None, password_file: str | None, interval: float, once: bool
) -> None:
    """Watch a running sidecar: workers, pools, and what waits or fails. Press `?` for the keys."""
    from sidecar.top.operator_client import SilentSidecarError

    try:
        _show(
            operator_client(config, admin, user, password_file),
            interval,
            once=once or not (sys.stdin.isatty() and sys.stdout.isatty()),
        )
    except SilentSidecarError as error:
        fail(str(error))


def operator_client(config: str, admin: str | None, user: str | None, password_file: str | None) -> OperatorClient:
    """Who asks a running sidecar: where, and with which password. Ends the process where that is unclear."""
    from sidecar.top.operator_client import OperatorClient, place

    settings = None if admin is not None else _settings(config)
    endpoint = admin if settings is None else settings.admin
    if endpoint is None:
        fail(f"{config}: there is no operator's listener; write `admin`, or name it with --admin.")
    try:
        where = place(endpoint)
    except ValueError as error:
        fail(f"{error}.")
    return OperatorClient(where, *credentials(settings, user, password_file))


def _show(operator: OperatorClient, interval: float, *, once: bool) -> None:
    from sidecar.top import terminal

    if once:
        terminal.plain(operator, *shutil.get_terminal_size((100, 60)), click.echo)
    else:
        operator.look()
        try:
            terminal.show(operator, interval, colours=not os.environ.get("NO_COLOR"))
        except terminal.NoScreenError as error:
            fail(str(error))


def _settings(config: str) -> Settings:
    try:
        return load_settings(config)
    except ConfigError as error:
        fail(str(error))


def credentials(settings: Settings | None, user: str | None, password_file: str | None) -> tuple[str, str | None]:
    """Name and password: from the file that is named, asked for, or from the file of the configuration, if in plain."""
    if password_file is not None:
        name = user or ("operator" if settings is None else settings.operator.user)
        return name, password_in(password_file).decode("utf-8", "surrogateescape")
    if user is not None:
        return user, click.prompt("Password", hide_input=True, err=True)
    if settings is None:
        return "operator", None
    name = settings.operator.user
    secret, _ = secret_of(settings.operator.password_hash, settings.operator.password_file)
    if isinstance(secret, PlainPassword):
        return name, secret.octets.decode("utf-8", "surrogateescape")
    if settings.operator.password_hash is None and settings.operator.password_file is None:
        return name, None
    return name, click.prompt(f"Password of {name}", hide_input=True, err=True)
