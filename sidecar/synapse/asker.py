"""Asks a running Synapse which version it is. One of the two places in this layer that open a connection.

A process that was just started answers within milliseconds; one that does not answer is not waited for. Any listener
will do: where `/_matrix/federation/v1/version` is not served, the Server field of the refusal says the same.
"""

from __future__ import annotations

import json
import re
import socket
from http.client import HTTPConnection, HTTPException

PATH = "/_matrix/federation/v1/version"
HEADERS = {"Host": "localhost", "X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http"}
"""Without the last two Synapse warns of a proxy that forgot them."""
_SERVER = re.compile(r"Synapse/(\d+\.\d+\.\d+(?:rc\d+)?)")


def version_in(status: int, server: str, content: bytes) -> str | None:
    """The version that a response to `PATH` tells of, `1.163.2` or `1.163.0rc1`; None if it tells of none."""
    told = ""
    if status == 200:
        try:
            told = str(json.loads(content)["server"]["version"]).split(" ")[0]
        except (ValueError, KeyError, TypeError):
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
    connection = _connection(endpoint, timeout)
    if connection is None:
        return None
    try:
        connection.request("GET", PATH, headers=HEADERS)
        response = connection.getresponse()
        return version_in(response.status, response.getheader("Server") or "", response.read(65536))
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


class _UnixConnection(HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(endpoint: str, timeout: float) -> HTTPConnection | None:
    kind, _, rest = endpoint.partition(":")
    words = [
        word.partition("=")[2] if word.startswith(("path=", "host=", "port=")) else word for word in rest.split(":")
    ]
    if kind == "unix" and words[0]:
        return _UnixConnection(words[0], timeout)
    if kind == "tcp" and len(words) > 1 and words[1].isdecimal():
        return HTTPConnection(words[0], int(words[1]), timeout=timeout)
    return None
