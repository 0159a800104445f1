"""`matrix-sidecar password`: makes the hash of a password for the operator's listener. Keeps and shows none of it."""

from __future__ import annotations

import sys

import click

from sidecar.config.passwords import hashed


@click.command(short_help="Hash a password for the operator's listener.")
def password() -> None:
    """Ask for a password and print its hash, for `operator.password_hash` or a file.

    If standard input is not a terminal, its first line is the password.
    """
    if sys.stdin.isatty():
        given = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        given = sys.stdin.readline().rstrip("\r\n")
    if not given:
        raise click.UsageError("The password is empty.")
    click.echo(str(hashed(given.encode("utf-8", "surrogateescape"))))
