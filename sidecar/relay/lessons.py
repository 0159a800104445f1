"""What answers say about whose a token is. They are neither delayed nor changed.

A lesson sees the events of one answer as they pass, and is learnt when the exchange has ended. It keeps a bounded copy
if the content matters, and of the request only the digest of its token. Knows no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from attrs import define, field

from sidecar.callers.whoami import Whoami
from sidecar.errors import WireError
from sidecar.routing.decision import Decision
from sidecar.synapse.identifiers import decode_segment, localpart
from sidecar.synapse.senders import user_of_token
from sidecar.synapse.token_owner import (
    TokenOwner,
    answers_login,
    answers_whoami,
    masquerades,
    told_by_login,
    told_by_whoami,
)
from sidecar.wire.framing import CHUNKED
from sidecar.wire.head import RequestHead, ResponseHead
from sidecar.wire.reader import ReaderLimits, ResponseEvent


class Lesson(Protocol):
    """Something to learn from the answer of one exchange."""

    def hear(self, events: Sequence[ResponseEvent]) -> None:
        """These events of the answer pass; a second head begins another answer."""

    def learn(self) -> None:
        """The exchange has ended, however it did."""


@define(eq=False, slots=True)
class Proof:
    """The path names the caller, as Synapse confirms by answering with success."""

    whoami: Whoami = field(repr=False)
    mark: bytes
    user: str
    confirmed: bool = False

    def hear(self, events: Sequence[ResponseEvent]) -> None:
        for event in events:
            if isinstance(event, ResponseHead):
                self.confirmed = 200 <= event.status < 300

    def learn(self) -> None:
        if self.confirmed:
            self.whoami.learn(self.mark, TokenOwner(self.user))


@define(eq=False, slots=True)
class Overheard:
    """The content of the answer names the user, and perhaps the token."""

    whoami: Whoami = field(repr=False)
    mark: bytes | None
    """Digest of the request's token; None: the token is in the answer."""
    tells: Callable[[int, bytes], TokenOwner | None]
    decoded: bool
    """The content comes without chunks."""
    limit: int
    """The most bytes that are kept; a longer answer is not read."""
    head: ResponseHead | None = None
    complete: bool = False
    octets: list[bytes] = field(factory=list, repr=False)
    kept: int = 0

    def hear(self, events: Sequence[ResponseEvent]) -> None:
        for event in events:
            if isinstance(event, bytes):
                self.kept += len(event)
                if self.kept <= self.limit:
                    self.octets.append(event)
            elif isinstance(event, ResponseHead):
                self.head, self.octets, self.kept = event, [], 0
            else:
                self.complete = True

    def learn(self) -> None:
        head = self.head
        if head is None or not self.complete or self.kept > self.limit:
            return
        content = b"".join(self.octets)
        if head.length == CHUNKED and not self.decoded:
            content = _without_chunks(content)
        told = self.tells(head.status, content)
        if told is None:
            return
        if self.mark is not None:
            self.whoami.learn(self.mark, told)
        elif told.token is not None and user_of_token(told.token) is None:
            self.whoami.learn(self.whoami.owners.mark(told.token), told)


def _without_chunks(content: bytes) -> bytes:
    delimiter = ReaderLimits().chunked(decoded=True)
    try:
        return delimiter.feed(content)
    except WireError:
        return b""


def lesson_of(whoami: Whoami, head: RequestHead, decision: Decision) -> Lesson | None:
    """What the answer to this request may say about its user; None for nearly all requests."""
    path, _, query = head.origin.partition(b"?")
    if head.method == b"POST" and answers_login(path):
        return Overheard(whoami, None, told_by_login, not head.http11, whoami.settings.answer)
    in_content = head.method == b"GET" and decision.opaque and answers_whoami(path)
    if (decision.caller_at < 0 and not in_content) or masquerades(query):
        return None
    token = whoami.callers.opaque_token(query, head.fields)
    if token is None:
        return None
    mark = whoami.owners.mark(token)
    if in_content:
        return Overheard(whoami, mark, told_by_whoami, not head.http11, whoami.settings.answer)
    user = localpart(decode_segment(path.split(b"/")[decision.caller_at]))
    return None if user is None or whoami.knows(mark) else Proof(whoami, mark, user)
