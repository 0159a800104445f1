"""`rollout`: restarts Synapse's processes one after another. Prints; what it does is in `sidecar.rollout`."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from sidecar.commands.checking import CLEAN, FAILED, WARNED
from sidecar.commands.operator_options import password_file_option, user_option
from sidecar.commands.options import config_option
from sidecar.commands.progress import Step as ProgressStep
from sidecar.commands.progress import clear, progress
from sidecar.commands.read_or_fail import fail, read_or_fail
from sidecar.commands.top import credentials
from sidecar.config.argument_lists import filled
from sidecar.errors import ConfigError, unknown_name
from sidecar.install import units
from sidecar.loading.deployment import DEFAULT_PATH, Deployment, deployment_of
from sidecar.plurals import counted
from sidecar.rollout.order import RestartStep, RolloutMember, Way, steps
from sidecar.synapse.names import MAIN
from sidecar.top.operator_client import OperatorClient, SilentSidecarError, place

if TYPE_CHECKING:
    from sidecar.rollout.all_instances import Instances
    from sidecar.rollout.progress_file import ProgressFile, Unfinished
    from sidecar.rollout.restarting import Restarting

INTERRUPTED = 130
"""Exit status after a signal, as shells have it for Ctrl-C."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_UNMIGRATED = (
    "If Synapse was upgraded: its workers may refuse to start until main has updated the database. "
    "Then restart main first, with --main-first."
)


def _process_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Those of the configuration that is named so far; none where it cannot be read."""
    try:
        known = _members(deployment_of(str(context.params["config"]), ask=False))
    except (ConfigError, KeyError):
        return []
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


@click.command(short_help="Restart Synapse without a failed request.")
@click.argument("workers", metavar="[WORKER]...", nargs=-1, shell_complete=_process_names)
@config_option
@click.option("--all", "everybody", is_flag=True, help="All processes of Synapse, main included.")
@click.option("--dry-run", is_flag=True, help="Print order, commands and costs, and change nothing.")
@click.option("--main-first", is_flag=True, help="Restart main first, as some upgrades of Synapse need it.")
@click.option("--resume", is_flag=True, help="Continue the last rollout where it stopped.")
@click.option(
    "--admin",
    metavar="ENDPOINT",
    multiple=True,
    help="Operator's listener of an instance; repeatable. Default: those of the file, its siblings and the units.",
)
@user_option
@password_file_option
def rollout(
    workers: tuple[str, ...],
    config: str,
    everybody: bool,
    dry_run: bool,
    main_first: bool,
    resume: bool,
    admin: tuple[str, ...],
    user: str | None,
    password_file: str | None,
) -> None:
    """Restart processes of Synapse one after another, without a failed request.

    Drains each process, restarts it with the command in `rollout.restart`, and sends it requests again when it answers.
    Exit status: 0 all were restarted, 1 stopped because a process did not come back up, 2 nothing was done, 130
    interrupted.
    """
    from sidecar.rollout.all_instances import Instances
    from sidecar.rollout.progress_file import ProgressFile, StateFileError, read_unfinished

    if bool(workers) + everybody + resume != 1:
        raise click.UsageError("Name the workers, or give --all, or --resume after a rollout that did not end.")
    deployment = read_or_fail(config, ask=False)
    known = _members(deployment)
    named = tuple(dict.fromkeys(_known(name, known) for name in workers)) or _all(deployment, known)
    instances = Instances(tuple(_clients(deployment, admin, user, password_file)))
    settings = deployment.settings.rollout
    this = os.path.abspath(deployment.settings.path)
    try:
        if dry_run:
            left = read_unfinished(settings.state) if resume else None
            wanted = _left(left, known, this) if resume else named
            _announced(deployment, instances, [known[name] for name in wanted], left, resume, main_first)
            return
        with ProgressFile(settings.state, this) as file:
            left = file.unfinished()
            wanted = _left(left, known, this) if resume else named
            planned = _announced(deployment, instances, [known[name] for name in wanted], left, resume, main_first)
            _clean_up(instances, left, this, resume=resume)
            again = _options(deployment, admin, user, password_file)
            raise SystemExit(_run(instances, deployment, file, planned, left if resume else None, again))
    except StateFileError as error:
        fail(f"Nothing was done: {error}.")


def _announced(
    deployment: Deployment,
    instances: Instances,
    members: Sequence[RolloutMember],
    left: Unfinished | None,
    resume: bool,
    main_first: bool,
) -> list[RestartStep]:
    """The restarts, after they were printed and it is certain that they can be done now."""
    planned = _steps(deployment, members, main_first)
    if resume and not main_first:
        # The order in which it began, which may have been another one.
        names = [member.name for member in members]
        planned.sort(key=lambda step: names.index(step.name))
    _print_plan(planned)
    _examine(instances, planned, left.drained if left else "")
    return planned


# What is to be restarted.


def _members(deployment: Deployment) -> dict[str, RolloutMember]:
    """All processes that can be restarted, by name; services that are not Synapse's too, if they are named."""
    topology, plan, settings = deployment.topology, deployment.plan, deployment.settings
    files = {process.name: process.file for process in (*topology.processes, *topology.silent)}
    service = plan.membership.facts.mas
    names = [name for name in dict.fromkeys((*files, *plan.workers)) if service is None or name != service.name]
    rollout = settings.rollout
    members = {}
    for name in names:
        values = {"name": name, "file": Path(files.get(name, "")).stem or name}
        command = filled(rollout.restart_main if name == MAIN else rollout.restart, values)
        members[name] = RolloutMember(name=name, is_main=name == MAIN, silent=name not in plan.workers, command=command)
    return members


def _all(deployment: Deployment, known: Mapping[str, RolloutMember]) -> tuple[str, ...]:
    """All that are Synapse's."""
    stated = deployment.settings.workers
    return tuple(name for name in known if name not in stated or stated[name].serves != ())


def _known(name: str, known: Mapping[str, RolloutMember]) -> str:
    if name not in known:
        raise click.UsageError(unknown_name("worker", name, known))
    return name


def _left(left: Unfinished | None, known: Mapping[str, RolloutMember], this: str) -> tuple[str, ...]:
    """Those that the last rollout has left, if it was one of `this` configuration."""
    if left is None:
        fail("Nothing was done: there is no rollout that did not end.")
    if left.configuration not in ("", this):
        fail(
            f"Nothing was done: the rollout that did not end was started with {left.configuration}, not with {this}. "
            f"Go on with: {_resumed(left)}"
        )
    names = tuple(name for name in left.left if name in known)
    for name in left.left:
        if name not in known:
            click.echo(f"{name} is not in the configuration any more; it is left out.", err=True)
    return names


def _steps(deployment: Deployment, members: Sequence[RolloutMember], main_first: bool) -> list[RestartStep]:
    settings = deployment.settings

    def patience(pool: str) -> float:
        stated = settings.pools[pool].wait if pool in settings.pools else None
        if stated is not None:
            return stated
        return settings.timeouts.wait_federation if pool.startswith("federation") else settings.timeouts.wait

    parts = [part for pool in deployment.plan.parts.values() for part in pool]
    for member in members:
        if shutil.which(member.command[0]) is None:
            fail(f"Nothing was done: there is no program {member.command[0]}, with which {member.name} is restarted.")
    return steps(members, parts, lambda _name: True, patience, main_first=main_first)


def _print_plan(planned: Sequence[RestartStep]) -> None:
    width = max((len(step.name) for step in planned), default=0)
    for number, step in enumerate(planned, start=1):
        name = click.style(step.name.ljust(width), fg="yellow" if step.way is Way.HELD else "green")
        click.echo(f"{number:3}  {name}  {shlex.join(step.member.command)}")
        for sentence in step.costs:
            click.echo(f"     {' ' * width}  {sentence}")


# The sidecars.


def _clients(
    deployment: Deployment, admin: Sequence[str], user: str | None, password_file: str | None
) -> Iterator[OperatorClient]:
    settings = deployment.settings
    stated = (*([settings.admin] if settings.admin else []), *settings.operator.siblings)
    try:
        own = None if settings.admin is None else place(settings.admin)
        sockets = [f"unix:{path}" for path in units.admin_sockets(settings.admin)]
        places = list(dict.fromkeys(place(endpoint) for endpoint in admin or (*stated, *sockets)))
    except ValueError as error:
        fail(f"{error}.")
    if sockets and not admin and own is not None and own.path:
        # Each instance has a socket of its own, instead of the one that the file names.
        places = [each for each in places if each != own or os.path.lexists(own.path)]
    if not places:
        fail(f"{settings.path}: there is no operator's listener; write `admin`, or name it with --admin.")
    name, password = credentials(settings, user, password_file)
    return (OperatorClient(each, name, password) for each in places)


def _examine(instances: Instances, planned: Sequence[RestartStep], left: str = "") -> None:
    """Ends the program if a rollout cannot be done now. Reports oddities, but not of the worker `left`."""
    try:
        facts = instances.look()
    except SilentSidecarError as error:
        fail(f"Nothing was done: {error}")
    for old in facts.too_old():
        fail(f"Nothing was done: the sidecar at {old} is older than this program. Restart it first.")
    for where in facts.read_only():
        fail(f"Nothing was done: the sidecar at {where} lets nobody drain (`operator.actions: none`).")
    for step in planned:
        for unaware in () if step.member.silent else facts.unknown_at(step.name):
            fail(f"Nothing was done: the sidecar at {unaware} does not know {step.name}. Reload it first.")
    for name in facts.down():
        click.echo(f"{name} is down now.", err=True)
    for name in facts.drained():
        if name != left:
            click.echo(f"{name} is drained now, and stays so after its restart.", err=True)


def _resumed(left: Unfinished) -> str:
    return f"matrix-sidecar rollout -c {shlex.quote(left.configuration)} --resume"


def _clean_up(instances: Instances, left: Unfinished | None, this: str, *, resume: bool) -> None:
    """See to what an earlier rollout has left."""
    if left is None:
        return
    if left.drained and left.configuration not in ("", this):
        fail(
            f"Nothing was done: a rollout that was started with {left.configuration} was killed and has left "
            f"{left.drained} drained. First end it with: {_resumed(left)}"
        )
    if not resume:
        click.echo(
            f"An earlier rollout restarted {len(left.done)} of {counted(len(left.names), 'process', 'processes')}. "
            "This one begins anew; --resume would have gone on with it.",
            err=True,
        )
    if left.drained:
        for where, reason in instances.undrain(left.drained).items():
            fail(f"Nothing was done: a rollout that was killed has left {left.drained} drained at {where}. {reason}")
        click.echo(f"{left.drained} was still drained by a rollout that was killed; it gets requests again.")


# The restarts.


def _run(
    instances: Instances,
    deployment: Deployment,
    file: ProgressFile,
    planned: Sequence[RestartStep],
    before: Unfinished | None,
    again: str,
) -> int:
    """The exit status. `again`: the options with which to go on."""
    from sidecar.rollout.restarting import InterruptionError, Restarting, StoppedError

    done = () if before is None else before.done
    file.begin((*done, *(step.name for step in planned)), done)
    names = [step.name for step in planned]
    with progress("rollout", len(planned)) as step, _heeding_signals() as interrupted:
        told = RolloutLines(names, step)
        restarting = Restarting(instances, deployment.settings.rollout, told, file, interrupted)
        status = FAILED
        try:
            restarting.run(planned)
            status = CLEAN
        except StoppedError as stopped:
            status = WARNED
            told.say(f"{stopped.name}: {stopped}.", bad=True)
            for line in stopped.output.splitlines():
                told.say(f"  {line}", bad=True)
        except (InterruptionError, KeyboardInterrupt):
            status = INTERRUPTED
            told.say("Interrupted.", bad=True)
    if status == CLEAN:
        file.end()
        click.echo(f"{len(planned)} restarted, one after another.")
        return CLEAN
    _print_state(restarting, names, told.restarted, status)
    click.echo(f"Go on with: matrix-sidecar rollout{again} --resume", err=True)
    return status


def _options(deployment: Deployment, admin: Sequence[str], user: str | None, password_file: str | None) -> str:
    """The options that say which sidecars these are, as one types them."""
    path = deployment.settings.path
    given = [*([] if path == DEFAULT_PATH else ["-c", path]), *(word for each in admin for word in ("--admin", each))]
    given += [] if user is None else ["--user", user]
    given += [] if password_file is None else ["--password-file", password_file]
    return f" {shlex.join(given)}" if given else ""


def _print_state(restarting: Restarting, names: Sequence[str], done: Sequence[str], status: int) -> None:
    """The state that is left, and how to go on."""
    left = [name for name in names if name not in done]
    click.echo(f"Restarted: {', '.join(done) or 'none'}. Not restarted: {', '.join(left) or 'none'}.", err=True)
    if restarting.still_drained:
        for where, reason in restarting.still_drained.items():
            click.echo(f"STILL DRAINED at {where}: {left[0]}. {reason}", err=True)
        click.echo(f"End that with --resume, or with `POST /api/workers/{left[0]}/undrain`.", err=True)
    else:
        click.echo("Nothing is drained by this any more.", err=True)
    if status == WARNED and MAIN in left and left[0] != MAIN:
        click.echo(_UNMIGRATED, err=True)


@contextmanager
def _heeding_signals() -> Iterator[threading.Event]:
    """An event that is set with the first signal; the second ends at once."""
    interrupted = threading.Event()

    def heed(_number: int, _frame: FrameType | None) -> None:
        if interrupted.is_set():
            raise KeyboardInterrupt
        interrupted.set()

    # `nohup` has one ignored, which stays so.
    heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, heed) for number in heeded}
    try:
        yield interrupted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class RolloutLines:
    """Shows the progress: what happens now beside the bar, and a line for each restart."""

    def __init__(self, names: Sequence[str], step: ProgressStep) -> None:
        self.restarted: list[str] = []
        self._width = max(map(len, names), default=0)
        self._step = step

    def doing(self, name: str, what: str) -> None:
        """Shown beside the bar."""
        self._step(0, f"{name}: {what}")

    def done(self, name: str, what: str) -> None:
        """A line that stays."""
        self.restarted.append(name)
        self.say(f"{name.ljust(self._width)}  {what}")
        self._step(1, "")

    def say(self, line: str, *, bad: bool = False) -> None:
        """A line above the bar."""
        clear()
        click.secho(line, fg="red" if bad else None, err=bad)
