"""The endpoint table corrected by a process: what that has more, and less; an ordinary Synapse has neither."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from attrs import evolve
from test_table_regenerates import newest_synapse

from sidecar.synapse.endpoint_rows import EndpointTable, endpoints_of
from sidecar.synapse.overlay import read_overlay
from sidecar.synapse.own_table import Corrected, corrected
from sidecar.synapse.processes import Process
from sidecar.synapse.registrations import Registration

MAIN = Process(name="main", serves=frozenset(("client",)), media=True, features=frozenset(("not_mas",)))
WORKER = evolve(MAIN, name="w1")


def row(path: str, methods: str = "GET", **columns: Any) -> dict[str, Any]:
    words = {
        "name": "some",
        "main": "client",
        "worker": "client",
        "group": "client",
        "affinity": "user",
        "cost": "light",
    }
    return {"path": path, "methods": methods, **words, **columns}


def table(*rows: dict[str, Any]) -> EndpointTable:
    endpoints = tuple(each for one in rows for each in endpoints_of(one))
    return EndpointTable(endpoints=endpoints, release="1.163", asked=None, oldest="1.100", newest="1.163")


def seen(process: Process, known: EndpointTable, *registered: str) -> Corrected:
    """`registered`: `GET /path`, in the notation of the table."""
    own = [Registration(method, path, "SomeRestServlet") for method, path in map(str.split, registered)]
    return corrected(known, own, process, read_overlay())


def rows_of(found: Corrected) -> dict[tuple[str, ...], list[tuple[set[str], str, set[str]]]]:
    """By path: methods, group, and resources of workers."""
    rows: dict[tuple[str, ...], list[tuple[set[str], str, set[str]]]] = {}
    for each in found.table.endpoints:
        rows.setdefault(each.path, []).append((set(each.methods), each.group, set(each.worker_resources)))
    return rows


PATH, KEY = "/_matrix/client/v3/thing/{id}", ("_matrix", "client", "v3", "thing", "{id}")


@pytest.mark.parametrize("process", [MAIN, WORKER])
def test_nothing_else(process: Process) -> None:
    """Where a process has what the table says, under whatever names of parameters, the table stays as it is."""
    known = table(row(PATH, "GET PUT"))
    found = seen(process, known, "GET /_matrix/client/v3/thing/{other}", f"PUT {PATH}")
    assert (found.table, found.added, found.missing) == (known, 0, 0)


def test_what_a_worker_lacks() -> None:
    """The methods that it has not registered go to main, the others stay."""
    found = seen(WORKER, table(row(PATH, "GET PUT")), f"PUT {PATH}")
    assert rows_of(found) == {KEY: [({"PUT"}, "client", {"client"}), ({"GET", "HEAD"}, "main", set())]}
    assert (found.added, found.missing) == (0, 1)
    assert seen(WORKER, table(row(PATH, main="")), "GET /health").table.endpoints == ()


def test_what_main_lacks() -> None:
    """It is no endpoint at all: as any unknown path it is main's to refuse."""
    found = seen(MAIN, table(row(PATH)), "GET /health")
    assert (found.table.endpoints, found.missing) == ((), 1)


@pytest.mark.parametrize(
    ("process", "columns"),
    [
        (WORKER, {"worker": "federation"}),
        (WORKER, {"needs": "media_repo"}),
        (WORKER, {"needs": "cas|oidc"}),
        (MAIN, {"main": "federation"}),
    ],
)
def test_what_the_process_need_not_have(process: Process, columns: dict[str, str]) -> None:
    """Behind another resource, without a media repository, or not configured: its absence tells nothing."""
    known = table(row(PATH, **columns))
    found = seen(evolve(process, media=False), known, "GET /health")
    assert (found.table, found.missing) == (known, 0)


def test_what_a_worker_has_more() -> None:
    """An endpoint that only main had, or that nobody knew, is given to the workers as the overlay judges its like."""
    moved, new = "/_matrix/client/v3/rooms/{room_id}/messages", "/_matrix/client/v3/rooms/{room_id}/event/{event_id}"
    known = table(row(moved, "GET POST", worker="", group="main"))
    found = seen(WORKER, known, f"GET {moved}", f"GET {new}")
    rows = {each.path[-1] if each.group == "main" else each.path[5]: each for each in found.table.endpoints}
    assert found.added == 2
    assert (rows["event"].group, rows["event"].affinity, rows["event"].key) == ("rooms", "room", "room_id")
    assert rows["event"].methods == {"GET", "HEAD"}
    by_method = {
        method: each for each in found.table.endpoints if each.path[5:] == ("messages",) for method in each.methods
    }
    assert {method: each.group for method, each in by_method.items()} == {
        "GET": "rooms",
        "HEAD": "rooms",
        "POST": "main",
    }
    assert by_method["GET"].resources == {"client"}
    assert seen(MAIN, known, f"GET {moved}", f"GET {new}", f"POST {moved}").added == 0


def test_versions_of_a_path() -> None:
    """Where a worker has another set of versions than the table, each of them is seen by itself."""
    of = "/_matrix/client/{}/rooms/{{room_id}}/messages"
    known = table(row(of.format("{r0|v3}"), group="rooms"))
    found = seen(WORKER, known, f"GET {of.format('{v3|v4}')}")
    assert {path[2]: [(group, workers) for _, group, workers in rows] for path, rows in rows_of(found).items()} == {
        "r0": [("main", set())],
        "v3": [("rooms", {"client"})],
        "v4": [("rooms", {"client"})],
    }
    assert (found.added, found.missing) == (1, 1)


@pytest.mark.parametrize("path", ["/_synapse/client/pick_idp", "/_matrix/client/v3/nobody/knows"])
def test_what_is_left_alone(path: str) -> None:
    """What is not Matrix's may be a module's with its state in one process; what no entry judges stays with main."""
    assert seen(WORKER, table(), f"GET {path}").table.endpoints == ()


ASKED = """
import logging, sys, tempfile
from importlib import import_module
from pathlib import Path
from sidecar.document import Document
from sidecar.synapse.endpoint_rows import load_endpoints
from sidecar.synapse.overlay import read_overlay
from sidecar.synapse.own_table import corrected
from sidecar.synapse.registrations import registered
from sidecar.synapse.servlets import Listeners
from sidecar.synapse.topology import assemble

logging.disable(logging.CRITICAL)
with tempfile.TemporaryDirectory() as directory:
    listeners = Listeners(Path(directory))
    for worker in (False, True):
        for names in (["client", "federation"], ["client"], ["federation"], ["media"]):
            listener = {"type": "http", "port": 9000, "resources": [{"names": names}]}
            settings = listeners._whole({}, worker=worker)
            settings["worker_listeners" if worker else "listeners"] = [listener]
            settings["instance_map"] = {"main": {"host": "127.0.0.1", "port": 9}}
            document = Document("w.yaml" if worker else "homeserver.yaml", dict(settings))
            topology = assemble([Document("shared.yaml", {})] if worker else [document], [document] if worker else [])
            process = next(each for each in topology.processes if each.is_main is not worker)
            config = import_module("synapse.config.homeserver").HomeServerConfig()
            config.parse_config_dict(settings, directory, directory)
            server = (listeners._worker if worker else listeners._main)("x", config=config)
            server.setup()
            (listener,) = config.worker.worker_listeners if worker else config.server.listeners
            listeners._roots.clear()
            list((server._listen_http(listener) if worker else server._listener_http(config, listener)) or ())
            own = registered(listeners._roots[0])
            found = corrected(load_endpoints(), own, process, read_overlay())
            print(process.name, *names, found.added, found.missing)
"""


def test_an_ordinary_synapse_has_what_the_table_says() -> None:
    """Main and a generic worker of the newest release, with several sets of resources, have neither more nor less."""
    newest_synapse()
    asked = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    lines = asked.stdout.splitlines()
    assert len(lines) == 8
    assert [line for line in lines if not line.endswith(" 0 0")] == []
