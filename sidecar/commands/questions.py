"""Questions at the terminal, each with what is proposed, and the kinds of answers. Knows not what they are for."""

from __future__ import annotations

import sys
from ipaddress import ip_network
from typing import TYPE_CHECKING

import click

from sidecar.commands.read_or_fail import fail
from sidecar.config.endpoint_strings import EndpointError, server_endpoint

if TYPE_CHECKING:
    Kind = click.ParamType[str]
else:
    Kind = click.ParamType  # generic from click 8.5 on


class Questions:
    """Asks; with `silent` it takes what is proposed instead."""

    def __init__(self, *, silent: bool) -> None:
        """Ends the program where there is no terminal to ask at."""
        self.silent = silent
        if not silent and not sys.stdin.isatty():
            fail("There is no terminal to ask at. Give --yes, and options for what should not be as proposed.")

    def ask(self, question: str, proposed: str, kind: Kind) -> str:
        """The answer, asked for again until it is of this kind."""
        if self.silent:
            return proposed
        answer: str = click.prompt(question, default=proposed, type=kind, show_choices=False)
        return answer

    def agree(self, question: str) -> bool:
        """Whether the operator says yes; where nobody is asked, nobody did."""
        return not self.silent and click.confirm(question, default=False)


class EndpointKind(Kind):
    """A server endpoint string; a port alone is one on 127.0.0.1."""

    name = "endpoint"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails with what is wrong."""
        text = f"tcp:{value}:interface=127.0.0.1" if value.isdecimal() else value
        try:
            server_endpoint(text, "/")
        except EndpointError as error:
            self.fail(f"{text} is no endpoint string: {error.message}")
        return text


class Network(Kind):
    """An address or a network; `here` stands for none."""

    name = "network"
    HERE = "here"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails with what is wrong."""
        if value == self.HERE:
            return value
        try:
            return str(ip_network(value))
        except ValueError as error:
            self.fail(f"{error}; write for example 10.0.0.2 or 10.0.0.0/24")


class WorkerNames(Kind):
    """Names of workers or globs, with commas between them; `half` stands for none."""

    name = "names"
    HALF = "half"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Fails where nobody is named."""
        if not all(each.strip() for each in value.split(",")):
            self.fail("write names with commas between them, for example sync1,sync2")
        return value


def names_in(answer: str) -> tuple[str, ...]:
    """What an answer of the kind `WorkerNames` names."""
    return () if answer == WorkerNames.HALF else tuple(each.strip() for each in answer.split(","))
