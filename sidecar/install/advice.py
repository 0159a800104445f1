"""Advice about the Synapse that init found: listeners on ports, and sockets and files without permission.

Each is a warning with its place and with what to write instead. `check` reports contradictions in Synapse's files.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

from sidecar.errors import Problem, Severity
from sidecar.install.permissions import READ, WRITE, Account, hindrance
from sidecar.synapse.listeners import SynapseListener
from sidecar.synapse.processes import Process
from sidecar.synapse.topology import Topology

_GROUP_WRITES, _OTHERS_WRITE = 0o020, 0o002
_MODES = 0o777


def advice(topology: Topology, account: Account) -> Iterator[Problem]:
    """All advice, for the account that the sidecar will run as."""
    for process in topology.processes:
        listener = process.listener
        if listener is not None:
            told = _socket(process, listener, account) if listener.socket else _port(process, listener)
            if told:
                yield process.config.warning(listener.path, told)
    yield from unreadable(topology.files, account)


def unreadable(files: Iterable[str], account: Account) -> Iterator[Problem]:
    """Files that the sidecar must read, but has no permission for."""
    for file in files:
        hindered = hindrance(file, account, READ)
        if hindered:
            message = f"{hindered}; the sidecar must read it: `chgrp matrix-synapse` and `chmod g+r`"
            yield Problem(file, 0, "", message, Severity.WARNING)


def _port(process: Process, listener: SynapseListener) -> str:
    """Ports work, but cost more than sockets, and anyone who can reach one bypasses the sidecar."""
    instead = f"write `path: /run/matrix-synapse/{process.name}.sock` instead of `port`"
    if listener.everywhere:
        return (
            f"{process.name} listens on port {listener.port} on all addresses: anyone who can reach it bypasses the "
            f"sidecar and can claim to be any client; {instead}, or at least `bind_addresses: ['127.0.0.1']`"
        )
    return f"{process.name} listens on port {listener.port}; a UNIX socket costs less and keeps others out: {instead}"


def _socket(process: Process, listener: SynapseListener, account: Account) -> str:
    """Whether the account can connect: to the socket that is there, else to the one that Synapse will make.

    Which group that one will have is not known before; the sidecar's is taken for it.
    """
    assert listener.socket is not None
    mode = _mode(process, listener)
    if not isinstance(mode, int):
        return "`mode` is a string, and Synapse does not start with it; write `mode: 0666` without quotes"
    if mode > _MODES:
        return f"YAML reads this `mode` as the decimal number {mode}; write it with a leading zero: `mode: 0666`"
    if os.path.exists(listener.socket):
        hindered = hindrance(listener.socket, account, WRITE)
        return f"{hindered}, so the sidecar cannot reach {process.name}; {_mend(mode)}" if hindered else ""
    if mode & _OTHERS_WRITE or (mode & _GROUP_WRITES and account.groups):
        return ""
    return f"the socket of {process.name} will have mode {mode:04o}; {_mend(mode)}"


def _mend(mode: int) -> str:
    if mode & _OTHERS_WRITE:
        return "allow access to the directory (`chmod o+x`), or let the sidecar run in its group"
    if mode & _GROUP_WRITES:
        return "let the sidecar run in Synapse's group (`Group=` of its unit), or write `mode: 0666`"
    return "only Synapse's own user can connect to it: write `mode: 0660` and let the sidecar run in its group"


def _mode(process: Process, listener: SynapseListener) -> Any:
    """As YAML has it; Synapse's default is 0666."""
    entry: Any = process.config.values
    for part in listener.path:
        entry = entry[part]
    return entry.get("mode", 0o666)
