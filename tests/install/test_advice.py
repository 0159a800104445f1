"""What an operator is warned of: ports, sockets and files that the sidecar's user cannot reach, wrong modes."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hosts import homeserver, worker, write

from sidecar.errors import Severity
from sidecar.install.advice import advice
from sidecar.install.permissions import Account
from sidecar.synapse.reading import read_topology
from sidecar.synapse.topology import Topology

STRANGER = Account("the sidecar")
MEMBER = Account("the sidecar", None, frozenset((4321,)))


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may pass; pytest's own are closed."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def told(place: Path, account: Account = STRANGER, **listener: object) -> list[str]:
    """What is said of a main process and a worker with this listener."""
    worker(place, "/workers/w.yaml", **listener)
    return said(topology(place), account)


def topology(place: Path) -> Topology:
    homeserver(place, "/homeserver.yaml", {"path": str(place / "main.sock")})
    return read_topology([str(place / "homeserver.yaml")], [str(place / "workers")])


def said(topology: Topology, account: Account) -> list[str]:
    problems = list(advice(topology, account))
    assert all(problem.severity is Severity.WARNING for problem in problems)
    return [str(problem) for problem in problems]


def test_sockets_as_synapse_makes_them_by_default_are_fine(place: Path) -> None:
    """Mode 0666."""
    assert told(place) == []


def test_a_port_on_loopback_works_and_a_socket_is_better(place: Path) -> None:
    """The warning stands at the listener, with the line to write."""
    (message,) = told(place, port=8083, bind_addresses=["127.0.0.1"])
    assert message.startswith(f"{place}/workers/w.yaml:3: worker_listeners[0]: warning: w listens on port 8083; ")
    assert message.endswith("write `path: /run/matrix-synapse/w.sock` instead of `port`")


def test_a_port_of_every_address_can_be_reached_past_the_sidecar(place: Path) -> None:
    """Which is Synapse's default."""
    (message,) = told(place, port=8083)
    assert "can claim to be any client" in message
    assert "bind_addresses: ['127.0.0.1']" in message


@pytest.mark.parametrize(
    ("mode", "account", "part"),
    [
        ("0o660", STRANGER, "`mode` is a string"),
        (660, STRANGER, "decimal number 660; write it with a leading zero"),
        (0o660, STRANGER, "`Group=`"),
        (0o600, MEMBER, "only Synapse's own user can connect to it"),
    ],
)
def test_modes_that_keep_the_sidecar_out(place: Path, mode: object, account: Account, part: str) -> None:
    """Each with what to write."""
    (message,) = told(place, account, mode=mode)
    assert part in message


def test_a_mode_for_the_group_is_fine_for_who_is_in_a_group(place: Path) -> None:
    """Before the socket is there, the group that it will have is not known."""
    assert told(place, MEMBER, mode=0o660) == []


def test_a_socket_that_is_there_is_judged_as_it_is(place: Path) -> None:
    """Its mode, its group, its directory, and not what the file says."""
    path = place / "closed" / "w.sock"
    path.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        path.chmod(0o660)
        (message,) = told(place, path=str(path))
        assert f"the sidecar may not pass through {path.parent}" in message
        assert message.endswith("allow access to the directory (`chmod o+x`), or let the sidecar run in its group")
        path.parent.chmod(0o711)
        (message,) = told(place, path=str(path), mode=0o660)
        assert f"may not write to {path}, which has mode 0660" in message
        assert "so the sidecar cannot reach w; let the sidecar run in Synapse's group" in message
        path.chmod(0o666)
        assert told(place, path=str(path)) == []


def test_files_that_the_sidecar_cannot_read_are_told(place: Path) -> None:
    """Synapse's files often hold secrets, and are closed."""
    homeserver(place, "/homeserver.yaml", {"path": str(place / "main.sock")})
    (place / "homeserver.yaml").chmod(0o640)
    (message,) = said(topology(place), STRANGER)
    assert message.startswith(f"{place}/homeserver.yaml: warning: the sidecar may not read {place}/homeserver.yaml")
    assert "chgrp matrix-synapse" in message


def test_workers_stated_by_hand_have_no_listener_to_judge(place: Path) -> None:
    """There is no file of Synapse that says anything about them."""
    write(place, "/workers/none.txt", "")
    from sidecar.config.schema import Worker

    stated = {"w": Worker(endpoint="tcp:10.0.0.2:8083")}
    assert said(read_topology([], [], stated), STRANGER) == []
