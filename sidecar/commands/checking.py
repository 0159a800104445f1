"""`check`: what is wrong with a configuration, printed. Used by `init` too, on what it has written."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone

import click
from attrs import frozen

from sidecar.certificates import certificate_problems
from sidecar.deployment import Deployment, deployment_of
from sidecar.errors import ConfigError, Problem, Severity

CLEAN, WARNED, FAILED = 0, 1, 2
"""Exit statuses of all commands that find faults."""


@frozen
class Checked:
    """What was read, if it could be, and the exit status for what is wrong with it."""

    deployment: Deployment | None
    status: int


def check_and_print(path: str, *, ask: bool) -> Checked:
    """Read what a start reads, and print every problem and one line that sums up what was read."""
    try:
        deployment = deployment_of(path, ask=ask)
    except ConfigError as error:
        print_problems(error.problems)
        return Checked(None, FAILED)
    problems = (*deployment.problems, *certificate_problems(deployment.settings, datetime.now(timezone.utc)))
    print_problems(problems)
    plan = deployment.plan
    click.echo(
        f"{path}: {len(plan.workers)} processes, {len(plan.pools)} pools, "
        f"{len(plan.rows)} endpoints of Synapse {deployment.table.release}"
    )
    return Checked(deployment, status_of(problems))


def print_problems(problems: Iterable[Problem]) -> None:
    """One line for each."""
    for problem in problems:
        click.secho(str(problem), fg="red" if problem.severity is Severity.ERROR else "yellow")


def status_of(problems: Iterable[Problem]) -> int:
    """0 where there is none, 1 for warnings only, 2 for errors."""
    severities = {problem.severity for problem in problems}
    return FAILED if Severity.ERROR in severities else WARNED if severities else CLEAN
