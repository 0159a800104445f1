"""A stand-in for the operator's listener, in threads: tells what a test says, and notes what it is asked."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

from attrs import define, field


@define
class StandIn:
    """What is answered, and what was asked."""

    told: Any
    status: int = 200
    raw: bytes | None = None
    refusals: int = 0
    """How many times what is to be done is refused."""
    asked: list[str] = field(factory=list)
    authorizations: list[str | None] = field(factory=list)

    def answer(self, method: str, path: str) -> tuple[int, bytes]:
        """Status and content."""
        self.asked.append(f"{method} {path}")
        if method == "POST" and self.refusals:
            self.refusals -= 1
            return 403, b'{"error": "No way."}'
        done = {"told": f"{path} is done."}
        content = json.dumps(self.told if method == "GET" else done).encode()
        return self.status, content if self.raw is None else self.raw


@contextmanager
def listening(told: StandIn, path: Path | None = None) -> Iterator[str]:
    """The endpoint at which it listens: a UNIX socket, or a port."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.authorizations.append(self.headers["Authorization"])
            status, octets = told.answer(self.command, self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(octets)))
            self.end_headers()
            self.wfile.write(octets)

        do_POST = do_GET

        def address_string(self) -> str:
            return ""

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    class Port(socketserver.ThreadingTCPServer):
        daemon_threads = True

    class Socket(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    server = Socket(str(path), Answers) if path is not None else Port(("127.0.0.1", 0), Answers)
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"unix:{path}" if path is not None else f"tcp:127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join()
