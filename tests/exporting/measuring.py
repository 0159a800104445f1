"""The real nginx, HAProxy and Caddy with an exported file, before workers that say their names."""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from attrs import frozen
from busy import AnsweringWorker
from processes import PATIENCE, Running, await_listener, exchange, free_port
from runners import runner
from system_programs import find

from benchmarks import coverage
from sidecar.cli import main
from sidecar.loading.deployment import Deployment, read_deployment
from sidecar.routing.decide import decide
from sidecar.routing.decision import Decision
from sidecar.synapse.endpoint_rows import load_endpoints
from sidecar.wire.fields import FieldSection

PROGRAMS = ("nginx", "haproxy", "caddy")
FILES = {"nginx": "matrix.conf", "haproxy": "haproxy.cfg", "caddy": "Caddyfile"}
RELEASE = load_endpoints().newest

WORKERS: Mapping[str, Mapping[str, Any]] = {
    "main": {"serves": ["client", "federation", "keys", "openid", "consent", "static", "health"]},
    **{f"sync{number}": {"serves": ["client"]} for number in (1, 2, 3)},
    **{f"client{number}": {"serves": ["client"]} for number in (1, 2)},
    **{f"room{number}": {"serves": ["client"], "weight": number} for number in (1, 2)},
    **{f"federation{number}": {"serves": ["federation"]} for number in (1, 2)},
    **{f"media{number}": {"serves": ["media"]} for number in (1, 2)},
    **{f"event{number}": {"serves": ["client"], "writes": ["events"]} for number in (1, 2)},
    **{
        f"{stream}1": {"serves": ["client"], "writes": [stream]}
        for stream in ("typing", "to_device", "account_data", "presence", "push_rules", "thread_subscriptions")
    },
    **{f"receipts{number}": {"serves": ["client"], "writes": ["receipts"]} for number in (1, 2)},
    **{f"device_lists{number}": {"serves": ["client"], "writes": ["device_lists"]} for number in (1, 2)},
}
SPLIT: Mapping[str, Any] = {
    "workers": WORKERS,
    "pools": {
        "sync": {"workers": ["sync1", "sync2"]},
        "initial_sync": {"workers": ["sync3"]},
        "client": {"workers": ["client*"]},
        "rooms": {"workers": ["room*"]},
    },
    "access": {"admin": ["127.0.0.0/8"]},
}
"""Every kind of pool has workers of its own, most of them two."""
EVENT_PERSISTERS = [name for name, facts in WORKERS.items() if "events" in facts.get("writes", ())]

ALICE = "Bearer syt_YWxpY2U_xyQVtQzXGennfExeGGhf_2OY2TV"


@frozen
class Asked:
    """One request. `fields` are lines without CR LF."""

    method: str
    target: str
    fields: tuple[str, ...] = (f"Authorization: {ALICE}",)

    def octets(self) -> bytes:
        body = () if self.method in ("GET", "HEAD", "OPTIONS", "DELETE") else ("Content-Length: 0",)
        host = () if any(field.lower().startswith("host:") for field in self.fields) else ("Host: matrix.example.org",)
        lines = (f"{self.method} {self.target} HTTP/1.1", *host, *self.fields, *body, "", "")
        return "\r\n".join(lines).encode()


@frozen
class Answer:
    """The worker that answered, or nobody (empty) and the status."""

    worker: str
    status: int
    location: str = ""


@frozen
class Difference:
    """A request that another process got than those among which the sidecar chooses."""

    asked: Asked
    ours: str
    theirs: str


class Listening(AnsweringWorker):
    """A worker that keeps the heads of what it is asked."""

    def __init__(self, at: Path, name: str, heads: list[str]) -> None:
        self._heads = heads
        super().__init__(at, name)

    def heard(self, head: bytes) -> None:
        self._heads.append(head.decode("latin-1"))


@contextmanager
def exported_by(
    program: str, settings: Mapping[str, Any], heads: list[str] | None = None
) -> Iterator[tuple[Deployment, int]]:
    """A proxy that runs with the export of `settings`, and the port on which it listens.

    What its workers are asked, health checks included, is added to `heads`.
    """
    heads = [] if heads is None else heads
    with tempfile.TemporaryDirectory(prefix="export-", dir="/tmp") as path, ExitStack() as stack:
        place = Path(path)
        place.chmod(0o755)
        port = free_port()
        for name in settings["workers"]:
            worker = Listening(place, name, heads)
            stack.callback(worker.close)
            (place / f"{name}.sock").chmod(0o777)
        config = place / "sidecar.yaml"
        workers = {name: {"endpoint": f"unix:{name}.sock", **facts} for name, facts in settings["workers"].items()}
        listen = f"tcp:{port}:interface=127.0.0.1"
        text = {**settings, "workers": workers, "listen": listen, "synapse": {"version": RELEASE}}
        config.write_text(yaml.safe_dump(text))
        done = runner().invoke(main, ["export", program, "-c", str(config), "-o", str(place)])
        assert done.exit_code == 0, done.output
        process = stack.enter_context(Running(_arguments(program, place), place, [str(find(program))]))
        await_listener(port, process)
        yield read_deployment(str(config)), port


def _arguments(program: str, place: Path) -> list[str]:
    file = place / FILES[program]
    if program == "haproxy":
        return ["-db", "-f", str(file)]
    if program == "caddy":
        file.write_text("{\n\tadmin off\n\tstorage file_system " + str(place / "caddy") + "\n}\n" + file.read_text())
        return ["run", "--adapter", "caddyfile", "--config", str(file)]
    whole = place / "nginx.conf"
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = "".join(f"{kind}_temp_path {place}/{kind};" for kind in kinds)
    whole.write_text(
        f"daemon off; master_process off; pid {place}/pid; error_log stderr; events {{}}"
        f" http {{ access_log off; {temporary} include {file}; }}"
    )
    return ["-e", "stderr", "-p", str(place), "-c", str(whole)]


def answers(port: int, requests: Iterable[Asked]) -> list[Answer]:
    """What each request gets; they are sent one after the other."""
    found, connection = [], socket.create_connection(("127.0.0.1", port), PATIENCE)
    try:
        for asked in requests:
            answer = _answer(exchange(connection, asked.octets()), head=asked.method == "HEAD")
            found.append(answer[0])
            if answer[1]:
                connection.close()
                connection = socket.create_connection(("127.0.0.1", port), PATIENCE)
    finally:
        connection.close()
    return found


def _answer(octets: bytes, *, head: bool) -> tuple[Answer, bool]:
    fields, _, body = octets.decode("latin-1").partition("\r\n\r\n")
    status = int(fields.split(" ", 2)[1])
    location = re.search(r"\r\nlocation: *([^\r]*)", fields, re.IGNORECASE)
    closes = re.search(r"\r\nconnection: *close", fields, re.IGNORECASE) is not None
    worker = body if status == 200 and not head else ""
    return Answer(worker, status, location[1] if location else ""), closes


def decision(deployment: Deployment, asked: Asked, scheme: str = "http") -> Decision:
    """What the sidecar decides of the request."""
    head = asked.octets().partition(b"\r\n")[2]
    section = FieldSection(b"\r\n" + head)
    return decide(asked.method.encode(), asked.target.encode(), section, "127.0.0.1", deployment.plan, scheme)


def samples() -> list[Asked]:
    """Every row of the newest release, by each method and in each spelling, twice with other parameters."""
    found: dict[Asked, None] = {}
    for row in load_endpoints().endpoints:
        for method, path in coverage.requests(row):
            for value in ("any", "%21a:b.example"):
                target = path.replace("/any", f"/{value}")
                found[Asked(method, target)] = None
            if path.endswith("/sync"):
                queries = ("?since=s1", "?timeout=0&since=s1", "?since=s1&full_state=true", "?pos=5", "?timeout=0")
                found.update((Asked(method, path + query), None) for query in queries)
    return list(found)


@cache
def measured(program: str) -> tuple[int, Sequence[Difference]]:
    """How many requests were sent, and which of them a process got that is not among those the sidecar chooses from."""
    requests = samples()
    with exported_by(program, SPLIT) as (deployment, port):
        found = answers(port, requests)
        return len(requests), [
            Difference(asked, ours, theirs)
            for asked, answer in zip(requests, found, strict=True)
            for ours, theirs in [_compared(decision(deployment, asked), answer)]
            if theirs
        ]


def _compared(ours: Decision, theirs: Answer) -> tuple[str, str]:
    """Both outcomes in words; the second is empty where they agree."""
    if ours.action != "forward":
        return f"{ours.status}", "" if theirs.status in (ours.status, 502) else theirs.worker or str(theirs.status)
    # A room's own persister is found by a hash that no other program has; to any of them it is only one hop more.
    able = {*ours.candidates, *(EVENT_PERSISTERS if ours.pool == "events" else ())}
    return " or ".join(sorted(able)), "" if theirs.worker in able else theirs.worker or str(theirs.status)
