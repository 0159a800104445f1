"""Lets a request wait until it is known whose its token is, before it gets its worker.

Comes between the dispatch and the relay. Knows nothing of how a user is found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sidecar.net.lessons import lesson_of
from sidecar.net.question import Question
from sidecar.net.selfcheck import SelfCheck
from sidecar.routing.keys import token_of
from sidecar.synapse.whoami import answers_whoami

if TYPE_CHECKING:
    from sidecar.net.whoami import Whoami
    from sidecar.wire.head import RequestHead

_GRACE = 1.0
"""Seconds after the deadline of a question, which tells those who wait; a second lock on the same door."""


class Resolving(SelfCheck):
    """The part of a course in which it becomes known who the caller is."""

    __slots__ = ()

    def place(self, head: RequestHead, forwarded: bytes, whoami: Whoami) -> None:
        """Let a request in, now or when its caller is known; `forwarded` are the lines that say who the client is."""
        decision = self.decision
        assert decision is not None
        if decision.opaque or decision.caller_at > 0 or head.method == b"POST":
            self.lesson = lesson_of(whoami, head, decision)
        if not (decision.opaque and len(decision.candidates) > 1 and self._waits(head, forwarded, whoami)):
            self.enter()

    def _waits(self, head: RequestHead, forwarded: bytes, whoami: Whoami) -> bool:
        """Decide by the user if that is known; true if the answer to a question is awaited."""
        path, _, query = head.origin.partition(b"?")
        token = token_of(query, head.fields)
        assert token
        found = whoami.find(token, self.client, head.fields, forwarded, ask=not answers_whoami(path))
        if isinstance(found, Question):
            self.waiting_for = found
            if self.join(found):
                found.join(self)
                self.expect("caller", whoami.settings.deadline + _GRACE)
                return True
            self.waiting_for = None
        elif found is not None:
            self._decide_for(found)
        return False

    def _decide_for(self, user: str) -> None:
        decision = self.decision
        assert decision is not None
        assert decision.of_user is not None
        self.decision = decision.of_user(user)

    def caller_known(self, user: str | None) -> None:
        """The answer to the question for which we waited; without one the token stays the key."""
        self.part()
        if user is not None:
            self._decide_for(user)
        self.enter()
        if self.upstream is not None:
            self.go_on()

    def deadline_passed(self) -> None:
        if self.deadline == "caller":
            assert isinstance(self.waiting_for, Question)
            self.waiting_for.leave(self)
            self.caller_known(None)
        else:
            super().deadline_passed()
