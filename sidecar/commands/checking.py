"""`check`: what is wrong with a configuration, printed. Used by `init` too, on what it has written."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

import click
from attrs import frozen

from sidecar.entrance.certificates import certificate_problems
from sidecar.entrance.libraries import library_problems
from sidecar.errors import ConfigError, Problem, Severity
from sidecar.loading.deployment import Deployment, deployment_of
from sidecar.plurals import counted
from sidecar.routing.forming import sentences

CLEAN, WARNED, FAILED = 0, 1, 2
"""Exit statuses of all commands that find faults."""


@frozen
class Checked:
    """What was read, if it could be, and what is wrong with it."""

    deployment: Deployment | None
    problems: tuple[Problem, ...]

    @property
    def status(self) -> int:
        """The exit status for it."""
        return status_of(self.problems)


def check_files(path: str, *, ask: bool) -> Checked:
    """Read what a start reads."""
    try:
        deployment = deployment_of(path, ask=ask)
    except ConfigError as error:
        return Checked(None, error.problems)
    certificates = certificate_problems(deployment.settings, datetime.now(timezone.utc))
    libraries = library_problems(deployment.settings)
    return Checked(deployment, (*deployment.problems, *certificates, *libraries))


def check_and_print(path: str, *, ask: bool) -> Checked:
    """The same, and print every problem and one line that sums up what was read."""
    checked = check_files(path, ask=ask)
    print_problems(checked.problems)
    if checked.deployment is not None:
        plan = checked.deployment.plan
        click.echo(
            f"{path}: {counted(len(plan.workers), 'process', 'processes')}, {counted(len(plan.pools), 'pool')}, "
            f"{counted(len(plan.rows), 'endpoint')} of Synapse {checked.deployment.table.release}"
        )
        for sentence in sentences(plan):
            click.echo(f"  {sentence}")
    return checked


def problem_as_json(problem: Problem) -> dict[str, Any]:
    """A problem for programs; `line` is 0 where the whole file is meant."""
    return {
        "severity": problem.severity.value,
        "file": problem.file,
        "line": problem.line,
        "key": problem.key,
        "text": problem.message,
    }


def print_problems(problems: Iterable[Problem]) -> None:
    """One line for each."""
    for problem in problems:
        click.secho(str(problem), fg="red" if problem.severity is Severity.ERROR else "yellow")


def status_of(problems: Iterable[Problem]) -> int:
    """0 where there is none, 1 for warnings only, 2 for errors."""
    severities = {problem.severity for problem in problems}
    return FAILED if Severity.ERROR in severities else WARNED if severities else CLEAN
