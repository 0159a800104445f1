"""One request over a connection of its own, sent exactly as written, and its answer. Blocks; knows nothing of Matrix.

http.client sends a target as it is given, which most clients do not, and neither follows nor retries.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterable
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import Any

from attrs import evolve, field, frozen

from sidecar.synapse.asker import UnixConnection

PATIENCE = 5.0
"""Seconds for each step of an exchange, unless somebody expects it to take longer."""
MOST = 1 << 20
"""Octets of an answer that are read."""


@frozen
class SilenceError(Exception):
    """There was no answer. `reason` is the end of a sentence, `error` what the operating system said."""

    reason: str
    error: OSError | None = None

    def __str__(self) -> str:
        return self.reason


@frozen(kw_only=True)
class ServerAddress:
    """Where a request is sent: a UNIX socket, or an address, over TLS for the name `host` where `tls` is set."""

    host: str = "localhost"
    """For the Host field, and for TLS."""
    address: str = ""
    """Empty: `host`."""
    port: int = 0
    named_port: int = 0
    """In the Host field; 0: `port`."""
    socket: str = ""
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.socket or f"{self.address or self.host}:{self.port}"

    @property
    def named(self) -> str:
        """The value of Host."""
        usual = 443 if self.tls is not None else 80
        shown = f"[{self.host}]" if ":" in self.host else self.host
        port = self.named_port or self.port
        return shown if self.socket or port == usual else f"{shown}:{port}"


@frozen(kw_only=True)
class Reply:
    """An answer, with the seconds until its head had come."""

    status: int
    fields: tuple[tuple[str, str], ...]
    content: bytes = field(repr=False)
    seconds: float

    def all(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for each, value in self.fields if each.lower() == name.lower()]

    def get(self, name: str) -> str:
        """The first value of a field; empty where there is none."""
        return next(iter(self.all(name)), "")

    @property
    def values(self) -> dict[str, Any]:
        """The JSON object that the content is; empty where it is none."""
        try:
            values = json.loads(self.content)
        except (ValueError, RecursionError):
            return {}
        return values if isinstance(values, dict) else {}

    @property
    def errcode(self) -> str:
        """`errcode` of a Matrix error, else empty."""
        return str(self.values.get("errcode", ""))

    @property
    def by_synapse(self) -> bool:
        """Whether Synapse says that it has answered."""
        return self.get("Server").startswith("Synapse/")

    def told(self) -> str:
        """Status and errcode, for people."""
        return f"{self.status} {self.errcode}".rstrip()


class _Connection(HTTPConnection):
    """To an address that the name need not lead to, over TLS if so."""

    def __init__(self, place: ServerAddress, timeout: float) -> None:
        super().__init__(place.host, place.port, timeout=timeout)
        self._place = place

    def connect(self) -> None:
        place = self._place
        self.sock = socket.create_connection((place.address or place.host, place.port), self.timeout)
        if place.tls is not None:
            self.sock = place.tls.wrap_socket(self.sock, server_hostname=place.host)


def _connection(place: ServerAddress, timeout: float) -> HTTPConnection:
    return UnixConnection(place.socket, timeout) if place.socket else _Connection(place, timeout)


def ask(
    place: ServerAddress,
    method: str,
    target: str,
    fields: Iterable[tuple[str, str]] = (),
    content: bytes = b"",
    *,
    announced: int | None = None,
    timeout: float = PATIENCE,
) -> Reply:
    """The answer to one request, or SilenceError. `announced`: the Content-Length, where more is promised than sent."""
    fields = [("Host", place.named), *fields]
    length = announced if announced is not None else len(content)
    if length or method in ("POST", "PUT"):
        fields.append(("Content-Length", str(length)))
    began = time.monotonic()
    try:
        with closing(_connection(place, timeout)) as connection:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            for name, value in (*fields, ("Connection", "close")):
                connection.putheader(name, value)
            connection.endheaders(content)
            response = connection.getresponse()
            return evolve(_reply(response), seconds=time.monotonic() - began)
    except UnicodeError as error:
        raise SilenceError("this is not a host name") from error
    except (OSError, HTTPException) as error:
        raise _silence(error, time.monotonic() - began) from error


def _reply(response: HTTPResponse) -> Reply:
    fields, status = tuple(response.getheaders()), response.status
    return Reply(status=status, fields=fields, content=response.read(MOST), seconds=0.0)


def _silence(error: OSError | HTTPException, seconds: float) -> SilenceError:
    if isinstance(error, HTTPException):
        # First, because a connection that is closed at once is both.
        return SilenceError("the connection closed without an HTTP response")
    if isinstance(error, ssl.SSLCertVerificationError):
        return SilenceError(f"its certificate is not valid: {error.verify_message}", error)
    if isinstance(error, TimeoutError):
        return SilenceError(f"no response within {seconds:.0f} s", error)
    if isinstance(error, socket.gaierror):
        return SilenceError("DNS does not know the name", error)
    return SilenceError((error.strerror or str(error)).lower(), error)
