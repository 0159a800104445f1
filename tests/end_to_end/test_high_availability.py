"""Two sidecars and one address, with keepalived and the files of conf/keepalived: a host is lost under load.

The hosts are network namespaces, the workers stand-ins that both reach over TCP. What is lost is counted and printed,
and not judged: it is the time that keepalived needs. What must hold is that everybody lands where they were.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from attrs import define, field
from busy import AnsweringWorker, sync_of
from processes import environment, exchange
from system_programs import find

from .children import Child, answers
from .network import Host, network

CONF = Path(__file__).parents[2] / "conf" / "keepalived"
SHARED = ("192.0.2.10", 8008)
HOSTS = ("192.0.2.11", "192.0.2.12")
SWITCH = "192.0.2.1"
WORKERS = ("main", "client1", "client2", "client3", "client4")
USERS = 24
LIMIT = 30.0
PATIENCE = 1.0
"""Seconds without an answer after which a client takes a connection for dead; browsers wait longer."""
ATTEMPT = 0.25
"""Seconds for one attempt to connect, so that the end of an outage is noticed when it comes."""

pytestmark = pytest.mark.needs("keepalived", "ip", "curl")


@define(eq=False)
class Member:
    """One host of the pair, with its sidecar and its keepalived."""

    host: Host
    directory: Path
    sidecar: Child = field(init=False)
    keepalived: Child = field(init=False)

    def start(self) -> None:
        """Start what a boot starts, and wait until keepalived takes the host for a good one."""
        twistd: list[str | Path] = [
            sys.executable,
            Path(sys.executable).parent / "twistd",
            "-n",
            "--pidfile=",
            "matrix-sidecar",
        ]
        self.sidecar = self._child("sidecar", [*twistd, "--config", self.directory / "sidecar.yaml"])
        program = find("keepalived")
        assert program is not None
        options = ["--dont-fork", "--vrrp", "--log-console", "--no-syslog"]
        files: list[str | Path] = [
            "--use-file",
            self.directory / "keepalived.conf",
            "--pid",
            self.directory / "keepalived.pid",
        ]
        self.keepalived = self._child("keepalived", [program, *options, *files, "--vrrp_pid", self._vrrp])
        with self.host.entered():
            self.sidecar.wait_until(lambda: answers(("127.0.0.1", 8009), "/ready"), LIMIT)
        self.says(r"VRRP_Script\(ready\) succeeded")
        self.says("Entering BACKUP STATE")

    @property
    def _vrrp(self) -> Path:
        """Names the process that keepalived gives a group of its own, and which lives on without its parent."""
        return self.directory / "vrrp.pid"

    def _child(self, name: str, command: list[str | Path]) -> Child:
        log = self.directory / f"{name}.log"
        return Child(name, self.host.within(command), log, directory=self.directory, environment=environment())

    @property
    def active(self) -> bool:
        """It has the shared address."""
        return f" {SHARED[0]}/" in self.host.addresses()

    def says(self, pattern: str) -> None:
        """Wait until the keepalived that runs has logged this."""
        log = self.keepalived.log
        last = "Starting VRRP child process"
        until(lambda: bool(re.search(pattern, log.read_text().rpartition(last)[2])), f"it did not say {pattern}")

    def stop(self) -> None:
        """As before it is switched off; what was killed is gone already."""
        Child.stop_all([self.keepalived, self.sidecar])

    def die(self) -> None:
        """Without a word, and with all that its kernel knew."""
        self.host.plugged("down")
        vrrp = int(self._vrrp.read_text())
        for child in (self.sidecar, self.keepalived):
            child.signal(signal.SIGKILL)
        os.kill(vrrp, signal.SIGKILL)
        self.stop()
        self._vrrp.unlink()
        self.host.forget(SHARED[0])


# The ways in which the active host is lost.


def power(member: Member) -> None:
    """The host is gone at once: its cable, its sidecar and its keepalived."""
    member.die()


def sidecar(member: Member) -> None:
    """Only the sidecar is killed, and keepalived finds out by asking for its health."""
    member.sidecar.signal(signal.SIGKILL)


def cable(member: Member) -> None:
    """Only the network is gone, and comes back when the other host has taken over."""
    member.host.plugged("down")


def planned(member: Member) -> None:
    """keepalived is stopped, as before maintenance: it says so to the other one."""
    member.keepalived.signal(signal.SIGTERM)


@define(eq=False)
class Crowd:
    """Users that ask again and again, on connections that they keep, and begin anew when one fails."""

    lan: Host
    homes: dict[int, set[bytes]] = field(factory=lambda: {user: set() for user in range(USERS)})
    """Which workers have answered each user."""
    answered: list[float] = field(factory=list)
    """When."""
    lost: int = 0
    """Requests that were sent and not answered; they were sent again."""
    refused: int = 0
    """Attempts to connect that failed."""
    _ended: bool = False
    _changed: threading.Condition = field(factory=threading.Condition)
    _threads: list[threading.Thread] = field(factory=list)

    def __enter__(self) -> Crowd:
        self._threads = [threading.Thread(target=self._run, args=(user,)) for user in range(USERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        for thread in self._threads:
            thread.join()

    def _run(self, user: int) -> None:
        with self.lan.entered():
            while not self._ended:
                try:
                    connection = socket.create_connection(SHARED, timeout=ATTEMPT)
                except OSError:
                    self.refused += 1
                    time.sleep(0.05)
                    continue
                with connection:
                    connection.settimeout(PATIENCE)
                    self._converse(connection, user)

    def _converse(self, connection: socket.socket, user: int) -> None:
        while not self._ended:
            try:
                answer = exchange(connection, sync_of(user))
            except (OSError, AssertionError):
                self.lost += 1
                return
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 "), answer
            with self._changed:
                self.homes[user].add(body)
                self.answered.append(time.monotonic())
                self._changed.notify_all()
            time.sleep(0.02)

    def everybody(self) -> dict[int, set[bytes]]:
        """Who answered whom, from now until everybody has had an answer."""
        with self._changed:
            self.homes = {user: set() for user in range(USERS)}
            assert self._changed.wait_for(lambda: all(self.homes.values()), LIMIT), "somebody had no answer"
            return self.homes

    def begin_to_count(self) -> None:
        """From the moment in which the host is lost."""
        self.lost = self.refused = 0
        self.answered = [time.monotonic()]

    def silence(self) -> float:
        """The longest time since then in which nobody had an answer."""
        return max(later - earlier for earlier, later in pairwise(sorted(self.answered)))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, Member, Member]]:
    with ExitStack() as stack:
        lan, *hosts = stack.enter_context(network(SWITCH, *HOSTS))
        workers = {}
        for name in WORKERS:
            with lan.entered():
                listener = socket.create_server((SWITCH, 0))
            worker = AnsweringWorker(listener, name)
            stack.callback(worker.close)
            workers[name] = {"endpoint": f"tcp:{SWITCH}:{listener.getsockname()[1]}", "serves": ["client"]}
        members = []
        for host in hosts:
            directory = tmp_path_factory.mktemp("host")
            settings = yaml.safe_load((CONF / "sidecar.yaml").read_text())
            settings |= {"synapse": {"version": "1.163.2"}, "workers": workers}
            (directory / "sidecar.yaml").write_text(yaml.safe_dump(settings))
            (directory / "keepalived.conf").write_text(seen_from(host.address, (CONF / "keepalived.conf").read_text()))
            member = Member(host, directory)
            member.start()
            stack.callback(member.stop)
            members.append(member)
        yield lan, members[0], members[1]


def seen_from(address: str, preset: str) -> str:
    """The file of this host: on the second one the two lines that say so name the other address."""
    if address == HOSTS[0]:
        return preset
    return re.sub(r"(\d+\.\d+\.\d+\.\d+)(\s+# on the other host: )(\S+)", r"\3\2\1", preset)


def until(condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.02)


def settled(members: tuple[Member, Member]) -> Member:
    """The one host that has the address, once it is one."""
    until(lambda: [member.active for member in members].count(True) == 1, "not exactly one host has the address")
    return next(member for member in members if member.active)


@pytest.mark.parametrize("lose", [power, cable, sidecar, planned])
def test_a_host_is_lost(
    pair: tuple[Host, Member, Member], lose: Callable[[Member], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """The other host takes the address, and every user is answered by the same worker as before."""
    lan, *members = pair
    active = settled((members[0], members[1]))
    other = next(member for member in members if member is not active)
    with Crowd(lan) as crowd:
        before = crowd.everybody()
        assert all(len(home) == 1 for home in before.values())
        assert len(set.union(*before.values())) > 1
        crowd.begin_to_count()
        lose(active)
        until(lambda: other.active, "the other host did not take the address")
        after = crowd.everybody()
    assert after == before
    with capsys.disabled():
        print(
            f"\n{lose.__name__}: {crowd.silence():.2f} s without an answer, {crowd.lost} of the requests of {USERS} "
            f"clients lost, {crowd.refused} attempts to connect in vain"
        )
    active.host.plugged("up")
    active.stop()
    active.start()
    assert settled((members[0], members[1])) is other
