"""conf/backend-balancers.yaml beside the HAProxy that it takes the place of: PostgreSQL, LDAP, who gets a connection.

HAProxy's file is that of a published set-up with its backend balancers; only addresses, ports and intervals are those
of a test. Every scene is played with both.
"""

from __future__ import annotations

import csv
import json
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from end_to_end.services import postgres_programs
from processes import PATIENCE, connect, exchange, free_ports

from .balanced import Agent, Database, Patroni, ldap_servers, named_servers, organization, postgresqls, told
from .programs import file, haproxy, sidecar

HOSTS = {"mpg1": "127.0.0.5", "mpg2": "127.0.0.6"}
DIRECTORIES = {"mld1": "127.0.0.8", "mld2": "127.0.0.9"}
PROXIES = ("haproxy", "sidecar")
HAPROXY = """\
global
    maxconn 1000
    nbthread 1
    stats socket {place}/stats.sock
defaults
    timeout connect 30s
    timeout client 15m
    timeout server 15m
frontend ldap
    bind 127.0.0.1:{ldap}
    maxconn 1000
    mode tcp
    option tcpka
    default_backend ldap
frontend pgsql
    bind 127.0.0.1:{pgsql}
    maxconn 1000
    mode tcp
    option tcpka
    default_backend pgsql
backend ldap
    mode tcp
    option tcpka
    balance leastconn
    server mld1 127.0.0.8:{directory} check inter 50 maxconn {most}
    server mld2 127.0.0.9:{directory} check inter 50 maxconn {most}
backend pgsql
    mode tcp
    option tcpka
    option httpchk OPTIONS /master
    http-check expect status 200
    default-server maxconn 1000 check inter 50 fall 2 rise 2 on-marked-down shutdown-sessions port {api}
    server mpg1 127.0.0.5:{database}
    server mpg2 127.0.0.6:{database}
"""


class Places:
    """The ports of one scene."""

    def __init__(self, most: int) -> None:
        self.pgsql, self.ldap, self.database, self.directory, self.api, self.agent = free_ports(6)
        self.most = most


@contextmanager
def haproxy_there(place: Path, at: Places, *, agents: bool = False) -> Iterator[None]:
    text = HAPROXY.format(place=place, **vars(at))
    if agents:
        asked = f"agent-check agent-inter 50 agent-port {at.agent} "
        text = re.sub(r"(?m)^( +server mld.*)$", rf"\1 {asked}", text)
    with haproxy(place, text, (at.pgsql, at.ldap)):
        yield


@contextmanager
def sidecar_there(place: Path, at: Places, *, agents: bool = False) -> Iterator[None]:
    """The shipped file."""
    text = file(
        "backend-balancers.yaml",
        place,
        (r"tcp:8008:", "tcp:0:"),
        (r"/etc/matrix-synapse/homeserver\.yaml, /etc/matrix-synapse/conf\.d", ""),
        (r"\[/etc/matrix-synapse/workers\]", "[]"),
        (r"/run/matrix-sidecar/", ""),
        (r"(?m)^balancers:$", "workers: {main: {endpoint: 'unix:main.sock'}}\nbalancers:"),
        (r"(?m)^ *mpg3: .*\n", ""),
        (r"tcp:5432:", f"tcp:{at.pgsql}:"),
        (r"tcp:389:", f"tcp:{at.ldap}:"),
        (r"10\.0\.0\.5:5432", f"127.0.0.5:{at.database}"),
        (r"10\.0\.0\.6:5432", f"127.0.0.6:{at.database}"),
        (r"10\.0\.0\.8:389", f"127.0.0.8:{at.directory}"),
        (r"10\.0\.0\.9:389", f"127.0.0.9:{at.directory}"),
        (r"port: 8008", f"port: {at.api}"),
        (r"agent: 5555", f"agent: {at.agent}"),
        (r"interval: [12]s", "interval: 50ms"),
        *([(r"check: \{interval: 50ms\}", f"check: {{interval: 50ms, agent: {at.agent}}}")] if agents else []),
        (r"connections: 64", f"connections: {at.most}"),
    )
    with sidecar(place, text) as running:
        running.says("balancer ldap is listening")
        yield


THERE = {"haproxy": haproxy_there, "sidecar": sidecar_there}


def finally_(happens: Callable[[], bool]) -> None:
    """Wait for what nobody announces."""
    until = time.monotonic() + PATIENCE
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.02)


def served_by(at: Places, name: str) -> bool:
    """Whether a new session is with this PostgreSQL; HAProxy ends one for which nobody is up."""
    try:
        session = Database(("127.0.0.1", at.pgsql))
    except OSError:
        return False
    found = session.name()
    session.close()
    return found == name


@pytest.mark.needs("haproxy")
@pytest.mark.skipif(postgres_programs() is None, reason="PostgreSQL is not installed")
def test_a_lost_primary_takes_its_sessions_along(tmp_path: Path) -> None:
    """New sessions are with the primary; when that is another one the old end, and new ones are with the new.

    One check that fails, of the two that have to, ends nothing.
    """
    at = Places(64)
    with ExitStack() as stack:
        stack.enter_context(postgresqls(at.database, **HOSTS))
        for name in PROXIES:
            apis = {
                host: Patroni(HOSTS[host], at.api, role) for host, role in (("mpg1", "primary"), ("mpg2", "replica"))
            }
            (tmp_path / name).mkdir()
            with THERE[name](tmp_path / name, at):
                finally_(lambda: served_by(at, "mpg1"))
                session = Database(("127.0.0.1", at.pgsql))
                apis["mpg1"].answers += [503]
                apis["mpg1"].several(5)
                assert session.name() == "mpg1", name
                apis["mpg1"].role, apis["mpg2"].role = "replica", "primary"
                assert session.ended()
                finally_(lambda: served_by(at, "mpg2"))
                assert all(served_by(at, "mpg2") for _ in range(5)), name
            for api in apis.values():
                api.end()


@pytest.mark.needs("slapd", "ldapsearch")
def test_directories_share_the_searches(tmp_path: Path) -> None:
    """Both are searched in turn; when one has gone, the other is."""
    at = Places(64)
    place = tmp_path / "sidecar"
    place.mkdir()
    with ldap_servers(tmp_path / "ldap", at.directory, **DIRECTORIES) as servers, sidecar_there(place, at):
        address = ("127.0.0.1", at.ldap)
        assert {organization(address) for _ in range(4)} == set(DIRECTORIES)
        servers["mld1"].stop_all([servers["mld1"]])
        assert {organization(address) for _ in range(4)} == {"mld2"}


@pytest.mark.needs("haproxy")
def test_the_same_server_gets_each_connection(tmp_path: Path) -> None:
    """Forty connections begin and end in an order that is drawn once, and each is with the same server in both.

    Each server takes three; who comes then waits, and gets the place that becomes free.
    """
    seen = {}
    for name in PROXIES:
        at = Places(3)
        (tmp_path / name).mkdir()
        with named_servers(at.directory, **DIRECTORIES), THERE[name](tmp_path / name, at):
            seen[name] = play(at, partial(COUNTS[name], tmp_path / name))
    assert seen["sidecar"] == seen["haproxy"]
    assert {"mld1", "mld2"} == set(seen["sidecar"])


@pytest.mark.needs("haproxy")
def test_what_agents_say_is_done(tmp_path: Path) -> None:
    """One after another: down, and up again; no new connections, and new ones again; a part of the weight."""
    for name in PROXIES:
        at = Places(64)
        (tmp_path / name).mkdir()
        with ExitStack() as stack:
            stack.enter_context(named_servers(at.directory, **DIRECTORIES))
            first, _ = (stack.enter_context(Agent(host, at.agent)) for host in DIRECTORIES.values())
            stack.enter_context(THERE[name](tmp_path / name, at, agents=True))
            for word, gets_some in (
                ("up", True),
                ("down # gone", False),
                ("up", True),
                ("drain", False),
                ("ready", True),
            ):
                first.word = word
                finally_(lambda at=at, gets_some=gets_some: ("mld1" in searched(at)) is gets_some)  # type: ignore[misc]
            first.word = "maxconn:1"
            finally_(lambda at=at: searched(at).count("mld1") == 1)  # type: ignore[misc]


def searched(at: Places) -> list[str]:
    """Who gets each of six connections that are open at once."""
    clients = [connect(("127.0.0.1", at.ldap)) for _ in range(6)]
    try:
        return told(clients)
    finally:
        for client in clients:
            client.close()


def count_of_haproxy(place: Path) -> int:
    """Connections to the directories."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(str(place / "stats.sock"))
        asked.sendall(b"show stat\n")
        rows = csv.DictReader(asked.makefile().read().removeprefix("# ").splitlines())
        return sum(int(row["scur"]) for row in rows if row["pxname"] == "ldap" and row["svname"] in DIRECTORIES)


def count_of_sidecar(place: Path) -> int:
    """The same."""
    with socket.socket(socket.AF_UNIX) as asked:
        asked.connect(str(place / "admin.sock"))
        octets = exchange(asked, b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
    servers = json.loads(octets.partition(b"\r\n\r\n")[2])["balancers"]["ldap"]["servers"]
    return sum(server["connections"] for server in servers.values())


COUNTS = {"haproxy": count_of_haproxy, "sidecar": count_of_sidecar}


def play(at: Places, count: Callable[[], int]) -> list[str]:
    """Who gets each connection. Before the next thing happens, the proxy has seen the last one."""
    drawn = random.Random(15)
    open_ones: list[socket.socket] = []
    order = [""]

    def come() -> None:
        client = connect(("127.0.0.1", at.ldap))
        open_ones.append(client)
        order.append(told([client])[0])

    def leave(which: int) -> None:
        open_ones.pop(which).close()
        finally_(lambda: count() == len(open_ones))

    # HAProxy takes both for up at its start, and begins with the second; the sidecar asks them first.
    while order[-1] != "mld1":
        come()
        leave(0)
    order.clear()
    for _ in range(40):
        if len(open_ones) < 6 and (not open_ones or drawn.random() < 0.6):
            come()
        else:
            leave(drawn.randrange(len(open_ones)))
    while len(open_ones) < 6:
        come()
    with connect(("127.0.0.1", at.ldap)) as waits:
        open_ones.pop(2).close()
        order += told([waits])
        for client in open_ones:
            client.close()
    return order
