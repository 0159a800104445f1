"""A request as a person pastes it, explained: for the box of the status page. Knows no HTML.

Either the head of a request (`GET /path`, and field lines below it), or one line of what `explain --from` takes.
"""

from __future__ import annotations

import re

from sidecar.admin.explained import Explained
from sidecar.explaining.rehearsal import RequestText, is_peer
from sidecar.explaining.request_lines import NoRequestError, read_line
from sidecar.explaining.story import tell
from sidecar.loading.deployment import Deployment

_FIRST = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]+(\S+)(?:[ \t]+HTTP/\d(?:\.\d)?)?", re.ASCII)


def asked_in(text: str, peer: str) -> RequestText:
    """The request in a text; `peer` is where it comes from if it does not say so. Raises NoRequestError."""
    if not is_peer(peer):
        raise NoRequestError("where it comes from must be an IP address, or empty for a UNIX socket")
    first, *rest = [line.rstrip("\r") for line in text.strip().split("\n")]
    match = _FIRST.fullmatch(first.strip())
    if match is not None:
        return RequestText(match[1], match[2], [_field(line) for line in _until_blank(rest)], peer)
    if any(line.strip() for line in rest):
        raise NoRequestError(
            "the first line must be a method and a request-target, as in `GET /_matrix/client/versions`"
        )
    return read_line(first.encode("utf-8", "surrogatepass"), peer)


def _until_blank(lines: list[str]) -> list[str]:
    blank = next((number for number, line in enumerate(lines) if not line.strip()), len(lines))
    return lines[:blank]


def _field(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon:
        raise NoRequestError("each line below the first must be a field line `Name: value`; one has no colon")
    return name, value.strip(" \t")


def explained(deployment: Deployment, text: str, peer: str) -> Explained:
    """What would happen to the request in `text`. Raises NoRequestError, which says why it holds none."""
    asked = asked_in(text, peer)
    story = tell(deployment, asked)
    decision = story.decision
    return Explained(
        title=story.title,
        steps=story.steps,
        outcome=story.outcome,
        forwarded=story.forwarded,
        order=(*decision.candidates, *decision.fallback),
        keyless=decision.keyless,
        others=story.others,
        facts=story.as_json(),
    )
