"""One request in one line of text, and its answer: JSON, or what nginx and HAProxy write into their access logs.

Recognises nginx's `combined` (and what begins like it: Apache's formats too) and HAProxy's `httplog`, with or without
what syslog puts in front. Pure; total but for NoRequestError, whose sentences contain nothing of the line, because a
token could be among it.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from json.encoder import encode_basestring_ascii as _encode_text
from typing import Any

from sidecar.explaining.rehearsal import RequestText, is_peer
from sidecar.routing.decision import Action, Decision

MOST = 1 << 20
"""Longest line that is looked at, in bytes. A request has 16,000 at most."""

# What both logs have: the moment in brackets. What stands in front of it tells the peer.
_MOMENT = re.compile(r" \[\d{1,2}/[A-Z][a-z]{2}/\d{4}:[0-9:.+ \-]{8,24}\] ")
_QUOTED = re.compile(r'"([^"]*)"')
_REQUEST = re.compile(r"([^ ]+) ([^ ]+) HTTP/[0-9](?:\.[0-9])?")
_NGINX_OCTET = re.compile(r"\\x([0-9A-Fa-f]{2})")
_HAPROXY_OCTET = re.compile(r"#([0-9A-F]{2})")


_DECODE = json.JSONDecoder().raw_decode
_KEPT = 4096
"""Parts of answers that are kept: those of an endpoint, and lists of workers."""


class NoRequestError(ValueError):
    """A line that holds no request; the sentence says why."""


def read_line(line: bytes, peer: str) -> RequestText:
    """The request in a line; `peer` is where it comes from if it does not say so. Raises NoRequestError."""
    if len(line) > MOST:
        raise NoRequestError(f"the line is longer than {MOST} bytes")
    try:
        text = line.decode("utf-8").strip()
    except UnicodeDecodeError:
        raise NoRequestError("the line is not UTF-8") from None
    if text[:1] == "{":
        return _from_json(text, peer)
    if not text:
        raise NoRequestError("the line is empty")
    return _from_log(text)


def _from_json(text: str, peer: str) -> RequestText:
    try:
        values, end = _DECODE(text)
        if end != len(text):
            values = json.loads(text)  # says where the line goes on
    except (ValueError, RecursionError) as error:
        where = f" at column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        raise NoRequestError(f"the line is not JSON{where}") from None
    method, target, stated = values.get("method"), values.get("target"), values.get("peer")
    if not isinstance(method, str) or not isinstance(target, str):
        raise NoRequestError("`method` and `target` must be there and be text")
    if stated is not None:
        peer = _peer(stated)
    headers = values.get("headers")
    return RequestText(method, target, _headers(headers) if headers else (), peer)


def answer_line(method: str, target: str, decision: Decision) -> str:
    """What `explain --json` prints for a request, without its end: `as_json` in text."""
    about, after = _around(
        decision.action, decision.status, decision.endpoint, decision.pool, decision.kind, decision.reason
    )
    key = "null" if decision.key is None else _encode_text(decision.key)
    return (
        f'{{"method": {_encode_text(method)}, "target": {_encode_text(target)}, {about}{key}}}, '
        f'"candidates": {_names(decision.candidates)}, "fallback": {_names(decision.fallback)}, {after}'
    )


@lru_cache(_KEPT)
def _around(action: Action, status: int | None, endpoint: str, pool: str, kind: str, reason: str) -> tuple[str, str]:
    """What does not depend on the key: in front of it, and behind the workers."""
    about = {"action": action, "status": status, "endpoint": endpoint, "pool": pool}
    return (
        f'{json.dumps(about)[1:-1]}, "affinity": {{"kind": {json.dumps(kind)}, "key": ',
        f'"reason": {json.dumps(reason)}}}',
    )


@lru_cache(_KEPT)
def _names(workers: tuple[str, ...]) -> str:
    return json.dumps(workers)


def _peer(stated: Any) -> str:
    peer = "" if stated == "unix" else stated
    if not isinstance(peer, str) or not is_peer(peer):
        raise NoRequestError("`peer` must be an IP address, or `unix`")
    return peer


def _headers(values: Any) -> list[tuple[str, str]]:
    if not isinstance(values, dict):
        raise NoRequestError('`headers` must be an object such as {"Host": "example.org"}')
    headers = []
    for name, value in values.items():
        for each in value if isinstance(value, list) else (value,):
            if not isinstance(each, str):
                raise NoRequestError(
                    "each of `headers` must be text, or a list of texts where a field line is repeated"
                )
            headers.append((name, each))
    return headers


def _from_log(text: str) -> RequestText:
    """A line of a log. It tells no Host and no token, so that users' requests have no key."""
    moment = _MOMENT.search(text)
    if moment is None:
        raise NoRequestError("the line is neither a JSON object nor one of an access log of nginx or HAProxy")
    before, after = text[: moment.start()].split(), text[moment.end() :]
    quoted = _QUOTED.findall(after)
    match = _REQUEST.fullmatch(quoted[0]) if quoted else None
    if match is None:
        raise NoRequestError("the line holds no complete request-line in quotes")
    nginx = after.startswith('"')
    # nginx: address, identity, user. HAProxy: address and port; `unix:1` for a UNIX socket.
    said = "".join(before[-3:-2]) if nginx else before[-1].rpartition(":")[0]
    peer = "" if said.removesuffix(":") == "unix" else said
    if not said or not is_peer(peer):
        raise NoRequestError("the line does not begin with the client's address")
    method, target = (_plain(part, _NGINX_OCTET if nginx else _HAPROXY_OCTET) for part in match.groups())
    agent = quoted[2:3] if nginx and len(quoted) > 2 and quoted[2] != "-" else []
    return RequestText(method, target, [("User-Agent", _plain(each, _NGINX_OCTET)) for each in agent], peer)


def _plain(text: str, octet: re.Pattern[str]) -> str:
    """What was logged in an escaped form, as it came."""
    return octet.sub(lambda match: chr(int(match[1], 16)), text)
