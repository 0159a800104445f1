"""What a proxy answers by itself: the operator's own responses, and refusals of closed paths."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from sidecar.config.schema import Route
from sidecar.exchange.replies import CORS, error_content

_JSON = "application/json"


@frozen
class FixedResponse:
    """A response with its content; `fields` are without Content-Type, and let pages of other origins read it."""

    status: int
    kind: str
    fields: Mapping[str, str]
    content: str


def response_of(route: Route) -> FixedResponse | None:
    """What a route answers with, unless it forwards, redirects or leaves the request to the table."""
    if route.respond is not None:
        given = {name: value for name, value in route.respond.headers.items() if name.lower() != "content-type"}
        kind = next((value for name, value in route.respond.headers.items() if name.lower() == "content-type"), _JSON)
        names = {name.lower() for name in given}
        cors = {name: value for name, value in CORS if name.lower() not in names}
        return FixedResponse(route.respond.status, kind, {**given, **cors}, route.respond.body)
    return None if route.refuse is None else refused(route.refuse, "this request is refused")


def refused(status: int, error: str) -> FixedResponse:
    """A refusal as a Matrix client expects it."""
    return FixedResponse(status, _JSON, dict(CORS), error_content(status, error))
