"""A stand-in for the Matrix Authentication Service: answers what Synapse asks it, and makes tokens as it does.

It speaks to a real Synapse (synapse/api/auth/mas.py) on a loopback port: the metadata of an issuer, and the
introspection of tokens. Users and devices come to Synapse as MAS sends them, by `/_synapse/mas`. It is no MAS in that
nobody can log in; sessions and tokens are made by calls from tests.
"""

from __future__ import annotations

import json
import secrets
import string
import threading
import time
import zlib
from collections import Counter
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal
from urllib.parse import parse_qs

from attrs import frozen

Kind = Literal["mat", "mct", "mpt"]
"""Tokens of OAuth sessions, of compatibility sessions (`/login`), and personal access tokens."""

LIFETIME = 300
"""Seconds for which a token of an OAuth session is valid by default (`access_token_ttl`)."""

_ALPHANUMERIC = string.ascii_letters + string.digits
_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_API = ("urn:matrix:client:api:*", "urn:matrix:org.matrix.msc2967.client:api:*")
_DEVICE = ("urn:matrix:client:device:", "urn:matrix:org.matrix.msc2967.client:device:")


def new_token(kind: str) -> str:
    """Thirty random characters, and a checksum of them in six more, the least significant first."""
    base = f"{kind}_{''.join(secrets.choice(_ALPHANUMERIC) for _ in range(30))}"
    number, digits = zlib.crc32(base.encode()), ""
    while number:
        number, digit = divmod(number, 62)
        digits += _BASE62[digit]
    return f"{base}_{digits.rjust(6, '0')}"


@frozen
class Session:
    """Whose a token is, and until when."""

    kind: Kind
    user: str
    device: str | None
    issued: float
    expires: float | None


class Mas:
    """The service, on a port of 127.0.0.1, for as long as the block lasts."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(16)
        self.introspections: Counter[str] = Counter()
        """How often each token was asked for."""
        self._sessions: dict[str, Session] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    @property
    def synapse(self) -> Mapping[str, Any]:
        """What homeserver.yaml says where it is used; Synapse does not start with what it takes over."""
        return {
            "matrix_authentication_service": {"enabled": True, "endpoint": self.url, "secret": self.secret},
            "enable_registration": False,
            "enable_registration_without_verification": False,
            "password_config": {"enabled": False},
        }

    def issue(self, kind: Kind, user: str, device: str | None = None, lifetime: int | None = None) -> str:
        """A new token. Those of OAuth sessions expire, others only if they are told to."""
        token, now = new_token(kind), time.time()
        seconds = LIFETIME if kind == "mat" and lifetime is None else lifetime
        self._sessions[token] = Session(kind, user, device, now, None if seconds is None else now + seconds)
        return token

    def introspect(self, token: str, *, explicit_device: bool) -> dict[str, Any]:
        """RFC 7662, with the scopes of MSC2967; what is unknown, expired or no access token is not active."""
        self.introspections[token] += 1
        session, now = self._sessions.get(token), time.time()
        if session is None or (session.expires is not None and session.expires < now):
            return {"active": False}
        scope, device = list(_API), session.device
        if session.kind == "mct" and explicit_device:
            explicit = device
        else:
            explicit = None
            scope += [f"{prefix}{device}" for prefix in _DEVICE if device is not None]
        answer = {
            "active": True,
            "scope": " ".join(scope),
            "client_id": "legacy" if session.kind == "mct" else "01J0000000000000000000000A",
            "username": session.user,
            "token_type": "access_token",
            "exp": None if session.expires is None else int(session.expires),
            "expires_in": None if session.expires is None else max(0, int(session.expires - now)),
            "iat": int(session.issued),
            "nbf": int(session.issued),
            "sub": f"sub-of-{session.user}",
            "device_id": explicit,
        }
        return {key: value for key, value in answer.items() if value is not None}

    def metadata(self) -> dict[str, Any]:
        """What clients and Synapse are told of the issuer."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}authorize",
            "token_endpoint": f"{self.url}oauth2/token",
            "introspection_endpoint": f"{self.url}oauth2/introspect",
            "revocation_endpoint": f"{self.url}oauth2/revoke",
            "registration_endpoint": f"{self.url}oauth2/registration",
            "account_management_uri": f"{self.url}account/",
            "account_management_actions_supported": ["org.matrix.profile", "org.matrix.devices_list"],
        }

    def __enter__(self) -> Mas:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _handler(mas: Mas) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/.well-known/openid-configuration":
                self._answer(200, mas.metadata())
            else:
                self._answer(404, {"error": "not_found"})

        def do_POST(self) -> None:
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            if self.path != "/oauth2/introspect":
                self._answer(404, {"error": "not_found"})
            elif self.headers["Authorization"] != f"Bearer {mas.secret}":
                self._answer(401, {"error": "access_denied"})
            elif "token" not in form:
                self._answer(400, {"error": "invalid_request"})
            else:
                explicit = self.headers.get("X-MAS-Supports-Device-Id") == "1"
                hint = form.get("token_type_hint", ["access_token"])[0]
                known = mas.introspect(form["token"][0], explicit_device=explicit)
                self._answer(200, known if hint == "access_token" else {"active": False})

        def _answer(self, status: int, content: dict[str, Any]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Requests are counted, not told."""

    return Handler
