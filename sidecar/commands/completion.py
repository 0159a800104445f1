"""`completion`: the script with which a shell completes what is typed, and what click cannot know of itself."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem, get_completion_class

from sidecar.errors import ConfigError
from sidecar.loading.deployment import deployment_of

SHELLS = ("bash", "zsh", "fish")
_PROGRAM, _VARIABLE = "matrix-sidecar", "_MATRIX_SIDECAR_COMPLETE"


@click.command(short_help="Print a completion script for your shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete commands, options, files and names of workers.

    For bash: matrix-sidecar completion bash >/etc/bash_completion.d/matrix-sidecar
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(context.find_root().command, {}, _PROGRAM, _VARIABLE).source())


def worker_names(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Those of the configuration that is named so far; none where it cannot be read."""
    try:
        workers = deployment_of(str(context.params["config"]), ask=False).plan.workers
    except (ConfigError, KeyError):
        return []
    return [CompletionItem(name) for name in workers if name.startswith(incomplete)]
