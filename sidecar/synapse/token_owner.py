"""The question `GET /account/whoami` and its answer, and other answers of Synapse that tell whose a token is.

Octets in and out; opens no connection, and never raises, whatever the octets. What an answer tells is used to place
requests, never to allow one.
"""

from __future__ import annotations

import json
import re
from typing import Any

from attrs import frozen

from sidecar.synapse.endpoint_rows import Endpoint
from sidecar.synapse.identifiers import localpart, query_value

TARGET = b"/_matrix/client/v3/account/whoami"
LONGEST_TOKEN = 1024
"""Longest token that is asked for. Those of Synapse have 50 to 400 octets, those of MAS 41."""

_WHOAMI = re.compile(rb"/_matrix/client/(?:r0|v3|unstable)/account/whoami")
_LOGIN = re.compile(rb"/_matrix/client/(?:api/v1|r0|v1|v3|unstable)/(?:login|register)")
# What can stand in a field line as one word. A token from a query may be anything once decoded.
_ASKABLE = re.compile(rb"[!-~]{1,%d}" % LONGEST_TOKEN)

_PROVEN = frozenset(
    {
        *("account_data", "create_filter", "get_filter", "id_token", "room_account_data", "room_typing"),
        *("tag", "tag_list", "unstable_account_data", "unstable_room_account_data"),
    }
)
"""Endpoints with a user id in the path at which Synapse answers with success only if it is the caller's."""
_PROVEN_BY_WRITING = frozenset({"presence_status"})
"""The same for methods that write. Profiles are not among them: an administrator may write those of others."""
_WRITING = frozenset({"PUT", "POST", "DELETE"})
_USER = "{user_id}"


@frozen(slots=True)
class TokenOwner:
    """What an answer tells: the localpart of the owner, the token if it is in the answer, and how long it is valid."""

    user: str
    token: bytes | None = None
    left: float | None = None
    """Seconds; None where the answer does not say."""


def caller_at(row: Endpoint) -> int:
    """In which segment of a divided path (the first is in front of the first slash) the caller's own id stands.

    -1 where none does. A client can write any id there; whose it is shows in the answer, which is a success only for
    the caller's own (AuthError in rest/client/account_data.py, filter.py, openid.py, presence.py, tags.py and in
    handlers/typing.py).
    """
    proven = row.name in _PROVEN or (row.name in _PROVEN_BY_WRITING and row.methods <= _WRITING)
    return row.path.index(_USER) + 1 if proven and _USER in row.path else -1


def answers_whoami(path: bytes) -> bool:
    """Whether the answer at this path says whose the token of the request is."""
    return _WHOAMI.fullmatch(path) is not None


def answers_login(path: bytes) -> bool:
    """Whether an answer to a POST at this path may hold a new token with its user, be it Synapse's or MAS's."""
    return _LOGIN.fullmatch(path) is not None


def masquerades(query: bytes) -> bool:
    """Whether an application service, perhaps one that is not known here, acts for somebody with this request."""
    return query_value(query, b"user_id") is not None


def is_askable(token: bytes) -> bool:
    """Whether a token can be put into a field line."""
    return _ASKABLE.fullmatch(token) is not None


def question(token: bytes, host: bytes, agent: bytes | None, forwarded: bytes) -> bytes:
    """The request. `forwarded` are whole lines that name the client, whose address Synapse records with the device.

    So does it with the User-Agent, which is therefore the client's.
    """
    lines = [b"GET %b HTTP/1.1" % TARGET, b"Host: " + host, b"Authorization: Bearer " + token]
    if agent is not None:
        lines.append(b"User-Agent: " + agent)
    lines.append(b"Accept: application/json")
    return b"\r\n".join(lines) + b"\r\n" + forwarded + b"\r\n"


def told_by_whoami(status: int, content: bytes) -> TokenOwner | None:
    """What an answer to `question` tells; None if it tells no user."""
    user = _user(_object(content)) if status == 200 else None
    return None if user is None else TokenOwner(user)


def told_by_login(status: int, content: bytes) -> TokenOwner | None:
    """What an answer to a login or a registration tells; None if it tells no user with a token."""
    answer = _object(content) if status == 200 else {}
    user, token = _user(answer), answer.get("access_token")
    if user is None or not isinstance(token, str) or not token:
        return None
    return TokenOwner(user, token.encode("utf-8", "surrogatepass"), _seconds(answer.get("expires_in_ms")))


def _seconds(milliseconds: Any) -> float | None:
    # JSON as Python reads it has numbers that are none, or beyond all bounds.
    is_number = isinstance(milliseconds, (int, float)) and not isinstance(milliseconds, bool)
    return milliseconds / 1000 if is_number and 0 <= milliseconds < 1e15 else None


def _object(content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _user(answer: dict[str, Any]) -> str | None:
    user_id = answer.get("user_id")
    return localpart(user_id) if isinstance(user_id, str) else None
