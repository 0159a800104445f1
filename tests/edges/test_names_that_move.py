"""Workers that are reached by a name, behind a real DNS server that a test changes: what is followed, and how soon.

In a network of its own, whose hosts are the workers; the sidecar runs on the switch, with a resolv.conf of its own.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from attrs import define, field
from end_to_end.network import Host, network
from processes import PATIENCE, TWISTD, PlainWorker, Running, exchange, heads_on
from twisted.names import dns

SWITCH, FIRST, SECOND = "10.77.0.1", "10.77.0.2", "10.77.0.3"
NAME = "worker.example.org"
CONFIGURATION = """\
listen: "tcp:8008:interface=127.0.0.1"
synapse: {version: "1.163"}
workers:
  main: {endpoint: "unix:main.sock"}
  web: {endpoint: "tcp:worker.example.org:80", serves: [], health: false}
pools:
  web: {workers: [web]}
routes:
  - {path: "/web/**", pool: web}
timeouts: {resolve: 100ms, resolve_interval: 50ms, wait: 2s, connect: 2s}
"""


@define(eq=False)
class DnsServer:
    """Answers over UDP with the addresses that the test gives the name, that there is no such name, or nothing."""

    socket: socket.socket
    addresses: tuple[str, ...] = ()
    silent: bool = False
    asked: threading.Semaphore = field(factory=lambda: threading.Semaphore(0))

    def serve(self) -> None:
        while True:
            try:
                octets, peer = self.socket.recvfrom(4096)
            except OSError:
                return
            self.asked.release()
            if not self.silent:
                self.socket.sendto(self._answer(octets), peer)

    def _answer(self, octets: bytes) -> bytes:
        message = dns.Message()
        message.fromStr(octets)
        message.answer, message.recAv = 1, 1
        query = message.queries[0]
        known = query.name.name.decode() == NAME and self.addresses
        message.rCode = dns.OK if known else dns.ENAME
        record, version = (dns.Record_AAAA, ":") if query.type == dns.AAAA else (dns.Record_A, ".")
        if known and query.type in (dns.A, dns.AAAA):
            found = [each for each in self.addresses if version in each]
            message.answers = [dns.RRHeader(NAME, query.type, dns.IN, 0, record(each, 0)) for each in found]
        answer: bytes = message.toStr()
        return answer

    def several(self, count: int = 6) -> None:
        """Wait until it was asked so often from now on."""
        while self.asked.acquire(blocking=False):
            pass
        for _ in range(count):
            assert self.asked.acquire(timeout=PATIENCE)


@define(eq=False)
class Scene:
    """The network, and what runs in it."""

    switch: Host
    dns: DnsServer

    def get(self, target: str = "/web/a") -> str:
        """Who answers, on a connection of its own."""
        with self.switch.entered():
            client = socket.create_connection(("127.0.0.1", 8008), timeout=PATIENCE)
        with client:
            octets = exchange(client, f"GET {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return octets.rpartition(b"\r\n\r\n")[2].decode()


def worker(name: str, at: socket.socket | Path) -> PlainWorker:
    """Answers each request with its name, and keeps its connections."""

    def serve(connection: socket.socket) -> None:
        for _ in heads_on(connection):
            answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(name)}\r\n\r\n{name}"
            connection.sendall(answer.encode())

    return PlainWorker(at, serve)


@contextmanager
def scene(place: Path, *first: str) -> Iterator[Scene]:
    """Two workers, and the name at these addresses."""
    with ExitStack() as stack:
        switch, *hosts = stack.enter_context(network(SWITCH, FIRST, SECOND))
        for name, host in zip(("first", "second"), hosts, strict=True):
            with host.entered():
                stack.callback(worker(name, socket.create_server((host.address, 80))).close)
        stack.callback(worker("main", place / "main.sock").close)
        with switch.entered():
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.bind((SWITCH, 53))
        stack.callback(udp.close)
        server = DnsServer(udp, first)
        threading.Thread(target=server.serve, daemon=True).start()
        # ip-netns(8): /etc/netns/NAME/resolv.conf stands in place of /etc/resolv.conf.
        resolver = Path("/etc/netns") / switch.namespace
        resolver.mkdir(parents=True)
        stack.callback(resolver.rmdir)
        (resolver / "resolv.conf").write_text(f"nameserver {SWITCH}\n")
        stack.callback((resolver / "resolv.conf").unlink)
        (place / "sidecar.yaml").write_text(CONFIGURATION)
        prefix = [str(part) for part in switch.within([TWISTD, "-n", "--pidfile=", "matrix-sidecar"])]
        running = stack.enter_context(Running(["-c", "sidecar.yaml"], place, prefix))
        running.says("listening on 127.0.0.1:8008")
        yield Scene(switch, server)
        assert "Traceback" not in running.said, running.said


pytestmark = pytest.mark.needs("ip")


def test_an_address_that_changes_is_followed(tmp_path: Path) -> None:
    """Also by requests for which there is an idle connection, to a worker that is still there."""
    with scene(tmp_path, FIRST) as played:
        assert [played.get() for _ in range(3)] == ["first"] * 3
        played.dns.addresses = (SECOND,)
        played.dns.several()
        assert [played.get() for _ in range(3)] == ["second"] * 3


def test_a_name_that_vanishes_and_a_resolver_that_is_silent(tmp_path: Path) -> None:
    """The last address holds, and others are served as ever meanwhile."""
    with scene(tmp_path, FIRST) as played:
        assert played.get() == "first"
        played.dns.addresses = ()
        played.dns.several()
        assert played.get() == "first"
        played.dns.silent = True
        played.dns.several(1)
        assert [played.get(), played.get("/_matrix/client/versions")] == ["first", "main"]


def test_several_addresses_of_both_families(tmp_path: Path) -> None:
    """Nobody is at some of them; those of the family that answers get the connections by turns."""
    with scene(tmp_path, "2001:db8::1", FIRST, "10.77.0.9") as played:
        assert {played.get() for _ in range(4)} == {"first"}
        played.dns.addresses = ("2001:db8::1", SECOND)
        played.dns.several()
        assert {played.get() for _ in range(4)} == {"second"}
