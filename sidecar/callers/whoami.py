"""Finds the users of tokens that do not name them: remembered, learnt from answers, or asked for.

A question goes to one of the workers that serve it, in turn, with the client's address. It is asked once, however many
requests have the token. No request waits for it longer than `tokens.deadline`, and while questions fail none waits at
all. The result is used for routing only. Knows no exchange, and logs no token.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from ipaddress import ip_address

from attrs import define, field, frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from sidecar.callers.question import Question
from sidecar.config.schema import Tokens
from sidecar.observe.telemetry import Counters, logger
from sidecar.records.histogram import Histogram
from sidecar.routing.decide import decide
from sidecar.routing.keys import Callers
from sidecar.routing.plan import Plan
from sidecar.synapse.backoff import Backoff
from sidecar.synapse.owners import TokenOwners
from sidecar.synapse.token_owner import TARGET, TokenOwner, is_askable, question, told_by_whoami
from sidecar.upstream.pool import WorkerPool
from sidecar.wire.fields import FieldSection

_log = logger("sidecar.tokens")

_REFUSED = (400, 401, 403)
"""Statuses that say something about the token, and not about the state of Synapse."""
_EVERYBODY = ""


@frozen
class Askable:
    """Which workers a plan lets us ask, and which tokens not to ask for."""

    workers: tuple[str, ...]
    callers: Callers
    """Reads the credentials of requests."""


def askable(plan: Plan) -> Askable | None:
    """Who answers whoami under `plan`; None if nobody does, or if it is switched off."""
    if not plan.resolving:
        return None
    workers = decide(b"GET", TARGET, FieldSection(b"\r\n\r\n"), "", plan).candidates
    return Askable(tuple(sorted(workers)), plan.callers) if workers else None


def _doubts() -> Backoff:
    """For addresses that send unknown tokens. Up to five in a row may be a client that was offline; more is
    guessing."""
    return Backoff(allowed=5, first=1.0, longest=60.0, names=4096)


def _health() -> Backoff:
    """For questions that fail altogether."""
    return Backoff(allowed=5, first=1.0, longest=30.0, names=1)


def neighbourhood(client: str) -> str:
    """What counts as one client: an IPv4 address, or the first half of an IPv6 one."""
    try:
        address = ip_address(client)
    except ValueError:
        return client
    return client if address.version == 4 else address.packed[:8].hex()


@define(eq=False, kw_only=True)
class Whoami:
    """Remembers and asks. `use` changes everything but what is remembered."""

    owners: TokenOwners
    clock: IReactorTime
    counters: Counters
    settings: Tokens
    askable: Askable
    pools: Mapping[str, WorkerPool]
    waits: Histogram = field(factory=Histogram, init=False)
    """How long requests waited for answers."""
    _asking: dict[bytes, Question] = field(factory=dict, init=False)
    _calls: dict[Question, IDelayedCall] = field(factory=dict, init=False)
    _turn: int = field(default=0, init=False)
    _doubts: Backoff = field(factory=_doubts, init=False)
    _health: Backoff = field(factory=_health, init=False)

    @property
    def callers(self) -> Callers:
        return self.askable.callers

    def use(self, settings: Tokens, askable: Askable, pools: Mapping[str, WorkerPool]) -> None:
        """Work with these from the next question on."""
        self.settings, self.askable, self.pools = settings, askable, pools
        self.owners.use(
            lifetime=settings.lifetime, stale=settings.stale, refused=settings.refused, limit=settings.remembered
        )

    def close(self) -> None:
        """Give up all questions, and forget everything."""
        self.askable = Askable((), self.callers)
        for asked in tuple(self._asking.values()):
            asked.end()
        self.owners.forget()

    @property
    def asking(self) -> int:
        """Questions under way."""
        return len(self._asking)

    def find(
        self, token: bytes, client: str, fields: FieldSection, forwarded: bytes, *, ask: bool = True
    ) -> str | Question | None:
        """Whose `token` is: a localpart, a question to wait for, or None if nobody knows.

        `fields` and `forwarded` (whole lines) are those of the request, and go into the question; without `ask` there
        is none.
        """
        now = self.clock.seconds()
        mark = self.owners.mark(token)
        user, due = self.owners.look(mark, now)
        if user is not None:
            self.counters.tokens_known += 1
        if not (due and ask):
            return user
        asked = self._asking.get(mark)
        if asked is None:
            asked = self._ask(mark, token, client, fields, forwarded)
        return user if user is not None or asked is None or asked.late else asked

    def knows(self, mark: bytes) -> bool:
        """Whether the user of this token is known, and need not be learnt again."""
        user, due = self.owners.look(mark, self.clock.seconds())
        return user is not None and not due

    def learn(self, mark: bytes, told: TokenOwner) -> None:
        """Remember what an answer of Synapse has said."""
        self.counters.tokens_learned += 1
        self.owners.learn(mark, told.user, self.clock.seconds(), told.left)

    def _ask(self, mark: bytes, token: bytes, client: str, fields: FieldSection, forwarded: bytes) -> Question | None:
        now = self.clock.seconds()
        source = neighbourhood(client)
        if (
            len(self._asking) >= self.settings.asking
            or self._health.rests(_EVERYBODY, now)
            or self._doubts.rests(source, now)
            or not is_askable(token)
        ):
            self.counters.tokens_unasked += 1
            return None
        request = question(token, fields.get(b"host") or b"localhost", fields.get(b"user-agent"), forwarded)
        wait = min(self.settings.deadline, self.settings.patience)
        late = not wait or self._health.failing(_EVERYBODY)
        asked = self._asking[mark] = Question(self, mark, source, request, self.settings.answer, late=late)
        self.counters.tokens_asked += 1
        self._calls[asked] = self.clock.callLater(wait, self._overdue, asked, self.settings.patience - wait)
        asked.begin()
        return None if asked.ended else asked

    def _overdue(self, asked: Question, left: float) -> None:
        """The deadline has passed: release those who wait. The answer is still useful for later requests."""
        self._calls[asked] = self.clock.callLater(max(0.0, left), self._give_up, asked)
        self.counters.tokens_late += asked.tell(None)

    def _give_up(self, asked: Question) -> None:
        asked.end()

    # Called by a question.

    def next_pool(self) -> WorkerPool | None:
        """The next worker in turn that takes requests."""
        names = self.askable.workers
        for _ in names:
            self._turn += 1
            pool = self.pools[names[self._turn % len(names)]]
            if not (pool.down or pool.draining):
                return pool
        return None

    def heard(self, question: Question, status: int, content: bytes) -> None:
        """Remember what the answer says, and release those who wait."""
        del self._asking[question.mark]
        call = self._calls.pop(question)
        if call.active():
            call.cancel()
        now = self.clock.seconds()
        told = told_by_whoami(status, content)
        if told is not None:
            self._answered()
            self._doubts.succeeded(question.source)
            self.owners.learn(question.mark, told.user, now)
        elif status in _REFUSED:
            self.counters.tokens_refused += 1
            self._answered()
            self._doubts.failed(question.source, now)
            self.owners.refuse(question.mark, now)
        else:
            self.counters.tokens_failed += 1
            self._failed(now)
            self.owners.put_off(question.mark, now)
        question.tell(None if told is None else told.user)

    def _answered(self) -> None:
        if self._health.failing(_EVERYBODY):
            _log.info("whoami is answered again; users are placed by name")
        self._health.succeeded(_EVERYBODY)

    def _failed(self, now: float) -> None:
        before = self._health.failing(_EVERYBODY)
        self._health.failed(_EVERYBODY, now)
        if self._health.failing(_EVERYBODY) and not before:
            _log.warn("whoami is not answered; users whose tokens do not name them are placed by token for now")


def continued(
    before: Whoami | None,
    askable: Askable | None,
    settings: Tokens,
    pools: Mapping[str, WorkerPool],
    clock: IReactorTime,
    counters: Counters,
) -> Whoami | None:
    """The Whoami after a start or a reload, which keeps what the one before has remembered; None if nobody is asked."""
    if askable is None:
        if before is not None:
            before.close()
        return None
    if before is not None:
        before.use(settings, askable, pools)
        return before
    owners = TokenOwners(
        key=secrets.token_bytes(32),
        limit=settings.remembered,
        lifetime=settings.lifetime,
        stale=settings.stale,
        refused=settings.refused,
    )
    return Whoami(owners=owners, clock=clock, counters=counters, settings=settings, askable=askable, pools=pools)
