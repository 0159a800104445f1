"""A worker as a process of its own, to be stopped and killed; `python stand_in.py SOCKET EXECUTED BACKLOG`.

Knows five targets: `/benchmark/head`, which is answered with the request
head; one that ends with `/half`, of whose answer only a half is sent; a download of media, of ten mebibytes; one
with `/hold`, which is answered when the process gets SIGUSR1; everything else is answered at once. A target is appended
to the file EXECUTED with a `+` when its head has come, and without when all of the request has, before it is answered.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
HALF = 50_000
DOWNLOAD = b"/_matrix/client/v1/media/download/"
PIECE = bytes(65536)
PIECES = 160


class StandIn:
    """Answers on all connections of one socket."""

    def __init__(self, executed: str) -> None:
        self._executed = os.open(executed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self.released = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                target = head.split(b" ", 2)[1]
                os.write(self._executed, b"+" + target + b"\n")
                length = LENGTH.search(head)
                if length:
                    await reader.readexactly(int(length[1]))
                os.write(self._executed, target + b"\n")
                await self._answer(target, head, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, target: bytes, head: bytes, writer: asyncio.StreamWriter) -> None:
        if target.endswith(b"/hold"):
            await self.released.wait()
        body = head if target == b"/benchmark/head" else b"ok"
        if target.startswith(DOWNLOAD):
            await self._send(writer)
        elif target.endswith(b"/half"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (2 * HALF, bytes(HALF)))
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        await writer.drain()

    async def _send(self, writer: asyncio.StreamWriter) -> None:
        """Ten mebibytes, of which no more than a piece or two waits here."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (len(PIECE) * PIECES))
        for _ in range(PIECES):
            writer.write(PIECE)
            await writer.drain()


async def main(path: str, executed: str, backlog: str) -> None:
    worker = StandIn(executed)
    if os.path.exists(path):
        os.unlink(path)
    os.umask(0)
    server = await asyncio.start_unix_server(worker.serve, path, backlog=int(backlog))
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, worker.released.set)
    print("serving", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
