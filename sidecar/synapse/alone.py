"""One of Synapse's own files, checked by itself: what is wrong with it whatever the other files say.

Opens no file. What needs the other files (writers, names, replication, media) is `contradictions`' and not looked at.
"""

from __future__ import annotations

from collections.abc import Set
from enum import Enum

from attrs import evolve, frozen

from sidecar.document import Document
from sidecar.errors import Problem
from sidecar.synapse.contradictions import faults_of_processes
from sidecar.synapse.files import NO_MAPPING, merge
from sidecar.synapse.processes import MAIN_APP, main_process, worker_process
from sidecar.synapse.topology import WORKER_KEYS, Topology, read_writers

_MAIN_KEYS = frozenset(
    (
        *("server_name", "public_baseurl", "listeners", "pid_file", "report_stats", "database", "redis", "log_config"),
        *("stream_writers", "instance_map", "federation_sender_instances", "pusher_instances", "enable_media_repo"),
        *("media_store_path", "max_upload_size", "signing_key_path", "trusted_key_servers", "experimental_features"),
        *("registration_shared_secret", "macaroon_secret_key", "form_secret", "app_service_config_files", "modules"),
        *("enable_registration", "matrix_authentication_service", "worker_replication_secret", "bind_port"),
    )
)
"""Keys by which a file shows that it is one of Synapse's main process."""


class SynapseFile(Enum):
    """What a file of Synapse describes."""

    HOMESERVER = "homeserver"
    WORKER = "worker"


@frozen
class CheckedAlone:
    """What was found in one file."""

    kind: SynapseFile
    scope: str
    """What was checked, and how to check the rest."""
    problems: tuple[Problem, ...]


def kind_of_file(document: Document, ours: Set[str]) -> SynapseFile | None:
    """What a file describes; None where it is none of Synapse's. `ours`: the keys of sidecar.yaml, which decide."""
    value = document.value
    if not isinstance(value, dict) or not ours.isdisjoint(value):
        return None
    if not WORKER_KEYS.isdisjoint(value):
        return SynapseFile.HOMESERVER if value.get("worker_app") == MAIN_APP else SynapseFile.WORKER
    return None if _MAIN_KEYS.isdisjoint(value) else SynapseFile.HOMESERVER


def check_alone(document: Document, kind: SynapseFile) -> CheckedAlone:
    """Everything that is wrong with a file of Synapse by itself."""
    problems = list(document.problems)
    if not isinstance(document.value, dict):
        return CheckedAlone(kind, NO_MAPPING, tuple(problems))
    config = merge([document], document.file)
    if kind is SynapseFile.WORKER:
        process = worker_process(config, problems)
        scope = (
            f"worker `{process.name}` of Synapse, checked by itself: its name, listeners, resources and obsolete keys. "
            "Not checked: homeserver.yaml, the other workers, and how they fit together"
        )
    else:
        process = main_process(config, problems)
        read_writers(config, problems)
        scope = (
            "configuration of Synapse's main process, checked by itself: listeners, resources, stream writers and "
            "obsolete keys. Not checked: other files of Synapse, the workers, and how they fit together"
        )
    reached = bool(process.endpoint)
    topology = evolve(Topology(), processes=(process,) if reached else (), silent=() if reached else (process,))
    found = dict.fromkeys((*problems, *faults_of_processes(topology)))
    return CheckedAlone(kind, f"{scope}. `matrix-sidecar check -c sidecar.yaml` checks everything", tuple(found))
