"""Replies that the sidecar authors itself, as octets: Matrix JSON, CORS, Content-Length.

Knows which status says what; does not know why one is sent, nor to whom.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus

from sidecar.config.schema import Sorry
from sidecar.errors import Fault
from sidecar.exchange.failures import Failure

_METHODS = "GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"

USUAL = "X-Request-ID"
"""The field that reverse proxies use, and in which our own replies tell it."""

# What browsers need to see an error of another origin. Synapse's http/server.py names fewer headers; a page whose own
# header is not allowed would never see why it was refused. The asterisk covers all but Authorization.
CORS = (
    ("Access-Control-Allow-Origin", "*"),
    ("Access-Control-Allow-Methods", _METHODS),
    ("Access-Control-Allow-Headers", "X-Requested-With, Content-Type, Authorization, Date, *"),
)

# Status and Matrix errcode of each refusal (client-server API, "Standard error response").
_ERRCODES = {
    403: "M_FORBIDDEN",
    404: "M_UNRECOGNIZED",
    405: "M_UNRECOGNIZED",
    413: "M_TOO_LARGE",
    414: "M_TOO_LARGE",
    417: "M_UNRECOGNIZED",
    429: "M_LIMIT_EXCEEDED",
    431: "M_TOO_LARGE",
    501: "M_UNRECOGNIZED",
    505: "M_UNRECOGNIZED",
}

STATUS_OF_FAULT = {
    Fault.SYNTAX: 400,
    Fault.FRAMING: 400,
    Fault.VERSION: 505,
    Fault.METHOD: 405,
    Fault.TARGET_TOO_LONG: 414,
    Fault.HEAD_TOO_LARGE: 431,
    Fault.CODING: 501,
    Fault.EXPECTATION: 417,
}
"""What a client is told of a request that is none; the only place where faults meet statuses."""

RETRY_AFTER = 2
"""Seconds after which a client may try again what a restarting worker could not answer."""

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
}


def response(
    status: int, fields: Iterable[tuple[str, str]], content: bytes, *, close: bool, head: bool = False
) -> bytes:
    """A whole response; `head`: its content is left out, as an answer to HEAD (RFC 9110 9.3.2).

    A 204 or 304 has no content, whatever is given.
    """
    bodiless = status in (204, 304)
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, '')}"]
    lines += [f"{name}: {value}" for name, value in fields]
    if not bodiless:
        lines.append(f"Content-Length: {len(content)}")
    if close:
        lines.append("Connection: close")
    octets = "\r\n".join([*lines, "\r\n"]).encode("latin-1")
    return octets if head or bodiless else octets + content


def authored(
    status: int, fields: Iterable[tuple[str, str]], content: bytes, *, close: bool, head: bool = False
) -> bytes:
    """A response that the operator wrote into a route: readable across origins, as far as it does not say otherwise."""
    given = tuple(fields)
    names = {name.lower() for name, _ in given}
    cors = [(name, value) for name, value in CORS if name.lower() not in names]
    return response(status, (*given, *cors), content, close=close, head=head)


def status_of(failure: Failure, *, federation: bool, preflight: bool = False) -> int:
    """The status of a failure. Another server is never told that it asks too much: it would stay away for long.

    A preflight never fails: the page shall read what becomes of the request itself.
    """
    if preflight:
        return 204
    status = failure.status
    assert status is not None
    return 503 if federation and status == 429 else status


def failure_reply(
    failure: Failure,
    *,
    head: bool,
    federation: bool = False,
    preflight: bool = False,
    page: Sorry | None = None,
    request_id: str = "",
) -> bytes:
    """What a client, or another server (`federation`), is told of `failure`; the connection closes after it.

    `page` is shown instead where it is no fault of the client's.
    """
    status = status_of(failure, federation=federation, preflight=preflight)
    if preflight:
        return response(status, CORS, b"", close=True)
    if page is None or not failure.in_vain:
        return refusal(status, failure.reason, head=head, request_id=request_id)
    fields = [("Content-Type", page.type), ("Cache-Control", "no-store"), ("Retry-After", str(RETRY_AFTER))]
    if request_id:
        fields.append((USUAL, request_id))
    return response(status, fields, page.body.encode(), close=True, head=head)


def error_content(status: int, error: str, **more: int) -> str:
    """The JSON of a Matrix error with the errcode for `status` (client-server API, "Standard error response")."""
    return json.dumps({"errcode": _ERRCODES.get(status, "M_UNKNOWN"), "error": error, **more})


def refusal(
    status: int,
    error: str,
    *,
    close: bool = True,
    head: bool = False,
    retry_after: int | None = None,
    request_id: str = "",
) -> bytes:
    """A refusal as a Matrix client expects it: `errcode` and `error` in JSON, readable across origins.

    `retry_after` is in seconds (RFC 9110 10.2.3); a 429 and a 503 have one in any case. `request_id` is what a log
    calls the request; empty: nothing.
    """
    if retry_after is None and status in (429, 503):
        retry_after = RETRY_AFTER
    # Matrix: "Rate limiting"
    more = {"retry_after_ms": 1000 * (retry_after or 0)} if status == 429 else {}
    content = error_content(status, error, **more).encode()
    fields = [("Content-Type", "application/json"), *CORS]
    if status == 405:
        fields.append(("Allow", _METHODS))
    if retry_after is not None:
        fields.append(("Retry-After", str(retry_after)))
    if request_id:
        fields.append((USUAL, request_id))
    return response(status, fields, content, close=close, head=head)
