"""`hottest`: who has the most requests of a running sidecar, and whether somebody who is named is among them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from sidecar.commands.operator_options import admin_option, password_file_option, user_option
from sidecar.commands.options import config_option, json_option
from sidecar.commands.read_or_fail import fail
from sidecar.commands.top import operator_client

if TYPE_CHECKING:
    from collections.abc import Iterator

SHOWN = 10
_TITLES = {"user": "users", "room": "rooms", "origin": "servers", "address": "addresses"}


@click.command(short_help="Show who sends the most requests, as hashes.")
@config_option
@admin_option
@user_option
@password_file_option
@click.option("--is", "names", metavar="NAME", multiple=True, help="A user, room, server or address; repeatable.")
@json_option
def hottest(
    config: str,
    admin: str | None,
    user: str | None,
    password_file: str | None,
    names: tuple[str, ...],
    in_json: bool,
) -> None:
    """Show the users, rooms, servers and addresses with the most requests of the last minutes, as hashes.

    With --is it also shows the rank of one of them: `--is @alice:example.org`, `--is '!room:example.org'`,
    `--is example.org`, `--is 203.0.113.7`.
    """
    from sidecar.top.operator_client import SilentSidecarError

    try:
        told = operator_client(config, admin, user, password_file).hottest(names)
    except SilentSidecarError as error:
        fail(str(error))
    if in_json:
        click.echo(json.dumps(told, indent=1))
    else:
        for line in _lines(told, names):
            click.echo(line)


def _lines(told: dict[str, Any], names: tuple[str, ...]) -> Iterator[str]:
    for name, each in zip(names, told["asked"], strict=True):
        place = f"number {each['place']} of the {_TITLES[each['kind']]}" if each["place"] else "not among the hottest"
        yield f"{name} is {place} ({each['hash']}): at most {each['requests']} requests, {each['per_second']:g}/s"
    yield f"the last {told['seconds']:.0f} s"
    for kind, keys in told["keys"].items():
        if keys:
            yield f"{_TITLES[kind]}:"
        for each in keys[:SHOWN]:
            yield f"  {each['hash']}  {each['per_second']:>8g}/s  {each['share']:>6.1%}"
