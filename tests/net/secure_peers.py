"""TLS as clients speak it, by hand over the connections of `peers`: a test decides what is answered, and when."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from attrs import evolve
from pem import Authority

from sidecar.config.endpoint_strings import KeyFiles
from sidecar.entrance.entrances import doors
from sidecar.entrance.tls import Identities

from .peers import Peer, Stage
from .turns import reactor, turns

NAME = "matrix.example.org"
Result = TypeVar("Result")


class Inside:
    """The inside of a TLS connection."""

    def __init__(self, peer: Peer, context: ssl.SSLContext, name: str = NAME) -> None:
        self.peer = peer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name)
        self.ahead = b""

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.peer.send(self._outgoing.read())

    async def _step(self, act: Callable[[], Result]) -> Result:
        """Do something that needs to read."""
        while True:
            try:
                result = act()
            except ssl.SSLWantReadError:
                self._flush()
                await self.peer.until(lambda: self.peer.received or self.peer.ended)
                if self.peer.received:
                    self._incoming.write(bytes(self.peer.received))
                    self.peer.received.clear()
                else:
                    self._incoming.write_eof()
            else:
                self._flush()
                return result

    async def shake(self) -> Inside:
        await self._step(self.tls.do_handshake)
        return self

    def send(self, octets: bytes) -> None:
        self.tls.write(octets)
        self._flush()

    async def some(self) -> bytes:
        """What comes next; nothing at the end in good order, an error at any other."""
        try:
            return await self._step(lambda: self.tls.read(65536))
        except ssl.SSLZeroReturnError:
            return b""

    async def gets(self, expected: bytes) -> None:
        while len(self.ahead) < len(expected):
            some = await self.some()
            assert some, self.ahead
            self.ahead += some
        assert self.ahead[: len(expected)] == expected, self.ahead
        self.ahead = self.ahead[len(expected) :]

    async def head(self) -> bytes:
        while b"\r\n\r\n" not in self.ahead:
            some = await self.some()
            assert some, self.ahead
            self.ahead += some
        head, _, self.ahead = self.ahead.partition(b"\r\n\r\n")
        return head

    async def end(self) -> bytes:
        """Wait for the end, which must be in good order, and take what came before it."""
        while some := await self.some():
            self.ahead += some
        return self.ahead

    def say_goodbye(self) -> None:
        """Say that we have ended, too."""
        with suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self._flush()

    @property
    def serial(self) -> int:
        """That of the certificate that was shown."""
        shown: Any = self.tls.getpeercert()
        return int(shown["serialNumber"], 16)


class SecureStage(Stage):
    """A stage with TLS on its port."""

    def __init__(self, directory: Path, *, before: str = "", **settings: Any) -> None:
        """`before` stands before the endpoint string: `haproxy:`."""
        super().__init__(directory, **settings)
        self.authority = Authority()
        self.context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        self.files = KeyFiles(str(directory / "key.pem"), str(directory / "chain.pem"))
        self.renew()
        self.identities = Identities()
        self.plain = self.port
        text = f"{before}ssl:0:privateKey={self.files.key}:certKey={self.files.certificate}:interface=127.0.0.1"
        (door,) = doors([text], self.gateway, self.identities, reactor, self.poller)
        assert door.address == "tcp:0:interface=127.0.0.1"
        self.listener = door.listener
        self.port = self.listen(door.entrance)

    def renew(self) -> None:
        key, certificate = self.authority.issue(NAME)
        Path(self.files.key).write_bytes(key)
        Path(self.files.certificate).write_bytes(certificate)

    def believe(self, **forwarded: Any) -> None:
        """Another policy about who may speak for others."""
        policy = type(self.gateway.forwarded)(**forwarded)
        self.gateway = evolve(self.gateway, forwarded=policy)
        self.listener.use(self.gateway)

    async def secure(self, octets: bytes = b"", *, source: str = "127.0.0.1") -> Inside:
        """A client whose handshake is complete."""
        inside = await Inside(await self.client(source=source), self.context).shake()
        await turns()  # the client is ready before the server is
        if octets:
            inside.send(octets)
        return inside

    async def strike(self) -> None:
        await self.plain.stopListening()
        await super().strike()
        assert self.counters.connections_open == 0
