"""`diff`: the command. What differs is worked out in `differences`."""

from __future__ import annotations

import json
from collections.abc import Sequence

import click

from sidecar.commands.checking import CLEAN, WARNED
from sidecar.commands.differences import Change, changes_between, facts_between
from sidecar.commands.options import json_option, no_ask_option
from sidecar.commands.read_or_fail import read_or_fail
from sidecar.plurals import counted


@click.command(short_help="Show which endpoints move between two configurations.")
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@no_ask_option
@json_option
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything differs.")
def diff(old: str, new: str, no_ask: bool, in_json: bool, exit_code: bool) -> None:
    """Show which endpoints configuration NEW sends elsewhere than OLD, and what share of keys moves."""
    before, after = (read_or_fail(path, ask=not no_ask) for path in (old, new))
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
        told = f"{counted(len(group), 'endpoint')}, {share}"
        click.echo(f"  {click.style(told, bold=True)}")
        for change in group:
            click.echo(f"    {','.join(change.methods)} {change.path}")
    if not facts and not changes:
        click.echo("Nothing differs in where requests go.")
