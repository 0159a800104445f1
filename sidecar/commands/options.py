"""The options that several commands have, written once. Knows no command."""

from __future__ import annotations

import click

from sidecar.loading.deployment import DEFAULT_PATH

config_option = click.option(
    "-c",
    "--config",
    metavar="FILE",
    type=click.Path(),
    default=DEFAULT_PATH,
    show_default=True,
    help="The configuration file.",
)
no_ask_option = click.option("--no-ask", is_flag=True, help="Do not ask the running Synapse for its version.")
json_option = click.option("--json", "in_json", is_flag=True, help="Print JSON.")
