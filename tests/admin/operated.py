"""The whole service with an operator's listener in this process, and its workers."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

from net.peers import Worker
from net.turns import port_of, turns
from twisted.application.service import MultiService

from sidecar import tap
from sidecar.app.service import SidecarService

CONFIGURATION = """\
listen: "tcp:0:interface=127.0.0.1"
admin: "unix:admin.sock:mode=660"
synapse: {version: "1.163.2"}
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: [client]}
  sync2: {endpoint: "unix:sync2.sock", serves: [client]}
  typing1: {endpoint: "unix:typing1.sock", serves: [client], writes: [typing]}
pools:
  sync: {workers: ["sync*"]}
  alone: {workers: [sync2], fallback: []}
routes:
  - {path: "/alone/**", pool: alone}
"""


class Operated:
    """The whole service with an operator's listener, and its workers: all but those that are `away`."""

    def __init__(
        self,
        directory: Path,
        more: str = "",
        away: tuple[str, ...] = (),
        replaced: str | None = None,
        address: str = "unix:admin.sock:mode=660",
    ) -> None:
        """`replaced` stands in place of the pools and routes of the configuration."""
        self.directory = directory
        self.workers: dict[str, Worker] = {}
        for name in ("main", "sync1", "sync2", "typing1"):
            if name not in away:
                self.worker(name)
        text = CONFIGURATION if replaced is None else CONFIGURATION.partition("pools:")[0] + replaced
        (directory / "sidecar.yaml").write_text(text.replace("unix:admin.sock:mode=660", address) + more)
        options = tap.Options()
        options.parseOptions(["-c", str(directory / "sidecar.yaml")])
        services = tap.makeService(options)
        assert isinstance(services, MultiService)
        self.services = services
        self.services.startService()
        self.sidecar = next(each for each in services if isinstance(each, SidecarService))
        self.clients: list[socket.socket] = []

    def worker(self, name: str) -> Worker:
        """The worker of this name, started if it was not."""
        if name not in self.workers:
            self.workers[name] = Worker(self.directory / f"{name}.sock", healthy=True).start()
        return self.workers[name]

    def client(self, octets: bytes) -> socket.socket:
        client = socket.create_connection(("127.0.0.1", port_of(self.sidecar.ports[0])))
        self.clients.append(client)
        client.sendall(octets)
        return client

    def operator(self) -> socket.socket:
        """A connection to the operator's listener."""
        operator = socket.socket(socket.AF_UNIX)
        operator.connect(str(self.directory / "admin.sock"))
        self.clients.append(operator)
        return operator

    async def say(self, method: str, path: str, *fields: str, body: str = "") -> tuple[int, str, str]:
        """Status, head and content."""
        operator = self.operator()
        lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *fields]
        lines += [f"Content-Length: {len(body.encode())}"] if body else []
        operator.sendall("\r\n".join((*lines, "", body)).encode())
        got = await received(operator, lambda _: False)
        head, _, content = got.decode().partition("\r\n\r\n")
        status = re.match(r"HTTP/1\.1 (\d+)", head)
        assert status is not None
        return int(status[1]), head, content

    async def ask(self, method: str, path: str, *fields: str, body: str = "") -> tuple[int, Any, str]:
        """Status, what the JSON says, and the head."""
        status, head, content = await self.say(method, path, *fields, body=body)
        assert "\r\nContent-Type: application/json" in head
        return status, json.loads(content) if content else None, head

    async def strike(self) -> None:
        for client in self.clients:
            client.close()
        if self.services.running:
            await self.services.stopService()
        for worker in self.workers.values():
            for connection in worker.accepted:
                connection.reset()
                await connection.vanishes()
            await worker.stop()


async def received(connection: socket.socket, enough: Any) -> bytes:
    """All that comes until `enough` holds of it, or the connection ends."""
    connection.setblocking(False)
    got = b""
    while not enough(got):
        await turns(1)
        try:
            piece = connection.recv(65536)
        except BlockingIOError:
            continue
        except ConnectionResetError:
            break
        if not piece:
            break
        got += piece
    return got
