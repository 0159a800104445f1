"""A gigabyte each way past a slow peer: the octets arrive, and the sidecar holds none of them for long."""

from __future__ import annotations

import hashlib
import socket
import threading
from pathlib import Path

from processes import PATIENCE, PlainWorker, Running, connect, exchange, read_until, stuck

GIB = 1 << 30
BLOCK = 1 << 20
BURST = 128 * BLOCK
"""After so many bytes the slow peer stops until everything between the two is full."""
GROWTH = 8 << 20

CONFIGURATION = """\
listen: "tcp:0:interface=127.0.0.1"
synapse: {version: "1.163.2"}
workers:
  main: {endpoint: "unix:main.sock"}
limits: {request_body: 2G}
"""


def content() -> list[bytes]:
    """Eight different blocks, to be sent in turn."""
    return [hashlib.shake_128(b"%d" % n).digest(BLOCK) for n in range(8)]


class Transfer:
    """A sender that never rests and a receiver that does, agreeing on when everything between them is full."""

    def __init__(self, sidecar: Running) -> None:
        self._sidecar = sidecar
        self._go_on = threading.Semaphore(0)
        self.sent = hashlib.blake2b()
        self.received = hashlib.blake2b()
        self.stops = 0
        self.most = 0

    def send(self, connection: socket.socket, size: int) -> None:
        """Send `size` octets; whenever nobody takes them any more, look at the sidecar and wake the receiver."""
        blocks = content()
        for number in range(size // BLOCK):
            block = blocks[number % len(blocks)]
            self.sent.update(block)
            left = memoryview(block)
            while left:
                if stuck(connection):
                    self.most = max(self.most, self._sidecar.memory())
                    self.stops += 1
                    self._go_on.release()
                else:
                    left = left[connection.send(left[: 1 << 16], socket.MSG_DONTWAIT) :]

    def receive(self, connection: socket.socket, size: int, begun: bytes = b"") -> None:
        """Receive `size` octets, in bursts; each waits until the sender is stuck."""
        self.received.update(begun)
        left = size - len(begun)
        buffer = bytearray(1 << 18)
        until_rest = BURST
        while left:
            if until_rest <= 0 and left > BURST:
                assert self._go_on.acquire(timeout=PATIENCE)
                until_rest = BURST
            count = connection.recv_into(buffer, min(left, len(buffer)))
            assert count, "the connection ended early"
            self.received.update(memoryview(buffer)[:count])
            left -= count
            until_rest -= count


def running(directory: Path) -> Running:
    (directory / "sidecar.yaml").write_text(CONFIGURATION)
    return Running(["-c", str(directory / "sidecar.yaml")], directory)


def test_upload_to_a_slow_worker(tmp_path: Path) -> None:
    """A gigabyte to a worker that reads in bursts arrives whole, in less than 8 MiB of the sidecar's memory."""
    transfers: list[Transfer] = []

    def serve(connection: socket.socket) -> None:
        while True:
            head = read_until(connection, lambda got: b"\r\n\r\n" in got)
            if head.startswith(b"PUT"):
                begun = head.partition(b"\r\n\r\n")[2]
                transfers[-1].receive(connection, GIB, begun)
                reply = transfers[-1].received.hexdigest().encode()
            else:
                reply = b"ready"
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(reply), reply))

    worker = PlainWorker(tmp_path / "main.sock", serve)
    with running(tmp_path) as sidecar, connect(sidecar.address()) as client:
        assert exchange(client, b"GET /warm HTTP/1.1\r\nHost: x\r\n\r\n").endswith(b"ready")
        before = sidecar.memory()
        transfers.append(transfer := Transfer(sidecar))
        client.sendall(b"PUT /up HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % GIB)
        transfer.send(client, GIB)
        reply = exchange(client, b"")
        assert reply.endswith(transfer.sent.hexdigest().encode())
        most = max(transfer.most, sidecar.memory())
    worker.close()
    assert transfer.stops >= 5
    assert most - before < GROWTH, f"grew by {(most - before) / BLOCK:.1f} MiB"


def test_download_to_a_slow_client(tmp_path: Path) -> None:
    """A gigabyte to a client that reads in bursts arrives whole, in less than 8 MiB of the sidecar's memory."""
    transfers: list[Transfer] = []

    def serve(connection: socket.socket) -> None:
        while True:
            head = read_until(connection, lambda got: b"\r\n\r\n" in got)
            if b" /down " in head:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % GIB)
                transfers[-1].send(connection, GIB)
            else:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nready")

    worker = PlainWorker(tmp_path / "main.sock", serve)
    with running(tmp_path) as sidecar, connect(sidecar.address()) as client:
        assert exchange(client, b"GET /warm HTTP/1.1\r\nHost: x\r\n\r\n").endswith(b"ready")
        before = sidecar.memory()
        transfers.append(transfer := Transfer(sidecar))
        client.sendall(b"GET /down HTTP/1.1\r\nHost: x\r\n\r\n")
        head, _, begun = read_until(client, lambda got: b"\r\n\r\n" in got).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        transfer.receive(client, GIB, begun)
        assert exchange(client, b"GET /after HTTP/1.1\r\nHost: x\r\n\r\n").endswith(b"ready")
        most = max(transfer.most, sidecar.memory())
    worker.close()
    assert transfer.sent.digest() == transfer.received.digest()
    assert transfer.stops >= 5
    assert most - before < GROWTH, f"grew by {(most - before) / BLOCK:.1f} MiB"
