"""The operator's listener, name and password as options of commands that ask a running sidecar. Shows none of it."""

from __future__ import annotations

import click

from sidecar.commands.read_or_fail import fail
from sidecar.config.passwords import PlainPassword, secret_of

admin_option = click.option(
    "--admin", metavar="ENDPOINT", help="Address of the operator's listener; default: `admin` in the file."
)
user_option = click.option("--user", metavar="NAME", help="Name of the operator; asks for the password.")
password_file_option = click.option(
    "--password-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="The operator's password, in the first line of FILE.",
)


def password_in(file: str) -> bytes:
    """The password in a file. Ends the command where there is none that can be sent: a hash cannot."""
    secret, doubts = secret_of(None, file)
    if secret is None:
        fail(f"{file}: {doubts[0][0]}")
    if not isinstance(secret, PlainPassword):
        fail(f"{file} holds a hash. Write the password itself into the first line.")
    return secret.octets
