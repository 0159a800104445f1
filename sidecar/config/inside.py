"""The `config:` of the module in homeserver.yaml, with which the sidecar runs inside Synapse, and what follows from it.

Synapse knows its own files and its version; everything else is as in `sidecar.yaml`. Opens no file of Synapse.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from attrs import evolve, field, frozen

from sidecar.config import kinds
from sidecar.config.kinds import doc
from sidecar.config.load import load_settings, read_part
from sidecar.config.schema import Settings, Synapse
from sidecar.document import Document, KeyPath
from sidecar.synapse.names import MAIN

DRAIN = 5.0
"""Seconds of a stop for which running requests are waited for unless the file says otherwise: Synapse waits as long."""


@frozen(kw_only=True)
class Inside:
    """`config:` of the module."""

    listen: tuple[kinds.ServerEndpoint, ...] | None = field(
        default=None,
        metadata=doc("A Twisted server endpoint string, or a list of them; absent: that of `file`, else the default."),
    )
    admin: kinds.ServerEndpoint | None = field(
        default=None, metadata=doc("Endpoint of the operator's listener; absent: that of `file`, else there is none.")
    )
    workers: tuple[kinds.Path, ...] | None = field(
        default=None,
        metadata=doc("The files of the workers, or directories of them; absent: `synapse.workers` of `file`."),
    )
    processes: tuple[kinds.Name, ...] = field(
        default=(MAIN,),
        metadata=doc("The Synapse processes in which it runs, by `worker_name`; all read the same homeserver.yaml."),
    )
    file: kinds.Path | None = field(
        default=None, metadata=doc("A `sidecar.yaml` with everything else: pools, routes, limits, timeouts, access.")
    )


def read_inside(document: Document, path: KeyPath, value: object) -> Inside:
    """The module's configuration, which stands at `path` of a file of Synapse. Raises ConfigError."""
    return read_part(document, path, value, Inside)


def settings_inside(inside: Inside, config: Sequence[str], workers: Sequence[str], version: str | None) -> Settings:
    """The settings in force: those of `file`, under what the module says and Synapse knows. Raises ConfigError.

    `config` and `workers` are the files of the process itself; the workers that are configured come to them.
    """
    settings = load_settings(inside.file, inside=True) if inside.file else Settings()
    others = settings.synapse.workers if inside.workers is None else inside.workers
    stated = isinstance(settings.source.value, Mapping) and settings.source.value.get("timeouts")
    timeouts = settings.timeouts
    if not (isinstance(stated, Mapping) and "drain" in stated):
        timeouts = evolve(timeouts, drain=DRAIN)
    return evolve(
        settings,
        listen=settings.listen if inside.listen is None else inside.listen,
        admin=settings.admin if inside.admin is None else inside.admin,
        synapse=Synapse(
            config=tuple(config),
            workers=tuple(dict.fromkeys((*workers, *others))),
            version=version or settings.synapse.version,
        ),
        timeouts=timeouts,
    )
