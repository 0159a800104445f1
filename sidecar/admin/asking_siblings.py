"""Asks the operator's listeners of the other instances: all at once, each within a time and a number of bytes.

Knows no operation: what one instance can be asked, all can. A sibling is never asked to ask its own siblings.
"""

from __future__ import annotations

import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

from attrs import define, evolve, field
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import ResponseFailed

from sidecar.admin.instances import BEHALF, INSTANCE, NONE, SIBLING, InstanceOutcome, judged
from sidecar.config.siblings import Sibling, SiblingRules
from sidecar.observe.telemetry import logger
from sidecar.upstream.asking import TooLongError, ask, questioned
from sidecar.upstream.connecting import describe
from sidecar.upstream.resolving import Names

_log = logger("sidecar.admin")

STATUS = "/api/status"
FRESH = 1.0
"""Seconds: a status that is not older is not asked for again."""
OUTDATED = 10.0
"""Seconds, and those that an answer may take: a status that is older is not shown. Nobody looked at any page since."""
PAUSE = 60.0
"""Seconds for which a sibling that answered 401 or 429, or a proxy before it, is not asked for its status: each wrong
password counts there, and with too many of them nobody else would be let in."""


@define(eq=False)
class _Heard:
    """What a sibling said last."""

    outcome: InstanceOutcome
    at: float
    rules: SiblingRules


@define(eq=False)
class Siblings:
    """The other instances."""

    reactor: Any
    names: Callable[[], Names]
    rules: Callable[[], SiblingRules]
    """Those of this moment."""
    identity: str = field(factory=lambda: secrets.token_hex(8))
    """No other instance has it: who gets a question of its own number has asked itself."""
    _heard: dict[Sibling, _Heard] = field(factory=dict, init=False)
    _asking: dict[Sibling, Deferred[None]] = field(factory=dict, init=False)
    """What those who want to know the same at the same time wait for."""

    async def tell(self, method: str, target: str, body: bytes, kind: str, behalf: str) -> list[InstanceOutcome]:
        """What all say to one request. `kind` is the media type of the body, `behalf` who wants it."""
        rules = self.rules()
        fields = {BEHALF: _printable(behalf)} | ({"Content-Type": kind} if kind else {})
        asked = [Deferred.fromCoroutine(self._ask(each, rules, method, target, body, fields)) for each in rules.others]
        found: list[InstanceOutcome] = await gatherResults(asked)
        return found

    async def statuses(self) -> list[InstanceOutcome]:
        """How all are, asked now unless that was a moment ago."""
        await gatherResults([self._refresh(each) for each in self.rules().others])
        return self.latest()

    def latest(self) -> list[InstanceOutcome]:
        """What is known of each, without waiting; what is not fresh is asked for, to be known later."""
        others = self.rules().others
        for sibling in [each for each in self._heard if each not in others]:
            del self._heard[sibling]
        for each in others:
            self._refresh(each)
        return [self._known(each) for each in others]

    def _known(self, sibling: Sibling) -> InstanceOutcome:
        heard = self._heard.get(sibling)
        if heard is None or self._is_outdated(sibling, heard):
            return InstanceOutcome(sibling=sibling, why="it has not answered yet")
        return evolve(heard.outcome, ago=self.reactor.seconds() - heard.at)

    def _is_outdated(self, sibling: Sibling, heard: _Heard) -> bool:
        """Whether nobody has asked for so long that it says nothing about now."""
        return self._is_old(sibling) and self.reactor.seconds() - heard.at > OUTDATED + self.rules().seconds

    def _refresh(self, sibling: Sibling) -> Deferred[None]:
        """Fires when what is known is fresh."""
        done: Deferred[None] = Deferred()
        if not self._is_old(sibling):
            done.callback(None)
        elif sibling in self._asking:
            self._asking[sibling].addCallback(done.callback)
        else:
            self._asking[sibling] = Deferred()
            self._asking[sibling].addCallback(done.callback)
            Deferred.fromCoroutine(self._learn(sibling))
        return done

    def _is_old(self, sibling: Sibling) -> bool:
        heard = self._heard.get(sibling)
        if heard is None:
            return True
        refused = heard.outcome.turned_away and heard.rules == self.rules()
        return bool(self.reactor.seconds() - heard.at >= (PAUSE if refused else FRESH))

    async def _learn(self, sibling: Sibling) -> None:
        rules = self.rules()
        try:
            outcome = await self._ask(sibling, rules, "GET", STATUS, b"", {})
            if outcome.turned_away:
                pause = f"it is asked again after {PAUSE:g} s, because each refused password counts there"
                outcome = evolve(outcome, why=f"{outcome.why}; {pause}")
            before = self._heard.get(sibling)
            self._heard[sibling] = _Heard(outcome, self.reactor.seconds(), rules)
            if before is None or before.outcome.why != outcome.why:
                _say(outcome)
        finally:
            self._asking.pop(sibling).callback(None)

    async def _ask(
        self, sibling: Sibling, rules: SiblingRules, method: str, target: str, body: bytes, fields: Mapping[str, str]
    ) -> InstanceOutcome:
        every = {"Accept": "application/json", SIBLING: self.identity, **_credentials(rules), **fields}
        try:
            endpoint = self._endpoint(sibling.endpoint)
            answer = await ask(
                self.reactor, endpoint, target, every, rules.seconds, method=method, body=body, most=rules.most
            )
        except Exception as error:
            return InstanceOutcome(sibling=sibling, why=_why(error, rules))
        return judged(sibling, answer.status, answer.get(INSTANCE), answer.content, rules.user)

    def _endpoint(self, description: str) -> IStreamClientEndpoint:
        if not description.startswith("tls:"):
            return questioned(self.reactor, self.names(), description)
        endpoint: IStreamClientEndpoint = clientFromString(self.reactor, description)
        return endpoint


def _say(outcome: InstanceOutcome) -> None:
    name = outcome.sibling.name
    if outcome.done:
        _log.info("the instance {name} answers", name=name)
    else:
        _log.warn("the instance {name} does not report its state: {why}", name=name, why=outcome.why)


def _credentials(rules: SiblingRules) -> dict[str, str]:
    if rules.password is None:
        return {}
    return {"Authorization": f"Basic {b64encode(rules.user.encode() + b':' + rules.password).decode('ascii')}"}


def _why(error: Exception, rules: SiblingRules) -> str:
    """Why there is no answer: the end of a sentence."""
    if isinstance(error, DeferredTimeoutError):
        return f"no answer within {rules.seconds:g} s (`operator.sibling_timeout`)"
    if isinstance(error, TooLongError):
        return f"its answer has more than {rules.most} bytes (`operator.sibling_answer`)"
    if isinstance(error, ResponseFailed):
        reasons = ", ".join(dict.fromkeys(describe(each.value) for each in error.reasons))
        return f"{NONE}, or it closed the connection ({reasons[:200]})"
    return describe(error)[:300]


def _printable(text: str) -> str:
    """What can stand in a field."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)[:200]
