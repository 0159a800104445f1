"""One HTTP request on a connection of its own, with its target and fields exactly as given.

Ordinary clients normalise what they send; a test of what passes through must not.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import h11
from attrs import frozen


@frozen
class Reply:
    """A response with its whole content."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def exchange(
    port: int,
    method: str,
    target: str,
    fields: Sequence[tuple[str, str]],
    content: Any = None,
    *,
    peer: str = "127.0.0.1",
) -> Reply:
    """Ask 127.0.0.1, from this loopback address; content is sent as JSON. Cancelled, it hangs up."""
    body = b"" if content is None else json.dumps(content).encode()
    framing = [("Host", f"127.0.0.1:{port}"), ("Content-Length", str(len(body))), ("Connection", "close")]
    machine = h11.Connection(h11.CLIENT)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(peer, 0))
    try:
        for event in (
            h11.Request(method=method, target=target, headers=[*framing, *fields]),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            writer.write(machine.send(event) or b"")
        return await _reply(machine, reader)
    finally:
        writer.close()


async def _reply(machine: h11.Connection, reader: asyncio.StreamReader) -> Reply:
    status, received = 0, bytearray()
    while not isinstance(event := machine.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            machine.receive_data(await reader.read(65_536))
        elif isinstance(event, h11.Response):
            status = event.status_code
        elif isinstance(event, h11.Data):
            received += event.data
    return Reply(status, bytes(received))
