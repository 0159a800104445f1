"""`init`: finds Synapse, writes a `sidecar.yaml`, and lists what remains to be done by hand.

Asks and prints; `sidecar.install` decides what to write.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from attrs import frozen

from sidecar.commands.checking import WARNED, check_and_print, print_problems
from sidecar.commands.questions import EndpointKind, Network, Questions, WorkerNames, names_in
from sidecar.commands.read_or_fail import fail
from sidecar.config.schema import Limits, Timeouts
from sidecar.install import fronts, units
from sidecar.install.advice import advice
from sidecar.install.first_file import FirstFile
from sidecar.install.permissions import Account
from sidecar.install.synapses import PLACES, Source, sources, stated, under, unseen
from sidecar.loading.deployment import DEFAULT_PATH, Deployment
from sidecar.plurals import counted
from sidecar.routing.forming import meant_for
from sidecar.routing.parts import PoolPart
from sidecar.routing.pools import CLIENT, SYNC
from sidecar.synapse.reading import read_topology
from sidecar.synapse.topology import Topology

_PORTS = range(8008, 8058)
"""Ports to propose; the first free one wins."""
_SHOWN = 6
"""At most so many workers of a pool are listed by name."""


@click.command(short_help="Find Synapse and write a first sidecar.yaml.")
@click.option(
    "-c",
    "--config",
    "file",
    metavar="FILE",
    type=click.Path(),
    default=DEFAULT_PATH,
    show_default=True,
    help="The file to write.",
)
@click.option(
    "--root",
    metavar="DIRECTORY",
    type=click.Path(),
    default="/",
    help="Read and write below this directory, for example in an image.",
)
@click.option(
    "--synapse-config", metavar="PATH", type=click.Path(), multiple=True, help="homeserver.yaml, conf.d; repeatable."
)
@click.option(
    "--synapse-workers",
    metavar="PATH",
    type=click.Path(),
    multiple=True,
    help="Worker files or their directory; repeatable.",
)
@click.option("--listen", type=EndpointKind(), help="Where the proxy in front connects to.")
@click.option("--admin", type=EndpointKind(), help="The operator's listener.")
@click.option(
    "--front", type=click.Choice([*fronts.NAMES, "none"]), help="The proxy in front. Prints the lines for it."
)
@click.option(
    "--syncs",
    type=WorkerNames(),
    help="Workers, or globs such as `sync*`, that get all syncs; `half`: half of the workers, regardless of names.",
)
@click.option("--trust", type=Network(), multiple=True, help="Address of a proxy on another host; repeatable.")
@click.option("--run-as", metavar="NAME", help="Check access as this user. Default: the user of the systemd unit.")
@click.option("-y", "--yes", is_flag=True, help="Ask nothing and accept all proposals.")
@click.option("--force", is_flag=True, help="Replace an existing file; the old one is kept, with a `~` at its end.")
@click.option("--no-ask", is_flag=True, help="Do not ask the running Synapse for its version.")
def init(
    file: str,
    root: str,
    synapse_config: tuple[str, ...],
    synapse_workers: tuple[str, ...],
    run_as: str | None,
    yes: bool,
    force: bool,
    no_ask: bool,
    **wishes: Any,
) -> None:
    """Find Synapse's configuration, write a sidecar.yaml, check it, and list what remains to be done.

    Exit status: that of `check` on the new file, and at least 1 if something else needs to be fixed. 2 if no file
    was written.
    """
    questions = Questions(silent=yes)
    try:
        account = units.account(root, run_as)
    except units.NoUserError as error:
        fail(str(error))
    target = under(root, os.path.abspath(file))
    _check_target(questions, target, force=force)
    source = _source(questions, root, synapse_config, synapse_workers)
    raise SystemExit(_Beginning(questions, root, target, source, account, wishes).run(ask=not no_ask))


def _check_target(questions: Questions, target: str, *, force: bool) -> None:
    if not os.path.lexists(target) or force or units.is_as_shipped(target):
        return
    if not questions.agree(f"{target} exists. Replace it?"):
        fail(f"{target} exists; init did not change it. Replace it with --force, or name another file with --config.")


def _source(questions: Questions, root: str, config: Sequence[str], workers: Sequence[str]) -> Source:
    """The configuration that the options name, else the one that init finds; if there are several, the user chooses."""
    if config:
        return stated(root, [*map(os.path.abspath, config)], [*map(os.path.abspath, workers)])
    for process in unseen(root)[:1]:
        click.echo(
            f"Synapse runs in a container (process {process.pid}): {process.config[0]} is not visible here. Run "
            "init in the container, or name the files as they are mounted here with --synapse-config."
        )
    found = sources(root, os.environ if root == "/" else {})
    if not found:
        fail(
            "Found no configuration of Synapse: no running process names one, and there is none in "
            f"{', '.join(PLACES)}. Name it: --synapse-config /path/to/homeserver.yaml"
        )
    if len(found) == 1:
        return found[0]
    click.echo("Found several configurations of Synapse:")
    for number, each in enumerate(found, start=1):
        click.echo(f"  {number}  {', '.join(each.config)} ({each.how})")
    numbers = [str(number) for number in range(1, len(found) + 1)]
    return found[int(questions.ask("Which one", "1", click.Choice(numbers))) - 1]


@frozen(eq=False)
class _Beginning:
    """One run for one Synapse."""

    questions: Questions
    root: str
    target: str
    source: Source
    account: Account
    wishes: Mapping[str, Any]
    """Answers from the command line; None or empty if there is none."""

    def run(self, *, ask: bool) -> int:
        """Write the file and print the rest. Returns the exit status."""
        config, workers = (
            [under(self.root, path) for path in paths] for paths in (self.source.config, self.source.workers)
        )
        topology = read_topology(config, workers)
        self._tell_source(topology)
        listen = self._listen(topology)
        front = self._front()
        trust = () if front == "none" else self._trust()
        self._write(topology, listen, trust, self._syncs(topology))
        _heading("Check")
        checked = check_and_print(self.target, ask=ask)
        problems = [*advice(topology, self.account)]
        print_problems(problems)
        if checked.deployment is not None:
            _heading("Where requests go")
            for line in _pools(checked.deployment):
                click.echo(f"  {line}")
        self._tell_start(listen)
        if front != "none":
            self._tell_front(front, listen, topology)
        click.echo(
            "\nWhen it runs, test everything with `matrix-sidecar doctor`, from the proxy in front to each worker."
        )
        return max(checked.status, WARNED if problems else 0)

    def _tell_source(self, topology: Topology) -> None:
        _heading("Synapse")
        click.echo(f"  {', '.join((*self.source.config, *self.source.workers))} ({self.source.how})")
        sockets = sum(process.endpoint.startswith("unix:") for process in topology.processes)
        serving = ("process that serves", "processes that serve")
        click.echo(
            f"  {topology.server_name or 'no server_name'}: {counted(len(topology.processes), *serving)} requests, "
            f"{sockets} of them on UNIX sockets, and {counted(len(topology.silent), *serving)} none"
        )
        for note in self.source.notes:
            click.secho(f"  {note}", fg="yellow")

    # What is asked.

    def _listen(self, topology: Topology) -> str:
        if self.wishes["listen"]:
            return str(self.wishes["listen"])
        taken = {
            listener.port: process.name
            for process in (*topology.processes, *topology.silent)
            for listener in (process.listener, *process.others)
            if listener is not None and listener.port
        }
        if _PORTS[0] in taken:
            click.echo(
                f"\n{taken[_PORTS[0]]} uses port {_PORTS[0]}. If you move it to a UNIX socket, the sidecar can have "
                "the port, and you need not change the proxy in front."
            )
        free = next((port for port in _PORTS if port not in taken and self._is_free(port)), _PORTS[0])
        proposed = f"tcp:{free}:interface=127.0.0.1"
        return self.questions.ask("Where should the sidecar listen (a port or an endpoint)", proposed, EndpointKind())

    def _is_free(self, port: int) -> bool:
        if self.root != "/":
            return True
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return True
        return False

    def _front(self) -> str:
        if self.wishes["front"]:
            return str(self.wishes["front"])
        here = fronts.detect(self.root)
        if len(here) == 1:
            return next(iter(here))
        told = " and ".join(fronts.NAMES[kind] for kind in here)
        click.echo(f"\nFound {told}." if here else "\nFound no configuration of a reverse proxy.")
        kinds = click.Choice([*fronts.NAMES, "none"])
        question = f"Which proxy is in front ({', '.join(kinds.choices)})"
        return self.questions.ask(question, next(iter(here), "none"), kinds)

    def _trust(self) -> tuple[str, ...]:
        if self.wishes["trust"]:
            return tuple(self.wishes["trust"])
        question = "Is the proxy in front on this host? `here`, or its address"
        answer = self.questions.ask(question, Network.HERE, Network())
        return () if answer == Network.HERE else (answer,)

    def _syncs(self, topology: Topology) -> tuple[str, ...]:
        if self.wishes["syncs"]:
            return names_in(self.wishes["syncs"])
        meant = meant_for(SYNC, _serving_clients(topology))
        if not meant:
            return ()
        question = f"By their names, {', '.join(meant)} serve syncs. Use these, others, or `half` of all workers"
        return names_in(self.questions.ask(question, ",".join(meant), WorkerNames()))

    # What is written.

    def _write(self, topology: Topology, listen: str, trust: tuple[str, ...], syncs: tuple[str, ...]) -> None:
        admin = units.ADMIN if units.has_systemd(self.root) else units.ADMIN_ELSEWHERE
        larger = topology.max_upload_size > Limits().request_body
        draft = FirstFile(
            listen=fronts.also_by_ipv6(listen),
            admin=str(self.wishes["admin"] or admin),
            config=tuple(map(self._named, self.source.config)),
            workers=tuple(map(self._named, self.source.workers)),
            how=self.source.how,
            trust=trust,
            syncs=syncs,
            clients=meant_for(CLIENT, _serving_clients(topology)),
            request_body=topology.max_upload_size if larger else None,
        )
        target = Path(self.target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(target):
                target.replace(f"{target}~")
            target.write_text(draft.text(), "utf-8")
        except OSError as error:
            fail(f"cannot write {target}: {error.strerror}. Name another file with --config.")
        click.echo(f"\nwrote {target}")

    def _named(self, path: str) -> str:
        """A path as the file names it; below another root, relative to the file."""
        return path if self.root == "/" else os.path.relpath(under(self.root, path), os.path.dirname(self.target))

    # What remains to be done.

    def _tell_start(self, listen: str) -> None:
        _heading("Start it")
        for command in units.to_do(self.root, self.target, listen):
            click.echo(f"  {command}")

    def _tell_front(self, kind: str, listen: str, topology: Topology) -> None:
        address, port, path = fronts.reached_at(listen)
        wanted = fronts.Wanted(
            host=_public_host(topology),
            address=address,
            port=port,
            socket=path,
            upload=topology.max_upload_size,
            seconds=int(Timeouts().answer),
        )
        where = fronts.detect(self.root).get(kind)
        _heading(f"{fronts.NAMES[kind]}{f', in {where}' if where else ''}")
        click.echo(
            f"  {fronts.PLACES[kind].format(host=wanted.host)}, instead of the lines that forward to Synapse now:\n"
        )
        _indented(fronts.lines(kind, wanted))


def _heading(text: str) -> None:
    click.secho(f"\n{text}", bold=True)


def _indented(text: str) -> None:
    for line in text.splitlines():
        click.echo(f"    {line}".rstrip())


def _public_host(topology: Topology) -> str:
    """The host of `public_baseurl`, else the server's name."""
    main = next((process for process in (*topology.processes, *topology.silent) if process.is_main), None)
    url = main.config.get("public_baseurl") if main is not None else None
    host = urlsplit(url).hostname if isinstance(url, str) else None
    return host or topology.server_name or "your homeserver"


def _serving_clients(topology: Topology) -> list[str]:
    """Workers that have no task of their own."""
    return [each.name for each in topology.processes if CLIENT in each.serves and not (each.is_main or each.writes)]


def _pools(deployment: Deployment) -> Iterator[str]:
    """The routing table in short: one line for all parts of pools that have the same workers."""
    alike: dict[str, list[str]] = {}
    for parts in deployment.plan.parts.values():
        for part in parts:
            alike.setdefault(_who(part), []).append(part.name)
    for who, names in alike.items():
        yield f"{', '.join(names)}: {who}"


def _who(part: PoolPart) -> str:
    """The workers of a part, and the ones that replace them."""
    if not part.mounted:
        return "no process has it; main answers 404"
    if not part.workers:
        return f"no worker: the address of {' and '.join(part.named)} is unknown" if part.named else "no worker"
    reserve = f", then {_few(part.reserve)}" if part.reserve else ""
    otherwise = f", else {part.fallback[-1][-1]}" if part.fallback else ""
    return f"{_few(part.sharing)}{reserve}{otherwise}"


def _few(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names if more <= 0 else (*names[:_SHOWN], f"{more} more"))
