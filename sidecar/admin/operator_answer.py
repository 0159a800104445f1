"""A request to the operator's listener and its answer, as values. Knows nothing of Twisted, nor of what is asked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

from attrs import Factory, evolve, field, frozen

FILE = "file"
"""In place of a value: the one of the configuration file."""


@frozen(kw_only=True)
class Inquiry:
    """What is asked, by whom."""

    method: str
    path: str
    """As received, without the query."""
    parts: tuple[str, ...] = field(default=Factory(lambda self: _parts(self.path), takes_self=True), init=False)
    """Between the slashes of the path, and decoded: what every guard and every router goes by."""
    query: str = ""
    peer: str = ""
    """The address of the other end; empty on a UNIX socket."""
    local: str = ""
    """On a UNIX socket: the user of the process at the other end, if the kernel reports it."""
    user: str = ""
    """The name of who has shown a password; empty where none is asked for."""
    secure: bool = False
    """It came by TLS."""
    fields: Mapping[str, str] = field(factory=dict, repr=False)
    """Values by lower-case names; of a repeated one the last."""
    body: bytes = field(default=b"", repr=False)

    @property
    def who(self) -> str:
        """Who asks, for the log and the list of events; where a sibling does, for whom."""
        place = self.peer or f"{self.local or 'somebody'} on the UNIX socket"
        asker = f"{self.user} from {place}" if self.user else place
        behalf = self.fields.get("matrix-sidecar-for", "")
        if not behalf:
            return asker
        plain = "".join(letter for letter in behalf[:200] if " " <= letter <= "~")
        return f"{plain}, through another instance ({asker})"


def _parts(path: str) -> tuple[str, ...]:
    return tuple(unquote(part) for part in path.split("/")[1:])


@frozen
class OperatorAnswer:
    """A status and what is made JSON, or octets of the media type `kind`."""

    status: int
    content: dict[str, Any] | list[Any] | bytes
    allow: str = ""
    kind: str = "application/json"
    fields: tuple[tuple[str, str], ...] = ()
    """Further field lines."""

    def octets(self) -> bytes:
        """The content as it is sent."""
        content = self.content
        return content if isinstance(content, bytes) else json.dumps(content, indent=1).encode() + b"\n"


def only(allowed: str, method: str, act: Callable[[], OperatorAnswer]) -> OperatorAnswer:
    """What `act` answers, where the method is the one that is `allowed`; HEAD is whenever GET is."""
    if method == allowed or (allowed == "GET" and method == "HEAD"):
        return act()
    methods = "GET, HEAD" if allowed == "GET" else allowed
    return OperatorAnswer(405, {"error": f"This takes {allowed}, not {method}."}, methods)


def with_remark(answer: OperatorAnswer, sentence: str) -> OperatorAnswer:
    """The answer, with one more sentence in its text for people, if there is one."""
    content = answer.content
    if not sentence or not isinstance(content, dict) or "told" not in content:
        return answer
    return evolve(answer, content={**content, "told": f"{content['told']} {sentence}"})
