"""`explain`: the command. The story of a request is told in `sidecar.explaining`."""

from __future__ import annotations

import gc
import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO

import click

from sidecar.commands.checking import CLEAN, WARNED
from sidecar.commands.completion import worker_names
from sidecar.commands.hints import endpoint_hint
from sidecar.commands.options import config_option, json_option, no_ask_option
from sidecar.commands.progress import progress, size_of
from sidecar.commands.read_or_fail import read_or_fail
from sidecar.errors import unknown_name
from sidecar.explaining.rehearsal import Rehearsal, RequestText, is_peer
from sidecar.explaining.request_lines import NoRequestError, answer_line, read_line
from sidecar.explaining.story import Story, tell
from sidecar.loading.deployment import Deployment
from sidecar.routing.compile import UNKNOWN

_REQUEST_LINE = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]+(/\S*)(?:[ \t]+HTTP/\d(?:\.\d)?)?", re.ASCII)
_EXAMPLE = "matrix-sidecar explain GET '/_matrix/client/v3/sync?since=s1' -H 'Authorization: Bearer …'"


@click.command(short_help="Show where one request would go, and why.")
@config_option
@no_ask_option
@json_option
@click.argument("request", metavar="METHOD TARGET", nargs=-1)
@click.option("-H", "headers", metavar="'NAME: VALUE'", multiple=True, help="A header of the request; repeatable.")
@click.option(
    "--peer", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="Where it connects from, or `unix`."
)
@click.option(
    "--down",
    metavar="NAME",
    multiple=True,
    shell_complete=worker_names,
    help="What if this worker were down? Repeatable.",
)
@click.option(
    "--add", metavar="NAME", multiple=True, help="What if there were one more worker with this name? Repeatable."
)
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
    """Show where one request would go, step by step. Nothing is sent.

    With --from, each line of FILE (`-` is standard input) is a request {"method": …, "target": …, "headers": {…},
    "peer": …}, or a line of an access log of nginx (combined) or HAProxy (httplog). Each gets one line of JSON, in
    order. Exit status with --from: 1 if any line is not a request.
    """
    peer = "" if peer == "unix" else peer
    if not is_peer(peer):
        raise click.UsageError("--peer must be an IP address or `unix`.")
    if lines is not None:
        if request or headers or down or add:
            raise click.UsageError("--from has the requests in a file. Leave out METHOD, TARGET, -H, --down and --add.")
        raise SystemExit(_explain_lines(read_or_fail(config, ask=not no_ask), lines, peer))
    method, target = _method_and_target(request)
    asked = RequestText(_octets(method), _octets(target), [_field(line) for line in headers], peer)
    deployment = read_or_fail(config, ask=not no_ask)
    _check_names(deployment, down, add)
    story = tell(deployment, asked, down, add)
    if in_json:
        click.echo(json.dumps(story.as_json()))
    else:
        _print_story(story)
        _print_hint(story, deployment)


def _method_and_target(words: Sequence[str]) -> tuple[str, str]:
    """What was given in any of the usual ways. What is refused is not repeated: it may be a token without its -H."""
    line = _REQUEST_LINE.fullmatch(" ".join(words).strip())
    if line is not None and len(words) != 2:
        return line[1], line[2]
    if len(words) == 2 and words[0].startswith("/") and words[1].isalpha():
        raise click.UsageError(f"METHOD comes before TARGET: {_EXAMPLE}")
    if len(words) != 2:
        raise click.UsageError(f"Give METHOD and TARGET, each header after its own -H: {_EXAMPLE}. Or --from FILE.")
    return words[0], words[1]


def _octets(argument: str) -> str:
    """An argument as text of which the octets are sent that were typed."""
    return argument.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _field(line: str) -> tuple[str, str]:
    name, colon, value = _octets(line).partition(":")
    if not colon:
        raise click.UsageError("Each -H needs a header 'Name: value'; one has no colon.")
    return name, value.strip(" \t")


def _check_names(deployment: Deployment, down: Iterable[str], add: Iterable[str]) -> None:
    workers = deployment.plan.workers
    for name in down:
        if name not in workers:
            raise click.UsageError(f"--down: {unknown_name('worker', name, workers)}")
    for name in add:
        if name in workers:
            raise click.UsageError(f"--add: there already is a worker {name!r}. Give a new name.")
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise click.UsageError(f"--add: {name!r} is no name. Use letters, digits, `.`, `_` and `-`.")


def _explain_lines(deployment: Deployment, lines: BinaryIO, peer: str) -> int:
    """Answer each line with one line; the exit status."""
    hear, write = Rehearsal(deployment).hear, sys.stdout.write
    status = CLEAN
    with _no_collections(), progress("Requests", size_of(lines), hidden=sys.stdout.isatty()) as step:
        for number, line in enumerate(lines, start=1):
            step(len(line), "")
            try:
                asked = read_line(line, peer)
            except NoRequestError as error:
                status = WARNED
                write(json.dumps({"error": f"line {number}: {error}"}) + "\n")
            else:
                write(answer_line(asked.method, asked.target, hear(asked).decision) + "\n")
    return status


@contextmanager
def _no_collections() -> Iterator[None]:
    """Lines leave no cycles behind, and a collection visits every remembered decision: a tenth of the time."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


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


def _print_hint(story: Story, deployment: Deployment) -> None:
    """Where no endpoint takes the request, the one that was probably meant."""
    asked = story.asked
    if not asked.target.startswith("/"):
        hint = "A path begins with `/`."
    elif story.decision.endpoint != UNKNOWN or asked.method == "OPTIONS":
        return
    else:
        hint = endpoint_hint(asked.method, asked.target, deployment.plan)
    if hint:
        click.secho(f"\n  Hint: {hint}", fg="yellow")


def _pairs(pairs: Sequence[tuple[str, str]], margin: str = "  ") -> None:
    width = max((len(name) for name, _ in pairs), default=0)
    for name, text in pairs:
        click.echo(f"{margin}{click.style(name.ljust(width), fg='cyan')}  {text}")
