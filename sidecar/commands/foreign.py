"""`matrix-sidecar import`: reads nginx's or HAProxy's files, and prints what `sidecar.importing` converts them to.

Only this module reads those files. It imports each parser when it needs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import click
from attrs import frozen

from sidecar.commands.checking import status_of
from sidecar.commands.progress import progress
from sidecar.commands.read_or_fail import fail
from sidecar.document import MOST_BYTES
from sidecar.errors import ConfigError, Problem, Severity
from sidecar.importing.asked import NOBODYS
from sidecar.importing.assessment import Examined, Foreign, SynapseFiles, examine, steps_of
from sidecar.importing.report import Told, amiss, differences, doubts, faults, told
from sidecar.loading.deployment import deployment_of
from sidecar.plurals import counted
from sidecar.synapse.endpoint_rows import load_endpoints
from sidecar.synapse.reading import read_topology

CLEAN, FOUND, FAILED = 0, 1, 2
_STYLES = {"taken": "green", "superfluous": "cyan", "lost": "yellow"}
_NAMES = {"taken": "converted", "superfluous": "not needed", "lost": "not converted"}
_SHOWN = 6
"""How many requests of one kind are printed. Their number is always printed."""


@click.group("import", short_help="Convert an nginx or HAProxy configuration.")
def import_() -> None:
    """Convert a configuration of nginx or HAProxy to one of the sidecar, or see its mistakes."""


@frozen
class _Wanted:
    """The options of both commands."""

    files: Sequence[Path]
    output: Path | None
    server_name: str | None
    synapse: str | None
    synapse_config: Sequence[str]
    synapse_workers: Sequence[str]
    diff: bool
    all: bool


_OPTIONS = (
    click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)),
    click.option("-o", "--output", type=click.Path(path_type=Path), help="Write sidecar.yaml here."),
    click.option(
        "--server-name",
        "--host",
        "server_name",
        metavar="NAME",
        help="The homeserver's name.",
    ),
    click.option("--synapse", metavar="VERSION", help="Release of Synapse. Default: the newest known."),
    click.option(
        "--synapse-config",
        metavar="PATH",
        type=click.Path(),
        multiple=True,
        help="homeserver.yaml, conf.d; repeatable.",
    ),
    click.option(
        "--synapse-workers", metavar="PATH", type=click.Path(), multiple=True, help="Worker files; repeatable."
    ),
    click.option("--all", is_flag=True, help="Print every request that differs, not only the first of each kind."),
    click.option("--diff", is_flag=True, help="Print only the requests that go to a process that cannot serve them."),
)
_Command = TypeVar("_Command", bound=Callable[..., None])


def _with_options(command: _Command) -> _Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@import_.command(short_help="Read nginx.conf and the files that it includes.")
@_with_options
def nginx(**options: Any) -> None:
    """Read nginx.conf and the files that it includes, or parts of it in order.

    Prints sidecar.yaml to standard output, and what happened to each line to standard error. Exit status with --diff: 1
    if any request goes to a process that cannot serve it.
    """
    parse = _parser_of_nginx()
    from sidecar.importing.nginx_lines import nginx_foreign
    from sidecar.importing.nginx_tree import Directive, tree

    wanted = _Wanted(**options)
    directives: list[Directive] = []
    for file in wanted.files:
        _check(file)
        read = parse(str(file), comments=False, check_ctx=False, check_args=False)
        for error in read["errors"]:
            click.secho(f"{error['file']}: {error['error']}", fg="red", err=True)
        directives += tree(read["config"])
    _import(nginx_foreign(directives), wanted)


def _parser_of_nginx() -> Callable[..., Any]:
    """crossplane is an optional extra, so that distributions need not package it."""
    try:
        from crossplane import parse
    except ModuleNotFoundError:
        fail(
            "Reading nginx.conf needs crossplane, which is not installed. "
            f"Install it: {sys.executable} -m pip install crossplane"
        )
    return parse  # type: ignore[no-any-return]


@import_.command(short_help="Read haproxy.cfg, or several files in order.")
@_with_options
def haproxy(**options: Any) -> None:
    """Read haproxy.cfg, or several files in order.

    Prints sidecar.yaml to standard output, and what happened to each line to standard error. Exit status with --diff: 1
    if any request goes to a process that cannot serve it.
    """
    from sidecar.importing.haproxy_lines import haproxy_foreign
    from sidecar.importing.haproxy_words import sections

    wanted = _Wanted(**options)
    found = [section for file in wanted.files for section in sections(_text(file), str(file))]
    _import(haproxy_foreign(found, partial(_patterns, wanted.files[0].parent)), wanted)


def _check(file: Path) -> None:
    try:
        size = file.stat().st_size
    except OSError as error:
        fail(f"{file}: {error.strerror}")
    if size > MOST_BYTES:
        fail(f"{file}: the file is larger than {MOST_BYTES // 1024 // 1024} MiB; is it the right one?")


def _text(file: Path) -> str:
    _check(file)
    try:
        return file.read_text("utf-8", "surrogateescape")
    except OSError as error:
        fail(f"{file}: {error.strerror}")


def _patterns(directory: Path, name: str) -> Sequence[str] | None:
    """The values in a pattern file, relative to the working directory or to haproxy.cfg; None if it cannot be read."""
    for path in (Path(name), directory / name):
        try:
            lines = path.read_text("utf-8", "surrogateescape").splitlines()
        except (OSError, ValueError):
            continue
        return [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return None


def _import(foreign: Foreign, wanted: _Wanted) -> None:
    if not any(server.address for upstream in foreign.proxy.upstreams.values() for server in upstream.servers):
        # nginx can build an address from variables. Such an upstream is known only after a request.
        for entrance in foreign.proxy.entrances:
            foreign.proxy.verdict(entrance.asked("GET", NOBODYS))
    if not any(server.address for upstream in foreign.proxy.upstreams.values() for server in upstream.servers):
        fail("found no upstream or backend with an address; pass the file that contains them as well")
    try:
        with progress("Comparing", steps_of(foreign)) as step:
            examined = examine(foreign, load_endpoints(wanted.synapse), wanted.server_name, _synapse(wanted), step)
    except (ValueError, ConfigError) as error:
        fail(str(error))
    if wanted.diff:
        raise SystemExit(_print_amiss(examined))
    text = examined.draft.text(", ".join(file.name for file in wanted.files))
    if wanted.output is None:
        click.echo(text, nl=False)
    else:
        wanted.output.write_text(text, "utf-8")
    _print_asked(examined)
    _print_first(examined)
    _print_told(told(examined))
    _print_moved(examined, everything=wanted.all)
    raise SystemExit(_checked(text, wanted.output))


def _checked(text: str, output: Path | None) -> int:
    """Print what `check` reports about the file. 0: the sidecar starts with it."""
    if output is not None:
        problems = _problems(output)
    else:
        with TemporaryDirectory() as directory:
            path = Path(directory) / "sidecar.yaml"
            path.write_text(text, "utf-8")
            problems = _problems(path)
    click.secho("\nWhat `matrix-sidecar check` reports about the new file:", bold=True, err=True)
    for problem in problems:
        click.secho(f"    {problem}", fg="red" if problem.severity is Severity.ERROR else "yellow", err=True)
    if not problems:
        click.echo("    no problems: the sidecar starts with this file", err=True)
    return FAILED if status_of(problems) == FAILED else CLEAN


def _problems(path: Path) -> Sequence[Problem]:
    try:
        return deployment_of(str(path), ask=False).problems
    except ConfigError as error:
        return error.problems


def _synapse(wanted: _Wanted) -> SynapseFiles | None:
    """Synapse's own files, if the options name them. Raises ConfigError if they describe no process."""
    config, workers = (
        [os.path.abspath(path) for path in paths] for paths in (wanted.synapse_config, wanted.synapse_workers)
    )
    if not config:
        return None
    topology = read_topology(config, workers)
    if not topology.processes:
        raise ConfigError(topology.problems)
    return SynapseFiles(topology, {"config": config, **({"workers": workers} if workers else {})})


def _print_told(lines: Iterable[Told]) -> None:
    """One paragraph for each line, or for consecutive lines with the same remark."""
    for (file, remark), group in groupby(lines, key=lambda line: (line.place.file, line.remark)):
        each = list(group)
        first, last = each[0].place.line, each[-1].place.line
        place = f"{file}:{first}" if first == last else f"{file}:{first}-{last}"
        more = f" … ({len(each)} lines)" if len(each) > 1 else ""
        click.echo(f"{place}: {each[0].text}{more}", err=True)
        name = click.style(_NAMES[remark.kind], fg=_STYLES[remark.kind])
        click.echo(f"    {name}: {remark.sentence}", err=True)


def _print_asked(examined: Examined) -> None:
    """The host names and ports that were compared, and the homeserver's."""
    click.secho("Compared at these host names and ports:", bold=True, err=True)
    for where in examined.entrances:
        click.echo(f"    {where}", err=True)
    if examined.unasked:
        click.secho(f"    … but not at {', '.join(map(str, examined.unasked))}: there are too many", fg="red", err=True)
    how = " This is a guess; correct it with --server-name NAME." if examined.guessed else ""
    click.secho(f"The homeserver is {examined.home}.{how}\n", bold=True, err=True)


def _print_first(examined: Examined) -> None:
    """What nobody may overlook: filters that are lost, and servers that need a correction by hand."""
    for line in told(examined):
        if line.remark.is_filter and line.remark.kind == "lost":
            click.secho(f"{line.place}: {line.text}", fg="red", err=True)
            click.secho(f"    a filter that is not converted: {line.remark.sentence}", fg="red", err=True)
    for place, name, fault in faults(examined):
        click.secho(f"{place}: {name}: {fault}", fg="red", err=True)


def _print_moved(examined: Examined, *, everything: bool) -> None:
    count = len(examined.compared)
    same = sum(not each.difference for each in examined.compared)
    faulty = sum(each.faulty for each in examined.compared)
    kinds = f"{counted(count, 'kind')} of requests for endpoints of Synapse {examined.release}"
    title = f"Of {kinds}, {same} {'goes' if same == 1 else 'go'} to the same workers."
    click.secho(f"\n{title}", bold=True, err=True)
    if faulty:
        kinds = f"{counted(faulty, 'kind')} of requests"
        click.echo(f"Your proxy sends {kinds} to a process that cannot serve them; --diff lists them.", err=True)
    for each in differences(examined):
        click.echo(f"{counted(len(each.requests), 'kind')} of requests: {each.why}", err=True)
        click.echo(f"    your proxy: {each.theirs}; sidecar: {each.ours}; at {', '.join(each.at)}", err=True)
        shown = each.requests if everything else each.requests[:_SHOWN]
        for request in shown:
            click.echo(f"    {request}", err=True)
        if len(each.requests) > len(shown):
            click.echo(f"    … and {len(each.requests) - len(shown)} more; --all lists them", err=True)
    _print_doubts(examined)


def _print_doubts(examined: Examined) -> None:
    for doubt, number in doubts(examined):
        click.secho(
            f"not understood: {doubt}; the report may be wrong about {counted(number, 'kind')} of requests",
            fg="red",
            err=True,
        )


def _print_amiss(examined: Examined) -> int:
    found = amiss(examined)
    for each in found:
        place = f"{each.place}: " if each.place is not None else ""
        click.secho(f"{place}sent to {each.upstream}: {each.why}", fg="yellow")
        for request in each.requests[:_SHOWN]:
            click.echo(f"    {request}")
        if len(each.requests) > _SHOWN:
            click.echo(f"    … and {len(each.requests) - _SHOWN} more")
    if not found:
        click.echo(f"every request for an endpoint of Synapse {examined.release} goes to a process that can serve it")
    sys.stdout.flush()
    _print_doubts(examined)
    return FOUND if found else CLEAN
