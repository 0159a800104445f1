"""Brings up a real Synapse with workers and the sidecar in front of it; `python -m tests.end_to_end.laboratory`.

A `Laboratory` is one topology over the `Services` that several can share. Everything lies in one temporary
directory and goes with it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, get_args

from attrs import field, frozen

from .children import Child, LaboratoryError, answers, ask, run
from .services import Services, missing
from .synapse_files import SERVER_NAME, Layout, write_schema_owner, write_sidecar, write_synapse
from .topology import TOPOLOGIES, Configuration, Process, Topology

SCHEMA = "schema"
MEMORY = Path("/dev/shm")
ROOM_NEEDED = 1024**3
START_LIMIT = 90.0
END_LIMIT = 30.0
PASSWORD = "correct horse battery staple"


@frozen
class Laboratory:
    """A running Synapse: where its files, sockets and logs are, and its processes, to be ended and started again."""

    layout: Layout
    topology: Topology
    services: Services
    children: dict[str, Child] = field(factory=dict)

    def start(self, *names: str) -> None:
        """Start these processes, at once, and wait until each answers."""
        self.begin(*names)
        self.wait_for(*names)

    def begin(self, *names: str) -> None:
        """Start these processes, which end with the thread that does so (PR_SET_PDEATHSIG)."""
        for process in self.topology.processes:
            if process.name in names:
                self.children[process.name] = _start(self.layout, process)

    def wait_for(self, *names: str) -> None:
        """Wait until each of these processes answers."""
        for name in names:
            ready = partial(answers, self.layout.socket(name), "/health")
            self.children[name].wait_until(ready, START_LIMIT)

    def end(self, name: str, number: signal.Signals) -> None:
        """Send one process this signal and wait until it is gone."""
        self.children[name].signal(number)
        assert self.children[name].ends(END_LIMIT), f"{name} did not end after {number.name}"

    def restart(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End one process with this signal, start it again, and wait until it answers."""
        self.end(name, number)
        self.start(name)

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """What this statement finds in Synapse's database."""
        return self.services.query(self.topology.name, statement, values)


@frozen
class Gateway:
    """A running sidecar in front of a laboratory."""

    laboratory: Laboratory
    configuration: Configuration
    port: int
    process: Child

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait_for_all(self) -> None:
        """Wait until every worker gets all of its keys: who has been away gets them one after the other."""
        status = self.laboratory.layout.socket(f"sidecar.{self.configuration}")
        self.process.wait_until(lambda: _all_there(status), START_LIMIT)


@contextmanager
def scratch_directory(*, keep: bool = False) -> Iterator[Path]:
    """A directory with a path short enough for UNIX sockets, in memory where there is room.

    On a disk that discards what is deleted, getting rid of PostgreSQL's files took 13 s.
    """
    in_memory = MEMORY.is_dir() and "TMPDIR" not in os.environ and shutil.disk_usage(MEMORY).free > ROOM_NEEDED
    root = Path(tempfile.mkdtemp(prefix="lab-", dir=MEMORY if in_memory else None))
    try:
        yield root
    finally:
        if keep:
            print(f"kept {root}")
        else:
            shutil.rmtree(root)


@contextmanager
def running_services(root: Path) -> Iterator[Services]:
    """PostgreSQL with a database that holds Synapse's tables, to be copied."""
    with Services(root) as services:
        services.create_database(SCHEMA)
        file = write_schema_owner(root, services, SCHEMA)
        run(
            [sys.executable, "-m", "synapse._scripts.update_synapse_database", "--database-config", file],
            directory=root,
        )
        yield services


@contextmanager
def running_synapse(
    services: Services, topology: Topology, shared: Mapping[str, Any] | None = None
) -> Iterator[Laboratory]:
    """All processes of a topology, started at once and answering. `shared` replaces keys of homeserver.yaml."""
    layout = Layout(services.root / topology.name)
    services.create_database(topology.name, SCHEMA)
    services.start_redis(topology.name)
    write_synapse(layout, topology, services, topology.name, shared or {})
    laboratory = Laboratory(layout, topology, services)
    try:
        laboratory.start(*(process.name for process in topology.processes))
        yield laboratory
    finally:
        Child.stop_all(laboratory.children.values())


def _start(layout: Layout, process: Process) -> Child:
    module = "synapse.app.homeserver" if process.is_main else "synapse.app.generic_worker"
    command = [sys.executable, "-m", module, *layout.config_options(process)]
    return Child(process.name, command, layout.log(process.name), directory=layout.root)


@contextmanager
def running_sidecar(
    laboratory: Laboratory,
    configuration: Configuration,
    port: int = 0,
    settings: Mapping[str, Any] | None = None,
    name: str = "",
) -> Iterator[Gateway]:
    """The sidecar as users start it, on a port of 127.0.0.1 (0: any free one).

    `settings` replaces keys of its file; `name` tells it from others with the same configuration.
    """
    layout = laboratory.layout
    port = port or free_port()
    file = write_sidecar(layout, laboratory.topology, configuration, port, settings or {}, name)
    twistd = Path(sys.executable).parent / "twistd"
    child = Child(
        "sidecar",
        [twistd, "-n", "--pidfile=", "matrix-sidecar", "--config", file],
        layout.log(f"sidecar.{name or configuration}"),
        directory=layout.root,
    )
    try:
        child.wait_until(lambda: answers(("127.0.0.1", port), "/_matrix/client/versions"), START_LIMIT)
        yield Gateway(laboratory, configuration, port, child)
    finally:
        Child.stop_all([child])


def _all_there(status: Path) -> bool:
    told = json.loads(ask(status, "GET", "/api/status")[1])["workers"].values()
    return all(worker["state"] == "up" and not worker["slow_start"] for worker in told)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _by_hand(options: argparse.Namespace) -> Iterator[tuple[Laboratory, Gateway | None]]:
    with ExitStack() as stack:
        root = stack.enter_context(scratch_directory(keep=options.keep))
        services = stack.enter_context(running_services(root))
        laboratory = stack.enter_context(running_synapse(services, TOPOLOGIES[options.topology]))
        if options.without_sidecar:
            write_sidecar(laboratory.layout, laboratory.topology, options.configuration, options.port, {})
            yield laboratory, None
        else:
            yield laboratory, stack.enter_context(running_sidecar(laboratory, options.configuration, options.port))


def _introduce(laboratory: Laboratory, options: argparse.Namespace, gateway: Gateway | None) -> None:
    """Print what one needs to know to try things."""
    layout, url = laboratory.layout, f"http://127.0.0.1:{options.port}"
    print(f"{laboratory.topology.name}: {len(laboratory.topology.processes)} Synapse processes in {layout.root}")
    for process in laboratory.topology.processes:
        streams = f", writes {' '.join(process.writes)}" if process.writes else ""
        print(f"  {process.name:14} {layout.socket(process.name)}  serves {' '.join(process.resources)}{streams}")
    file = layout.sidecar_file(options.configuration)
    print(f"\n{file}:\n{textwrap.indent(file.read_text(), '  ')}")
    print(f"sidecar: {url}" if gateway else f"start it with: twistd -n matrix-sidecar --config {file}")
    print(f"logs: {layout.root}/log\n\nusers, with password {PASSWORD!r}:")
    tokens = {name: register(layout.socket("main"), name) for name in ("alice", "bob")}
    for name, token in tokens.items():
        print(f"  @{name}:{SERVER_NAME}  {token}")
    bearer = f"-H 'Authorization: Bearer {tokens['alice']}'"
    print(f"\ncurl {url}/_matrix/client/versions")
    print(f"curl {bearer} {url}/_matrix/client/v3/account/whoami")
    print(f"curl {bearer} '{url}/_matrix/client/v3/sync?timeout=0'")
    print("\nCtrl-C ends it.", flush=True)


def register(main: Path, name: str) -> str:
    """A new user, at the socket of the main process; the access token."""
    content = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
    status, answer = ask(main, "POST", "/_matrix/client/v3/register", content)
    if status != 200:
        raise LaboratoryError(f"registering {name} was answered {status}: {answer!r}")
    return str(json.loads(answer)["access_token"])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.end_to_end.laboratory", description=__doc__)
    parser.add_argument("--topology", choices=TOPOLOGIES, default="split")
    parser.add_argument("--configuration", choices=get_args(Configuration), default="three_lines")
    parser.add_argument("--port", type=int, default=8008, help="of the sidecar on 127.0.0.1")
    parser.add_argument("--without-sidecar", action="store_true", help="to start it oneself; its file is written")
    parser.add_argument("--keep", action="store_true", help="leave files and logs where they are")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Bring a laboratory up by hand and keep it until Ctrl-C or SIGTERM."""
    options = _options(arguments)
    if absent := missing():
        print(f"the laboratory needs {', '.join(absent)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with _by_hand(options) as (laboratory, gateway):
            _introduce(laboratory, options, gateway)
            signal.pause()
    except LaboratoryError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
