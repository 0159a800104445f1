"""The deployment that a command looks at, or the end of the command with what is wrong with it."""

from __future__ import annotations

from typing import NoReturn

import click

from sidecar.commands.checking import FAILED
from sidecar.errors import ConfigError
from sidecar.loading.deployment import Deployment, deployment_of


def read_or_fail(path: str, *, ask: bool) -> Deployment:
    """The deployment of a configuration file; ends the program with the problems where there is none."""
    try:
        return deployment_of(path, ask=ask)
    except ConfigError as error:
        fail(str(error))


def fail(sentence: str) -> NoReturn:
    """End with a sentence on standard error and the status of an error."""
    click.echo(sentence, err=True)
    raise SystemExit(FAILED)
