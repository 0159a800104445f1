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
            "Command that restarts a worker and returns when the worker has started. `{name}` stands for the "
            "worker's name, and `{file}` for the name of its file without `.yaml`. Write one text, which is "
            "split as a shell would split it, or a list of arguments. No shell runs it, so a name cannot become "
            "a command."
        ),
    )
    restart_main: Command = field(
        default=("systemctl", "restart", "matrix-synapse"),
        metadata=doc("The same command for the main process. `{name}` is `main`."),
    )
    drain: Duration = field(
        default=60.0,
        metadata=doc(
            "How long the running requests of a drained worker may take to end, while other workers serve its "
            "new requests. Then the worker is restarted anyway. Long polls do not count, because they move to "
            "another worker immediately."
        ),
    )
    hold: Duration = field(
        default=5.0,
        metadata=doc(
            "The same time for main, and for a worker that no other can replace, such as a stream writer. Its "
            "new requests wait meanwhile, and also during the restart. Both together must take less than "
            "timeouts.wait."
        ),
    )
    command: Duration = field(
        default=180.0,
        metadata=doc("How long a restart command may run. Then it is ended, and the rollout stops."),
    )
    health: Duration = field(
        default=60.0,
        metadata=doc("How long a restarted process may take to answer /health. Then the rollout stops."),
    )
    state: Path = field(
        default="/var/lib/matrix-sidecar/rollout.json",
        metadata=doc(
            "File that records the progress of a rollout, for --resume. The user who runs the rollout must be "
            "able to write there. Its directory is created if it is missing."
        ),
    )


def rollout_faults(rollout: Rollout) -> Iterator[tuple[tuple[str, str], str]]:
    """What is wrong, by key: a command that would be the same for every worker."""
    if not names_one_of(rollout.restart, PLACES):
        yield ("rollout", "restart"), "must contain `{name}` or `{file}`, or it restarts the same worker every time"
