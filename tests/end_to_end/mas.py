"""A stand-in for the Matrix Authentication Service: answers what Synapse asks it, and makes tokens as it does.

It speaks to a real Synapse (synapse/api/auth/mas.py) on a loopback port: the metadata of an issuer, and the
introspection of tokens. Users and devices come to Synapse as MAS sends them, by `/_synapse/mas`. Its compatibility
layer has the paths, methods and CORS of MAS's own (crates/handlers/src/lib.rs) and calls Synapse at `homeserver` as
crates/matrix-synapse does. It is no MAS: it has one password, no pages, no OAuth, and sessions by calls from tests.
"""

from __future__ import annotations

import http.client
import json
import re
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

from .synapse_files import SERVER_NAME

Kind = Literal["mat", "mct", "mpt"]
"""Tokens of OAuth sessions, of compatibility sessions (`/login`), and personal access tokens."""

LIFETIME = 300
"""Seconds for which a token of an OAuth session is valid by default (`access_token_ttl`)."""

PASSWORD = "correct horse"
"""Everybody's."""
_COMPATIBILITY = re.compile(
    r"/_matrix/client/[^/]+/(login|logout|logout/all|refresh|login/sso/redirect|login/sso/redirect/[^/]*)"
)
_CORS = (("Access-Control-Allow-Origin", "*"), ("Access-Control-Allow-Methods", "*"))
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


@frozen
class Asked:
    """A request to the compatibility layer, as it came."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The values of all field lines of this name."""
        return [value for other, value in self.fields if other.lower() == name]


class Mas:
    """The service, on a port of 127.0.0.1, for as long as the block lasts."""

    def __init__(self) -> None:
        self.secret = secrets.token_hex(16)
        self.introspections: Counter[str] = Counter()
        """How often each token was asked for."""
        self.homeserver: tuple[str, int] | None = None
        """Where it finds Synapse: `matrix.endpoint` of its configuration."""
        self.seen: list[Asked] = []
        """Requests to the compatibility layer."""
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

    def end(self, token: str) -> bool:
        """A session is over; whether there was one."""
        return self._sessions.pop(token, None) is not None

    def session(self, token: str) -> Session | None:
        return self._sessions.get(token)

    def call(self, path: str, content: Mapping[str, Any], *, secret: str = "") -> int:
        """A call of Synapse's API for MAS, with the shared secret; the status."""
        assert self.homeserver is not None
        connection = http.client.HTTPConnection(*self.homeserver, timeout=30)
        try:
            fields = {"Authorization": f"Bearer {secret or self.secret}", "Content-Type": "application/json"}
            connection.request("POST", f"/_synapse/mas/{path}", json.dumps(content), fields)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def log_in(self, user: str, password: str) -> tuple[int, dict[str, Any]]:
        """`POST /login` with a password: the user and a new device are told to Synapse first."""
        if password != PASSWORD:
            return 403, {"errcode": "M_FORBIDDEN", "error": "Invalid username/password"}
        device = secrets.token_hex(5).upper()
        for path, content in (
            ("provision_user", {"localpart": user}),
            ("upsert_device", {"localpart": user, "device_id": device}),
        ):
            status = self.call(path, content)
            if status not in (200, 201):
                return 500, {"errcode": "M_UNKNOWN", "error": f"Synapse answered {status} to {path}"}
        token = self.issue("mct", user, device)
        return 200, {"access_token": token, "device_id": device, "user_id": f"@{user}:{SERVER_NAME}"}

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

        def do_OPTIONS(self) -> None:
            self._asked(b"")
            self._answer(200, {}, *_CORS)

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if _COMPATIBILITY.fullmatch(path):
                self._asked(b"")
                if "/redirect" in path:
                    self._answer(303, {}, ("Location", f"{mas.url}complete-compat-sso/01J0"))
                elif path.endswith("/login"):
                    flows = ({"type": f"m.login.{kind}"} for kind in ("password", "sso", "token"))
                    self._answer(200, {"flows": [*flows]}, *_CORS)
                else:
                    self._answer(405, {}, *_CORS)
            elif self.path == "/.well-known/openid-configuration":
                self._answer(200, mas.metadata())
            else:
                self._answer(404, {"error": "not_found"})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            compatibility = _COMPATIBILITY.fullmatch(self.path.partition("?")[0])
            if compatibility:
                self._asked(body)
                self._answer(*self._compatible(compatibility[1], body), *_CORS)
                return
            form = parse_qs(body.decode())
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

        def _asked(self, body: bytes) -> None:
            mas.seen.append(Asked(self.command, self.path, tuple(self.headers.items()), body))

        def _compatible(self, what: str, body: bytes) -> tuple[int, dict[str, Any]]:
            token = (self.headers["Authorization"] or "").removeprefix("Bearer ")
            if what == "login":
                asked = json.loads(body)
                if "identifier" not in asked:
                    return 400, {"errcode": "M_UNKNOWN", "error": "Invalid login type"}
                return mas.log_in(asked["identifier"]["user"], asked["password"])
            if what == "refresh":
                return 200, {"access_token": mas.issue("mat", "alice", "PHONE"), "refresh_token": new_token("mcr")}
            session = mas.session(token)
            if session is None:
                return 401, {"errcode": "M_UNKNOWN_TOKEN", "error": "Invalid access token"}
            mas.end(token)
            mas.call("delete_device", {"localpart": session.user, "device_id": session.device})
            return 200, {}

        def _answer(self, status: int, content: dict[str, Any], *fields: tuple[str, str]) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            for field in fields:
                self.send_header(*field)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Requests are counted, not told."""

    return Handler
