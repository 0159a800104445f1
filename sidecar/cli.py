"""`matrix-sidecar`: the commands that look and do not run. Reads what a start reads, and prints.

Starts no reactor and needs no Twisted, so that it answers at once. What is printed is worked out elsewhere.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import BinaryIO, NoReturn

import click

from sidecar import __version__
from sidecar.commands.asking_hottest import hottest
from sidecar.commands.checking import (
    CLEAN,
    FAILED,
    WARNED,
    check_and_print,
    check_files,
    problem_as_json,
    status_of,
)
from sidecar.commands.completion import completion, worker_names
from sidecar.commands.differences import Change, changes_between, facts_between
from sidecar.commands.doctor import doctor
from sidecar.commands.export import export
from sidecar.commands.foreign import import_
from sidecar.commands.init import init
from sidecar.commands.listing import Row, as_json, rows_in_force
from sidecar.commands.password import password
from sidecar.commands.printed import Printed
from sidecar.commands.reloading import reload
from sidecar.commands.top import top
from sidecar.errors import ConfigError
from sidecar.explaining.rehearsal import Rehearsal, RequestText, is_peer
from sidecar.explaining.request_lines import DecisionTexts, NoRequestError, read_line
from sidecar.explaining.story import Story, tell
from sidecar.loading.deployment import DEFAULT_PATH, Deployment, deployment_of
from sidecar.routing.forming import sentences

_config = click.option(
    "-c", "--config", metavar="FILE", type=click.Path(), default=DEFAULT_PATH, show_default=True, help="Configuration."
)
_no_ask = click.option("--no-ask", is_flag=True, help="Do not ask the running Synapse for its version.")
_json = click.option("--json", "in_json", is_flag=True, help="Print JSON.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="matrix-sidecar", message="%(prog)s %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Look at what matrix-sidecar would do, without running it."""
    if os.environ.get("NO_COLOR"):
        context.color = False
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.stdout, sys.stderr = Printed(sys.stdout), Printed(sys.stderr)


def _read(path: str, *, ask: bool) -> Deployment:
    """The deployment of a configuration file; ends the program with the problems where there is none."""
    try:
        return deployment_of(path, ask=ask)
    except ConfigError as error:
        _fail(str(error))


def _fail(sentence: str) -> NoReturn:
    click.echo(sentence, err=True)
    raise SystemExit(FAILED)


@main.command()
@_config
@_no_ask
@_json
def check(config: str, no_ask: bool, in_json: bool) -> None:
    """Print what is wrong with the configuration and with Synapse's files.

    Exit status: 0 clean, 1 warnings only, 2 errors.
    """
    if not in_json:
        raise SystemExit(check_and_print(config, ask=not no_ask).status)
    problems = check_files(config, ask=not no_ask).problems
    click.echo(json.dumps({"problems": [problem_as_json(problem) for problem in problems]}, indent=1))
    raise SystemExit(status_of(problems))


@main.command()
@_config
@_no_ask
@_json
def routes(config: str, no_ask: bool, in_json: bool) -> None:
    """Print every endpoint in force, the pool and workers that it goes to, and why."""
    deployment = _read(config, ask=not no_ask)
    rows = list(rows_in_force(deployment))
    if in_json:
        click.echo(json.dumps(as_json(deployment.table.release, rows), indent=1))
        return
    titles = ("METHODS", "PATH", "POOL", "AFFINITY", "WORKERS", "FALLBACK", "WHY")
    _table(titles, [_cells(row) for row in rows], (None, "bold", "cyan", None, "green", None, None))
    told = list(sentences(deployment.plan))
    for line in ["", *told] if told else []:
        click.echo(line)


def _cells(row: Row) -> tuple[str, ...]:
    outcome = row.pool if row.action == "forward" else f"{row.action} {row.status or ''}".rstrip()
    nobody = "nobody" if row.action == "forward" else "-"
    reserve = f" ({','.join(row.reserve)})" if row.reserve else ""
    names = (",".join(row.sharing) + reserve or nobody, ",".join(row.fallback) or "-")
    return (",".join(row.methods), row.path, outcome, row.affinity or "-", *names, row.reason)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str | None]) -> None:
    """Print aligned columns; a style is `bold` or a colour."""
    lines = [titles, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    widths[-1] = 0
    printed = []
    for number, line in enumerate(lines):
        padded = [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        if number:
            padded = [_styled(cell, style) for cell, style in zip(padded, styles, strict=True)]
        else:
            padded = [click.style(cell, underline=True) for cell in padded]
        printed.append("  ".join(padded))
    click.echo("\n".join(printed))


def _styled(text: str, style: str | None) -> str:
    return text if style is None else click.style(text, bold=True) if style == "bold" else click.style(text, fg=style)


@main.command()
@_config
@_no_ask
@_json
@click.argument("request", metavar="METHOD TARGET", nargs=-1)
@click.option("-H", "headers", metavar="'NAME: VALUE'", multiple=True, help="A field line of the request.")
@click.option("--peer", default="127.0.0.1", show_default=True, help="Where the connection comes from; or `unix`.")
@click.option(
    "--down", metavar="NAME", multiple=True, shell_complete=worker_names, help="What if this worker were down?"
)
@click.option("--add", metavar="NAME", multiple=True, help="What if there were this worker, like the others?")
@click.option("--from", "lines", metavar="FILE", type=click.File("rb"), help="Requests: JSON lines or an access log.")
def explain(
    config: str,
    no_ask: bool,
    in_json: bool,
    request: tuple[str, ...],
    headers: tuple[str, ...],
    peer: str,
    down: tuple[str, ...],
    add: tuple[str, ...],
    lines: BinaryIO | None,
) -> None:
    """Tell what would happen to a request, step by step, without sending anything.

    With --from, each line of FILE (`-` is standard input) is a request {"method": …, "target": …, "headers": {…},
    "peer": …}, or a line of an access log of nginx (combined) or HAProxy (httplog); one line of JSON is printed for
    each, in order. Exit status then: 1 if any line was no request.
    """
    peer = "" if peer == "unix" else peer
    if not is_peer(peer):
        raise click.UsageError("--peer must be an IP address, or `unix`.")
    if lines is not None:
        if request or headers or down or add:
            raise click.UsageError(
                "--from has the requests in a file; METHOD, TARGET, -H, --down and --add go without."
            )
        raise SystemExit(_explain_lines(_read(config, ask=not no_ask), lines, peer))
    if len(request) != 2:
        # What was written instead could be a token whose -H was forgotten, so it is not repeated.
        raise click.UsageError("Give METHOD and TARGET, and each field line after a -H; or --from FILE.")
    asked = RequestText(_octets(request[0]), _octets(request[1]), [_field(line) for line in headers], peer)
    deployment = _read(config, ask=not no_ask)
    _check_names(deployment, down, add)
    story = tell(deployment, asked, down, add)
    if in_json:
        click.echo(json.dumps(story.as_json()))
    else:
        _print_story(story)


def _octets(argument: str) -> str:
    """An argument as text of which the octets are sent that were typed."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _field(line: str) -> tuple[str, str]:
    name, colon, value = _octets(line).partition(":")
    if not colon:
        raise click.UsageError("Each -H must be a field line 'Name: value'; one has no colon.")
    return name, value.strip(" \t")


def _check_names(deployment: Deployment, down: Iterable[str], add: Iterable[str]) -> None:
    workers = deployment.plan.workers
    for name in down:
        if name not in workers:
            near = get_close_matches(name, workers, 1)
            hint = f"do you mean {near[0]}?" if near else f"there are {', '.join(workers)}."
            raise click.UsageError(f"--down: no worker is called {name!r}; {hint}")
    for name in add:
        if name in workers or not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            what = "there is one already" if name in workers else "a name has letters, digits, `.`, `_` and `-`"
            raise click.UsageError(f"--add: {name!r} cannot be a new worker; {what}.")


def _explain_lines(deployment: Deployment, lines: BinaryIO, peer: str) -> int:
    """Answer each line with one line; the exit status."""
    hear, write, texts = Rehearsal(deployment).hear, sys.stdout.write, DecisionTexts()
    status = CLEAN
    for number, line in enumerate(lines, start=1):
        try:
            asked = read_line(line, peer)
        except NoRequestError as error:
            status = WARNED
            write(json.dumps({"error": f"line {number}: {error}"}) + "\n")
        else:
            write(texts.text(asked.method, asked.target, hear(asked).decision) + "\n")
    return status


def _print_story(story: Story) -> None:
    click.secho(story.title, bold=True)
    _pairs(story.steps)
    click.secho(f"\n  {story.outcome}", fg="green" if story.forwarded else "red", bold=True)
    if story.others:
        click.echo("\n  not chosen")
        _pairs(story.others, "    ")
    if story.supposition is not None:
        click.echo(f"\n  {story.supposition.title}")
        for sentence in story.supposition.sentences:
            click.echo(f"    {sentence}")


def _pairs(pairs: Sequence[tuple[str, str]], margin: str = "  ") -> None:
    width = max((len(name) for name, _ in pairs), default=0)
    for name, text in pairs:
        click.echo(f"{margin}{click.style(name.ljust(width), fg='cyan')}  {text}")


@main.command()
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@_no_ask
@_json
@click.option("--exit-code", is_flag=True, help="Exit with 1 where anything differs.")
def diff(old: str, new: str, no_ask: bool, in_json: bool, exit_code: bool) -> None:
    """Print which endpoints go elsewhere with configuration NEW than with OLD, and what share of keys moves."""
    before, after = (_read(path, ask=not no_ask) for path in (old, new))
    facts, changes = facts_between(before, after), changes_between(before, after)
    if in_json:
        told = [{"what": what, "before": one, "after": other} for what, one, other in facts]
        click.echo(json.dumps({"facts": told, "endpoints": [change.as_json() for change in changes]}, indent=1))
    else:
        _print_differences(facts, changes)
    raise SystemExit(WARNED if exit_code and (facts or changes) else CLEAN)


def _print_differences(facts: Sequence[tuple[str, str, str]], changes: Sequence[Change]) -> None:
    for what, one, other in facts:
        click.echo(f"{what}: {click.style(one, fg='red')} -> {click.style(other, fg='green')}")
    alike: dict[tuple[str, str, str], list[Change]] = {}
    for change in changes:
        alike.setdefault((change.before.told(), change.after.told(), change.told_share()), []).append(change)
    for (one, other, share), group in alike.items():
        click.echo(f"- {click.style(one, fg='red')}")
        click.echo(f"+ {click.style(other, fg='green')}")
        click.echo(f"  {click.style(f'{len(group)} endpoints, {share}', bold=True)}")
        for change in group:
            click.echo(f"    {','.join(change.methods)} {change.path}")
    if not facts and not changes:
        click.echo("no difference in where requests go")


main.add_command(completion)
main.add_command(doctor)
main.add_command(export)
main.add_command(init)
main.add_command(password)
main.add_command(import_)
main.add_command(reload)
main.add_command(top)
main.add_command(hottest)

if __name__ == "__main__":
    main()
