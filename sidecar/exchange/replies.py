"""Replies that the sidecar makes itself, as bytes: Matrix JSON, CORS, Content-Length.

Knows what each status means; does not know why one is sent, nor to whom.
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
"""The usual field of reverse proxies; our own replies have it, too."""

# What browsers need to show a page an error of another origin. Synapse's http/server.py allows fewer headers; a page
# with a header of its own would never see why it was refused. The asterisk covers all but Authorization.
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
"""The status for each fault of a malformed request."""

RETRY_AFTER = 2
"""Retry-After, in seconds, while a worker restarts."""

_REASONS = {status.value: status.phrase for status in HTTPStatus} | {
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    431: "Request Header Fields Too Large",
}


def response(
    status: int, fields: Iterable[tuple[str, str]], content: bytes, *, close: bool, head: bool = False
) -> bytes:
    """A whole response; `head`: it answers HEAD, so its content is left out (RFC 9110 9.3.2).

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
    """A response written in a route. CORS fields are added unless it has its own."""
    given = tuple(fields)
    names = {name.lower() for name, _ in given}
    cors = [(name, value) for name, value in CORS if name.lower() not in names]
    return response(status, (*given, *cors), content, close=close, head=head)


def status_of(failure: Failure, *, federation: bool, preflight: bool = False) -> int:
    """The status of a failure. Other servers get 503 instead of 429, because after 429 they stay away for long.

    A preflight never fails, so that the page can read the reply to the request itself.
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

    `page` is sent instead if it is not the client's fault.
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

    `retry_after` is in seconds (RFC 9110 10.2.3); a 429 and a 503 always have one. `request_id` is empty if the request
    has none.
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
