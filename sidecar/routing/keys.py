"""Affinity keys: what of a request says on which worker its like has been before.

One key for each user, room or server, however the request spells it. Everything here is total: any octets give a key
or None, which means that the request may go anywhere. Knows nothing of pools or workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from attrs import define, field

from sidecar.synapse.identifiers import decode_segment, localpart, query_value, text_of
from sidecar.synapse.senders import bearer_token, origin_of, token_digest, user_of_token

AUTHORIZATION_LINES = 32_768
"""Authorization values whose key is remembered; when that many are, all are forgotten."""
AUTHORIZATION_LENGTH = 512
"""Longest Authorization value that is remembered: bounds the memory to 16 MiB. Tokens of Synapse have 50 to 400."""

OPAQUE = "token"
"""Kind of the key of a token that does not name its user, until somebody says whose it is (`Decision.of_user`)."""

_APPSERVICE = ("user", "\0")
"""Remembered instead of a key when only the query tells for whom an application service acts."""


class Fields(Protocol):
    """The field lines of a request, asked by lower-case name; values without surrounding blanks."""

    def get(self, name: bytes) -> bytes | None:
        """The first value, None where there is none."""

    def get_all(self, name: bytes) -> list[bytes]:
        """All values, in their order."""


Key = tuple[str, str]
"""The kind of affinity and the key, which is hashed without its kind."""

KeyFunction = Callable[[Sequence[bytes], bytes, Fields, str], "Key | None"]
"""From raw path segments (the first one is in front of the first slash), query, fields and client address to a key;
None where the request has none."""


@define(eq=False)
class Callers:
    """Finds out who sends a request. Remembers answers, which changes none of them.

    `appservices` holds the user id of the sender for each known `as_token`; only with such a token `user_id` in the
    query is believed.
    """

    appservices: Mapping[bytes, str] = field(factory=dict, repr=False)
    remembered: dict[bytes, Key | None] = field(factory=dict, repr=False)

    def user(self, query: bytes, fields: Fields) -> Key | None:
        """The localpart of the caller, or a digest of a token that does not tell (`OPAQUE`), or None for nobody."""
        return self.key((), query, fields, "")

    def key(self, _segments: Sequence[bytes], query: bytes, fields: Fields, _peer: str) -> Key | None:
        """The same as a `KeyFunction`."""
        line = fields.get(b"authorization")
        if line is None:
            return self._by_query(query) if query else None
        try:
            key = self.remembered[line]
        except KeyError:
            key = self._remember(line)
        return self._masquerade(bearer_token(line) or b"", query) if key is _APPSERVICE else key

    def opaque_token(self, query: bytes, fields: Fields) -> bytes | None:
        """The token of a request, where it is one that does not name its user."""
        token = token_of(query, fields)
        return token if token and self._of_token(token)[0] == OPAQUE else None

    def _remember(self, line: bytes) -> Key | None:
        token = bearer_token(line)
        key = None if token is None else self._of_token(token)
        # Where tokens are opaque, they change every few minutes, and none is kept for longer than it is needed.
        if len(line) <= AUTHORIZATION_LENGTH and not (key is not None and key[0] == OPAQUE):
            if len(self.remembered) >= AUTHORIZATION_LINES:
                self.remembered.clear()
            self.remembered[line] = key
        return key

    def _of_token(self, token: bytes) -> Key:
        if token in self.appservices:
            return _APPSERVICE
        user = user_of_token(token)
        return (OPAQUE, token_digest(token)) if user is None else ("user", user)

    def _by_query(self, query: bytes) -> Key | None:
        token = _token_in(query)
        if not token:
            return None
        key = self._of_token(token)
        return self._masquerade(token, query) if key is _APPSERVICE else key

    def _masquerade(self, token: bytes, query: bytes) -> Key | None:
        claimed = query_value(query, b"user_id")
        user = localpart(text_of(claimed) if claimed else self.appservices[token])
        return None if user is None else ("user", user)


def _token_in(query: bytes) -> bytes:
    # Synapse decodes the query, so a blank is what a careless client made of the `+` of a token.
    return (query_value(query, b"access_token") or b"").replace(b" ", b"+")


def token_of(query: bytes, fields: Fields) -> bytes | None:
    """The token of a request, whatever it is; None or empty where there is none."""
    line = fields.get(b"authorization")
    return _token_in(query) if line is None else bearer_token(line)


def by_caller(callers: Callers, index: int) -> KeyFunction:
    """The caller, who is also named in segment `index`: that counts where the token does not tell.

    Synapse refuses whoever writes another's id there, so that it is as good as a forged token.
    """

    def key(segments: Sequence[bytes], query: bytes, fields: Fields, _peer: str) -> Key | None:
        by_token = callers.user(query, fields)
        if by_token is None or by_token[0] != OPAQUE:
            return by_token
        user = localpart(decode_segment(segments[index]))
        return by_token if user is None else ("user", user)

    return key


def by_user(callers: Callers, index: int) -> KeyFunction:
    """The user in segment `index` (negative: none), else the caller."""
    if index < 0:
        return callers.key

    def key(segments: Sequence[bytes], query: bytes, fields: Fields, _peer: str) -> Key | None:
        user = localpart(decode_segment(segments[index]))
        return callers.user(query, fields) if user is None else ("user", user)

    return key


def by_segment(kind: str, index: int) -> KeyFunction:
    """The decoded segment `index`: a room id or alias, a session, a media id."""

    def key(segments: Sequence[bytes], _query: bytes, _fields: Fields, _peer: str) -> Key | None:
        segment = segments[index]
        return (kind, decode_segment(segment)) if segment else None

    return key


def by_origin(_segments: Sequence[bytes], _query: bytes, fields: Fields, peer: str) -> Key | None:
    """The server that signed the request, else where it came from."""
    line = fields.get(b"authorization")
    if line is None:
        return by_source(_segments, _query, fields, peer)
    origin = origin_of(line) or next(filter(None, map(origin_of, fields.get_all(b"authorization"))), None)
    return by_source(_segments, _query, fields, peer) if origin is None else ("origin", origin)


def by_source(_segments: Sequence[bytes], _query: bytes, _fields: Fields, peer: str) -> Key | None:
    """The client address."""
    return ("source", peer) if peer else None


def by_path(segments: Sequence[bytes], _query: bytes, _fields: Fields, _peer: str) -> Key | None:
    """The decoded path."""
    return "path", decode_segment(b"/".join(segments))


def by_constant(kind: str, constant: str) -> KeyFunction:
    """The same key for all, which pins an endpoint to one process."""
    answer = (kind, constant)
    return lambda _segments, _query, _fields, _peer: answer
