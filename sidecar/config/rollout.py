"""`rollout:`, as frozen values with their defaults: how `matrix-sidecar rollout` restarts Synapse's processes."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field, frozen

from sidecar.config.argument_lists import Command, names_one_of
from sidecar.config.kinds import Duration, Path, doc

PLACES = ("name", "file")
"""What stands in braces in `restart`."""


@frozen(kw_only=True)
class Rollout:
    """`rollout:`. How `matrix-sidecar rollout` restarts the processes of Synapse, one after another."""

    restart: Command = field(
        default=("systemctl", "restart", "matrix-synapse-worker@{name}"),
        metadata=doc(
            "Restarts a worker and returns when it has been started. `{name}` stands for the worker's name, `{file}` "
            "for the name of its file without `.yaml`. One text, split as a shell would, or a list of arguments; no "
            "shell runs it, so a name cannot become a command."
        ),
    )
    restart_main: Command = field(
        default=("systemctl", "restart", "matrix-synapse"),
        metadata=doc("The same for the main process, whose `{name}` is `main`."),
    )
    drain: Duration = field(
        default=60.0,
        metadata=doc(
            "How long the running requests of a drained worker may take to end, while others serve its new requests. "
            "After that it is restarted all the same. Long polls do not count: they move to another worker at once."
        ),
    )
    hold: Duration = field(
        default=5.0,
        metadata=doc(
            "The same for a worker that nobody can replace, such as the writer of a stream, and for main. Their new "
            "requests wait meanwhile, and during the restart. Both together must be shorter than timeouts.wait."
        ),
    )
    command: Duration = field(
        default=180.0,
        metadata=doc("How long a restart command may run. It is then ended, and the rollout stops."),
    )
    health: Duration = field(
        default=60.0,
        metadata=doc(
            "How long a restarted process may take until it answers /health. If it takes longer, the rollout stops."
        ),
    )
    state: Path = field(
        default="/var/lib/matrix-sidecar/rollout.json",
        metadata=doc(
            "The file that remembers how far a rollout has come, for --resume. Whoever runs it must be able to write "
            "there. Its directory is created."
        ),
    )


def rollout_faults(rollout: Rollout) -> Iterator[tuple[tuple[str, str], str]]:
    """What is wrong, by key: a command that would be the same for every worker."""
    if not names_one_of(rollout.restart, PLACES):
        yield ("rollout", "restart"), "must contain `{name}` or `{file}`, or it restarts the same worker every time"
