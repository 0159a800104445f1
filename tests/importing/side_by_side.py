"""The real nginx or HAProxy, and the sidecar with what `import` made of its file, before the same recording workers.

Every request is sent to both, and each difference is looked for in what the command printed. By hand, for any files:
`python -m importing.side_by_side FILE…` in this directory's parent.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from itertools import count
from pathlib import Path

import crossplane
import yaml
from attrs import define, field, frozen
from busy import AnsweringWorker
from parity.traffic import Made, Sent
from pem import Authority
from processes import PATIENCE, Running, await_listener
from runners import runner
from system_programs import find

from sidecar.cli import main
from sidecar.importing.asked import ProxyEntrance
from sidecar.importing.assessment import Foreign
from sidecar.importing.haproxy_lines import haproxy_foreign
from sidecar.importing.haproxy_words import sections
from sidecar.importing.nginx_lines import nginx_foreign
from sidecar.importing.nginx_tree import tree
from sidecar.importing.probes import UNKNOWN, strays
from sidecar.routing.matcher import alternatives
from sidecar.synapse.endpoint_rows import Endpoint, load_endpoints

from .runnable import Loopback, haproxy_file, nginx_file

_RUNS = count()
RELEASE = "1.163"
FEWEST = 150


@frozen
class Asked:
    """A request, and where it is sent."""

    entrance: ProxyEntrance
    method: str
    target: str
    fields: tuple[tuple[str, str], ...] = ()


@frozen
class Outcome:
    """What became of it: the worker that got it, or the status and location of an answer of its own."""

    worker: str = ""
    answer: str = ""


@frozen
class Group:
    """Differences as they are printed."""

    at: frozenset[str]
    theirs: str
    ours: str
    requests: tuple[tuple[frozenset[str], re.Pattern[str], bool], ...]
    """Methods and paths; and whether only what no endpoint is for is meant."""


@define
class Result:
    """One file."""

    name: str
    exit_code: int
    report: str
    asked: int = 0
    same: int = 0
    differing: list[tuple[Asked, Outcome, Outcome]] = field(factory=list)
    untold: list[tuple[Asked, Outcome, Outcome]] = field(factory=list)

    def __str__(self) -> str:
        return (
            f"{self.name}: exit {self.exit_code}, {self.asked} requests, {self.same} alike, "
            f"{len(self.differing)} differ, {len(self.untold)} of them untold"
        )


def compare(path: Path) -> Result:
    """Import a file, run both, and look for each difference in the report."""
    kind = "haproxy" if path.suffix == ".cfg" else "nginx"
    with tempfile.TemporaryDirectory(prefix="beside-", dir="/tmp") as name, ExitStack() as stack:
        place = Path(name)
        made = runner().invoke(
            main, ["import", kind, str(path), "-o", str(place / "imported.yaml"), "--all", "--synapse", RELEASE]
        )
        if made.exception is not None and not isinstance(made.exception, SystemExit):
            raise made.exception
        result = Result(path.name, made.exit_code, made.stderr)
        if made.exit_code == 0:
            _run(kind, path, place, result, stack)
    return result


def _run(kind: str, path: Path, place: Path, result: Result, stack: ExitStack) -> None:
    loopback = Loopback(f"127.{100 + os.getpid() % 100}.{next(_RUNS)}")
    foreign = _foreign(kind, path)
    requests = list(_requests(foreign))
    addresses = _addresses(foreign, loopback, place)
    for address, endpoint in addresses.items():
        listener = socket.create_server(address)
        stack.callback(AnsweringWorker(listener, endpoint).close)
    (place / "proxy.pem").write_bytes(b"".join(reversed(Authority().issue("x.example.org"))))
    proxy = stack.enter_context(_proxy(kind, path, loopback, place))
    for port in {each.entrance.port for each in requests if each.entrance.port}:
        await_listener(loopback.port(port), proxy, loopback.front)
    port = stack.enter_context(_sidecar(place, loopback)).address()[1]
    pools = [{server.address for server in pool.servers} for pool in foreign.proxy.upstreams.values()]
    groups = _groups(result.report)
    names = _names((place / "imported.yaml").read_text())
    for asked in requests:
        entrance = asked.entrance
        theirs = _sent(asked, (loopback.front, loopback.port(entrance.port or 80)), tls=entrance.tls)
        ours = _sent(asked, ("127.0.0.1", port), scheme=entrance.scheme)
        result.asked += 1
        alike = theirs == ours or any({theirs.worker, ours.worker} <= pool for pool in pools if theirs.worker)
        result.same += alike
        if not alike:
            result.differing.append((asked, theirs, ours))
            if not any(_tells(group, asked, theirs, ours, names) for group in groups):
                result.untold.append((asked, theirs, ours))


def _names(text: str) -> dict[str, str]:
    """The workers of a file with their endpoints, also of those that stand in comments because they get nothing."""
    idle = re.findall(r"^  # ([\w.-]+): (\{endpoint: .*\})$", text, re.MULTILINE)
    workers = yaml.safe_load(text)["workers"] | {name: yaml.safe_load(worker) for name, worker in idle}
    return {name: worker["endpoint"] for name, worker in workers.items()}


def _foreign(kind: str, path: Path) -> Foreign:
    if kind == "nginx":
        read = crossplane.parse(str(path), comments=False, check_ctx=False, check_args=False)
        return nginx_foreign(tree(read["config"]))

    def patterns(name: str) -> Sequence[str] | None:
        file = path.parent / name
        return file.read_text().splitlines() if file.exists() else None

    return haproxy_foreign(sections(path.read_text(), str(path)), patterns)


def _requests(foreign: Foreign) -> Iterator[Asked]:
    """What clients and servers send, spread over all names and ports, and what no endpoint is for."""
    entrances = [each for each in foreign.proxy.entrances if each.port]
    sent = Made("x", ("127.0.0.1",)).requests()
    step = max(1, len(sent) * len(entrances) // FEWEST)
    for number, entrance in enumerate(entrances):
        for each in sent[number % step :: step]:
            yield Asked(entrance, each.method, each.target, _fields(each))
        others = list(strays(foreign.paths))
        for probe in others[number % 3 :: 3] if number else others:
            yield Asked(entrance, probe.method, probe.target)


def _fields(sent: Sent) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in sent.fields if name != "Host")


def _addresses(foreign: Foreign, loopback: Loopback, place: Path) -> dict[tuple[str, int], str]:
    """Every address that either side may send to."""
    for entrance in foreign.proxy.entrances:
        foreign.proxy.verdict(entrance.asked("GET", "/"))
    known = {server.address for pool in foreign.proxy.upstreams.values() for server in pool.servers if server.address}
    workers = yaml.safe_load((place / "imported.yaml").read_text())["workers"]
    known |= {worker["endpoint"] for worker in workers.values()}
    return {loopback.address(endpoint): endpoint for endpoint in sorted(known)}


def _proxy(kind: str, path: Path, loopback: Loopback, place: Path) -> Running:
    program = str(find(kind))
    if kind == "nginx":
        read = crossplane.parse(str(path), comments=False, check_ctx=False, check_args=False)
        file = nginx_file(tree(read["config"]), loopback, place)
        return Running(["-e", "stderr", "-p", str(place), "-c", str(file)], place, prefix=[program])
    file = haproxy_file(sections(path.read_text(), str(path)), loopback, place, path.parent)
    return Running(["-db", "-f", str(file)], path.parent, prefix=[program])


def _sidecar(place: Path, loopback: Loopback) -> Running:
    """With nothing changed but where it and its workers listen."""
    settings = yaml.safe_load((place / "imported.yaml").read_text())
    for worker in settings["workers"].values():
        host, port = loopback.address(worker["endpoint"])
        worker["endpoint"] = f"tcp:{host}:{port}"
    settings |= {"listen": "tcp:0:interface=127.0.0.1", "synapse": {"version": RELEASE}}
    settings.pop("forwarded", None)
    (place / "sidecar.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    return Running(["--config", "sidecar.yaml"], place)


def _sent(asked: Asked, address: tuple[str, int], *, tls: bool = False, scheme: str = "") -> Outcome:
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    plain = socket.create_connection(address, PATIENCE)
    connection.sock = _context().wrap_socket(plain, server_hostname=asked.entrance.host) if tls else plain
    try:
        connection.putrequest(asked.method, asked.target, skip_host=True, skip_accept_encoding=True)
        connection.putheader("Host", asked.entrance.host)
        for name, value in (*asked.fields, *((("X-Forwarded-Proto", scheme),) if scheme else ())):
            connection.putheader(name, value)
        if asked.method in ("PUT", "POST"):
            connection.putheader("Content-Length", "2")
        connection.endheaders(b"{}" if asked.method in ("PUT", "POST") else None)
        answer = connection.getresponse()
        body = answer.read().decode("utf-8", "replace")
    except (http.client.HTTPException, OSError):
        return Outcome(answer="closed")
    finally:
        connection.close()
    if answer.status == 200 and re.fullmatch(r"(?:tcp|unix):\S+", body):
        return Outcome(worker=body)
    location = re.sub(r":2\d{4}(?=/|$)", "", answer.headers.get("Location", ""))
    return Outcome(answer=f"{answer.status} {location}".strip())


def _context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _groups(report: str) -> list[Group]:
    """The differences of a report, from its text."""
    found: list[Group] = []
    heads = re.finditer(r"^    your proxy: (.*); sidecar: (.*); at (.*)\n((?:    \S+ /.*\n)*)", report, re.MULTILINE)
    for head in heads:
        requests = tuple(_request(line) for line in head[4].splitlines())
        found.append(Group(frozenset(head[3].split(", ")), head[1], head[2], requests))
    return found


def _request(line: str) -> tuple[frozenset[str], re.Pattern[str], bool]:
    methods, _, shown = line.strip().partition(" ")
    path, _, more = shown.partition(" ")
    pattern = re.escape(path).replace(r"\*\*", ".*")
    pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]*", pattern)
    return frozenset(methods.split(",")), re.compile(pattern), more in UNKNOWN and bool(more)


def _tells(group: Group, asked: Asked, theirs: Outcome, ours: Outcome, names: Mapping[str, str]) -> bool:
    """Whether it is this request, at this place, with these two outcomes."""
    path = asked.target.partition("?")[0]
    return (
        str(asked.entrance) in group.at
        and _is(group.theirs, theirs, names)
        and _is(group.ours, ours, names)
        and any(
            (asked.method in methods or (unknown and not _is_known(asked.method, path)))
            and pattern.fullmatch(path)
            and not (unknown and _is_known(asked.method, path))
            for methods, pattern, unknown in group.requests
        )
    )


def _is(said: str, outcome: Outcome, names: Mapping[str, str]) -> bool:
    """Whether words of the report are this outcome: names of workers, or an answer with its status."""
    if outcome.worker:
        return outcome.worker in {names.get(name) for name in said.split(", ")} or said.endswith("with a changed path")
    return (
        said in ("files", "unclear") or outcome.answer.partition(" ")[0] in said.split() or outcome.answer == "closed"
    )


def _is_known(method: str, path: str) -> bool:
    """Whether an endpoint of Synapse is for it."""
    return any(
        (method in row.methods or method == "OPTIONS") and pattern.fullmatch(path) for row, pattern in _patterns()
    )


@cache
def _patterns() -> list[tuple[Endpoint, re.Pattern[str]]]:
    found = []
    for row in load_endpoints(RELEASE).endpoints:
        parts = [
            ".*"
            if part == "**"
            else "(?:" + "|".join(re.escape(one) for one in alternatives(part)) + ")"
            if "|" in part
            else "[^/]*"
            if part[:1] == "{"
            else re.escape(part)
            for part in row.path
        ]
        found.append((row, re.compile("/" + "/".join(parts))))
    return found


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        try:
            outcome = compare(Path(argument).resolve())
        except Exception as error:  # one file is not to hide the others
            print(f"{argument}: {type(error).__name__}: {str(error)[-600:]}")
            continue
        print(outcome, flush=True)
        for asked, theirs, ours in outcome.untold[:12]:
            print(f"    {asked.entrance} {asked.method} {asked.target}: there {theirs}, here {ours}")
