"""Asks a running Synapse which version it is. One of the two places in this layer that open a connection.

A process that was just started answers within milliseconds; one that does not answer is not waited for. Any listener
will do: where `/_matrix/federation/v1/version` is not served, the Server field of the refusal says the same.
"""

from __future__ import annotations

import json
import re
import socket
from contextlib import closing
from http.client import HTTPConnection, HTTPException

PATH = "/_matrix/federation/v1/version"
HEADERS = {"Host": "localhost", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http"}
"""Without the last two Synapse warns of a proxy that forgot them."""
# Twisted's endpoint strings: a colon or a backslash within a value has a backslash before it, as in `tcp:\:\:1:8008`.
_PARAMETER = re.compile(r"(?:(\w+)=)?((?:\\.|[^:\\])+)", re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ORDER = {"unix": ("path",), "tcp": ("host", "port")}
_SERVER = re.compile(r"Synapse/(\d+\.\d+\.\d+(?:rc\d+)?)")


def version_in(status: int, server: str, content: bytes) -> str | None:
    """The version that a response to `PATH` tells of, `1.163.2` or `1.163.0rc1`; None if it tells of none."""
    told = ""
    if status == 200:
        try:
            told = str(json.loads(content)["server"]["version"]).split(" ")[0]
        except (ValueError, KeyError, TypeError, RecursionError):
            told = ""
    for text in (f"Synapse/{told}", server):
        match = _SERVER.search(text)
        if match is not None:
            return match[1]
    return None


def ask_version(endpoint: str, timeout: float = 1.0) -> str | None:
    """The version of the Synapse process at a client endpoint string; None if it does not say so in time.

    Blocks for at most about `timeout` seconds, so it is for before the reactor runs. Knows `unix:` and `tcp:`.
    """
    try:
        connection = _connection(endpoint, timeout)
        if connection is None:
            return None
        with closing(connection):
            connection.request("GET", PATH, headers=HEADERS)
            response = connection.getresponse()
            return version_in(response.status, response.getheader("Server") or "", response.read(65536))
    except (OSError, HTTPException, ValueError, OverflowError):
        return None  # ValueError and OverflowError: what is no path, host or port at all


class UnixConnection(HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Raises OSError; the socket is closed with the connection."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def reached_at(endpoint: str) -> tuple[str, str, int] | None:
    """Socket, host and port behind a client endpoint string, the first or the others empty; None for other kinds."""
    kind, _, rest = endpoint.partition(":")
    parameters = [(name, _ESCAPED.sub(r"\1", value)) for name, value in _PARAMETER.findall(rest)]
    plain = [value for name, value in parameters if not name]
    values = {**dict(zip(_ORDER.get(kind, ()), plain, strict=False)), **dict(parameters)}
    if kind == "unix" and "path" in values:
        return values["path"], "", 0
    if kind == "tcp" and "host" in values and values.get("port", "").isdecimal():
        return "", values["host"], int(values["port"])
    return None


def _connection(endpoint: str, timeout: float) -> HTTPConnection | None:
    place = reached_at(endpoint)
    if place is None:
        return None
    path, host, port = place
    return UnixConnection(path, timeout) if path else HTTPConnection(host, port, timeout=timeout)
