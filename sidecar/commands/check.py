"""`check`: the command. What it finds and how that is printed is in `checking`."""

from __future__ import annotations

import json
import os
from typing import Any

import click
from click.core import ParameterSource

from sidecar.commands.checking import check_and_print, check_files, print_problems, problem_as_json, status_of
from sidecar.commands.options import config_option, json_option, no_ask_option
from sidecar.config.load import keys_of
from sidecar.config.schema import Settings
from sidecar.document import read_document
from sidecar.errors import Severity
from sidecar.synapse.alone import CheckedAlone, check_alone, kind_of_file


@click.command(short_help="Check the configuration and Synapse's files.")
@config_option
@no_ask_option
@json_option
@click.argument("file", required=False, type=click.Path())
@click.pass_context
def check(context: click.Context, config: str, no_ask: bool, in_json: bool, file: str | None) -> None:
    """Check the configuration and Synapse's files, and print what is wrong.

    FILE is another sidecar.yaml, or one file of Synapse: a worker's, or homeserver.yaml. A file of Synapse is checked
    by itself, and the last line says what that covers.

    Exit status: 0 nothing found, 1 warnings only, 2 errors.
    """
    if file is not None and context.get_parameter_source("config") is not ParameterSource.DEFAULT:
        raise click.UsageError("Give FILE or -c FILE, not both.")
    alone = None if file is None else _alone(file)
    if alone is not None and file is not None:
        raise SystemExit(_print_alone(file, alone, in_json=in_json))
    path = file or config
    if not in_json:
        raise SystemExit(check_and_print(path, ask=not no_ask).status)
    problems = check_files(path, ask=not no_ask).problems
    _print_json({"problems": [problem_as_json(problem) for problem in problems]})
    raise SystemExit(status_of(problems))


def _alone(file: str) -> CheckedAlone | None:
    """What is wrong with a file of Synapse; None where the file is none."""
    document = read_document(os.path.abspath(file), repeated=Severity.WARNING)
    kind = kind_of_file(document, keys_of(Settings).keys())
    return None if kind is None else check_alone(document, kind)


def _print_alone(file: str, alone: CheckedAlone, *, in_json: bool) -> int:
    if in_json:
        _print_json({"problems": [problem_as_json(each) for each in alone.problems], "scope": alone.scope})
    else:
        print_problems(alone.problems)
        click.echo(f"{file}: {alone.scope}.")
    return status_of(alone.problems)


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=1))
