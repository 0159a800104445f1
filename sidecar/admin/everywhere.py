"""What one instance is asked for all of them: how they are, and operations, each with one outcome for every instance.

Knows no operation. This instance answers by itself whatever does not say `all`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qsl, urlencode

from attrs import define, evolve, field
from twisted.internet.defer import Deferred

from sidecar import __version__
from sidecar.admin.asking_siblings import Siblings
from sidecar.admin.instances import INSTANCE, SIBLING, done_everywhere, each_once, of_own, told_by
from sidecar.admin.operator_answer import Inquiry, OperatorAnswer

ALL = "all"
"""The parameter that addresses all instances."""
LATEST = "latest"
"""Its value for an answer without waiting: the last known status of each."""


@define(eq=False)
class Everywhere:
    """Answers for all instances."""

    siblings: Siblings
    own: Callable[[Inquiry], Coroutine[Any, Any, OperatorAnswer]]
    """What this instance answers."""
    facts: Callable[[], dict[str, Any]]
    """How this instance is."""
    version: str = field(default=__version__)

    async def answer(self, inquiry: Inquiry) -> OperatorAnswer:
        """The answer of this instance, or of all."""
        asker = inquiry.fields.get(SIBLING.lower())
        if asker == self.siblings.identity:
            return OperatorAnswer(200, {"self": True})
        wanted = dict(parse_qsl(inquiry.query, keep_blank_values=True)).get(ALL)
        if asker is None and wanted is not None and inquiry.parts[:1] == ("api",):
            if inquiry.method == "POST":
                return await self._operate(inquiry)
            if inquiry.parts == ("api", "status") and inquiry.method in ("GET", "HEAD"):
                return await self._status(wait=wanted != LATEST)
        return await self.own(inquiry)

    def signed(self, inquiry: Inquiry, answer: OperatorAnswer) -> OperatorAnswer:
        """The answer, refusals too, with the number of this instance where a sibling has asked."""
        if SIBLING.lower() not in inquiry.fields:
            return answer
        return evolve(answer, fields=(*answer.fields, (INSTANCE, self.siblings.identity)))

    def latest(self) -> list[dict[str, Any]]:
        """How all instances are, as far as it is known; this one first."""
        outcomes = each_once(self.siblings.latest(), self.siblings.identity)
        own = of_own(self.siblings.rules().own, OperatorAnswer(200, self.facts()))
        return [told_by(each, self.version) for each in (own, *outcomes)]

    def picture(self) -> dict[str, Any]:
        """What the status page shows: of all instances, or of this one if there are no others."""
        if not self.siblings.rules().others:
            return self.facts()
        return {"instances": self.latest()}

    async def _status(self, *, wait: bool) -> OperatorAnswer:
        if wait:
            await self.siblings.statuses()
        return OperatorAnswer(200, {"version": self.version, "instances": self.latest()})

    async def _operate(self, inquiry: Inquiry) -> OperatorAnswer:
        """The same operation on all; here at once, so that it does not wait for the others."""
        here = evolve(inquiry, query=_without_all(inquiry.query))
        done = Deferred.fromCoroutine(self.own(here))
        target = here.path + (f"?{here.query}" if here.query else "")
        kind = inquiry.fields.get("content-type", "")
        others = await self.siblings.tell(inquiry.method, target, inquiry.body, kind, inquiry.who)
        own = of_own(self.siblings.rules().own, await done)
        return done_everywhere([own, *each_once(others, self.siblings.identity)])


def _without_all(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([(name, value) for name, value in pairs if name != ALL])
