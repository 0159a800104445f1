"""Asks a running sidecar over its operator's listener, from outside. Knows no terminal."""

from __future__ import annotations

import http.client
import json
import socket
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote, urlencode

from attrs import field, frozen

from sidecar.admin.snapshot import Snapshot
from sidecar.admin.together import snapshot_of
from sidecar.config.endpoint_strings import EndpointError, is_foreign, place_of

PATIENCE = 5.0
"""Seconds in which the sidecar has to answer."""
PATIENCE_WITH_ALL = 60.0
"""The same where it waits for other instances, which has a limit of its own: `operator.sibling_timeout`."""
MOST = 16 * 1024 * 1024
"""Bytes of an answer."""


class SilentSidecarError(Exception):
    """The sidecar did not answer, or not as one; the text says why."""


@frozen
class AdminAddress:
    """Where the operator's listener is: a path, or a host and a port."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")


def place(endpoint: str) -> AdminAddress:
    """Where an endpoint string of either side leads, seen from this machine. Raises ValueError with a sentence."""
    kind = endpoint.partition(":")[0]
    if kind in ("ssl", "haproxy", "systemd") or is_foreign(endpoint):
        raise ValueError(f"`{kind}:` endpoints cannot be asked; name another one with --admin, `unix:` or `tcp:`")
    try:
        found = place_of(endpoint)
    except (EndpointError, KeyError) as error:
        raise ValueError(f"`{endpoint}` is no endpoint: {getattr(error, 'message', 'it lacks a part')}") from None
    if found is None:
        raise ValueError(f"`{endpoint}` is no endpoint; write for example `tcp:127.0.0.1:9600`, or `unix:` and a path")
    host, rest = found
    if host == "unix":
        if not rest:
            raise ValueError(f"`{endpoint}` is no endpoint: it lacks the path")
        return AdminAddress(path=rest)
    if not rest.isdecimal() or not 0 < int(rest) < 65536:
        raise ValueError(f"`{endpoint}` has no port that can be asked")
    return AdminAddress(host={"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port=int(rest))  # noqa: S104


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self._path)
        except OSError:
            self.sock.close()
            raise


@frozen
class OperatorClient:
    """Who asks, and where."""

    place: AdminAddress
    user: str = "operator"
    password: str | None = field(default=None, repr=False)

    def look(self) -> Snapshot:
        """How the sidecar is, by itself. Raises SilentSidecarError."""
        return self._snapshot(self._ask("GET", "/api/status"))

    def look_at_all(self, *, wait: bool = False) -> Snapshot:
        """The same of all instances: the last known status of the others; with `wait`, their current one."""
        return self._snapshot(self._ask("GET", "/api/status?all" if wait else "/api/status?all=latest", slow=wait))

    def _snapshot(self, told: dict[str, Any]) -> Snapshot:
        try:
            return snapshot_of(told)
        except ValueError:
            raise SilentSidecarError(f"What answers at {self.place} is no matrix-sidecar.") from None

    def drain(self, name: str, *, drain: bool, move: bool = False, everywhere: bool = False) -> str:
        """Drain a worker, or end that, here or on all instances; a sentence. `move`: its long polls go elsewhere.

        Raises SilentSidecarError.
        """
        wanted = [*(["polls=move"] if move else []), *(["all"] if everywhere else [])]
        query = f"?{'&'.join(wanted)}" if wanted else ""
        path = f"/api/workers/{quote(name, safe='')}/{'drain' if drain else 'undrain'}{query}"
        return str(self._ask("POST", path, slow=everywhere).get("told", ""))

    def check(self, name: str) -> None:
        """Let a worker be asked for its health at once. Raises SilentSidecarError."""
        self._ask("POST", f"/api/workers/{quote(name, safe='')}/check")

    def set_value(self, name: str, what: str, value: str, *, everywhere: bool = False) -> str:
        """Give a worker another `weight` or `maximum`, here or on all instances; `file`: the file's. A sentence.

        Raises SilentSidecarError.
        """
        query = urlencode({"value": value}) + ("&all" if everywhere else "")
        path = f"/api/workers/{quote(name, safe='')}/{what}?{query}"
        return str(self._ask("POST", path, slow=everywhere).get("told", ""))

    def maintain(self, on: bool, values: Mapping[str, str]) -> str:
        """Begin or end maintenance mode; a sentence. Raises SilentSidecarError."""
        path = f"/api/maintenance/{'on' if on else 'off'}?{urlencode(values)}"
        return str(self._ask("POST", path, slow="all" in values).get("told", ""))

    def hottest(self, names: Sequence[str]) -> dict[str, Any]:
        """Who has the most requests, and where those who are named stand. Raises SilentSidecarError."""
        return self._ask("GET", f"/api/hottest?{urlencode([('is', name) for name in names])}")

    def _ask(self, method: str, path: str, *, slow: bool = False) -> dict[str, Any]:
        where, seconds = self.place, PATIENCE_WITH_ALL if slow else PATIENCE
        connection = (
            _UnixConnection(where.path, seconds)
            if where.path
            else http.client.HTTPConnection(where.host, where.port, timeout=seconds)
        )
        try:
            connection.request(method, path, headers=self._fields())
            answer = connection.getresponse()
            status, content = answer.status, answer.read(MOST)
        except (OSError, http.client.HTTPException) as error:
            raise SilentSidecarError(f"No answer from {where}: {getattr(error, 'strerror', None) or error}.") from error
        finally:
            connection.close()
        return self._told(status, content)

    def _fields(self) -> dict[str, str]:
        fields = {"Accept": "application/json", "Connection": "close"}
        if self.password is not None:
            credentials = b64encode(f"{self.user}:{self.password}".encode("utf-8", "surrogateescape")).decode()
            fields["Authorization"] = f"Basic {credentials}"
        return fields

    def _told(self, status: int, content: bytes) -> dict[str, Any]:
        try:
            told = json.loads(content)
        except (ValueError, RecursionError):
            told = None
        if not isinstance(told, dict):
            raise SilentSidecarError(f"What answers at {self.place} is no matrix-sidecar.")
        if status != 200:
            raise SilentSidecarError(str(told.get("error", f"It was answered {status}.")))
        return told
