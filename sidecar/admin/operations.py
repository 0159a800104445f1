"""What the operator can ask and do, by its path.

Knows the data path only by `sidecar.metrics.status` and a pool's drain.

Nothing here asks who it is that asks; that is decided before.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import parse_qs

from attrs import define, field

from sidecar.admin.operator_answer import FILE, Inquiry, OperatorAnswer, only
from sidecar.admin.own import OwnUse
from sidecar.admin.recent import Recent
from sidecar.config.amounts import read_duration
from sidecar.errors import unknown_name
from sidecar.history.events import Events
from sidecar.history.hottest import Hottest
from sidecar.loading.overriding import RefusedValueError
from sidecar.metrics.status import View, state, status, unready
from sidecar.observe.telemetry import logger
from sidecar.routing.maintenance import DEFAULT_RETRY, DEFAULT_TEXT, LONGEST_RETRY, LONGEST_TEXT, Maintenance
from sidecar.routing.overrides import Adjustable
from sidecar.upstream.pool import WorkerPool

_log = logger("sidecar.admin")

POINTS = 60
"""Points of a curve by default."""
MOST_POINTS = 1000
HOTTEST = 5
"""Keys of each kind in the status."""
MOST_ASKED = 20
"""Names that are looked for with one request."""


@define(eq=False)
class Operations:
    """What can be asked, by its path. `look` gives what runs at this moment."""

    look: Callable[[], View]
    events: Events
    hottest: Hottest
    adjust: Callable[[str, Adjustable, float | None, str], None]
    """Gives a worker another weight or maximum, or again the file's (None). Raises RefusedValueError."""
    recent: Recent = field(factory=Recent)
    own: OwnUse = field(factory=OwnUse)
    maintain: Callable[[Maintenance | None], None] = lambda _: None
    """Begins or ends maintenance mode."""
    actions: Callable[[], str] = lambda: "api"
    """`operator.actions` of this moment."""
    move_polls: Callable[[str], int] = lambda _: 0
    """Lets the long polls of a drained worker go on elsewhere; how many it has."""
    host: str = field(factory=socket.gethostname)
    _turned: dict[str, float] = field(factory=dict, init=False)
    """When workers were drained last, or that was ended: the uptime of that moment."""

    def facts(self) -> dict[str, Any]:
        """What runs at this moment, and what happened in the last minute."""
        view = self.look()
        told = status(view)
        for name, worker in told["workers"].items():
            worker["recent"] = self.recent.worker(name)
            if name in self._turned:
                worker["changed"] = min(worker["changed"], round(view.uptime - self._turned[name], 3))
        for name, pool in told["pools"].items():
            pool["recent"] = self.recent.minute(("pool", name))
        for each in told.get("misroutes", ()):
            each["ago"] = self.recent.misrouted(each["endpoint"], each["worker"])
        return {
            **told,
            "host": self.host,
            "reasons": unready(view),
            "actions": self.actions(),
            "events": self.events.told(time.time() - self.events.now()),
            "recent": self.recent.whole(),
            "hottest": self.hottest.told(self.events.now(), HOTTEST),
            "hour": self.recent.hour.whole(POINTS),
            "busiest": self.recent.endpoints(),
            "process": {**self.own.told(), "connections_limit": view.ceiling},
        }

    def answer(self, inquiry: Inquiry) -> OperatorAnswer:
        """The answer to a request whose origin is not in doubt."""
        method = inquiry.method
        match inquiry.parts:
            case ["health"]:
                return only("GET", method, self._health)
            case ["ready"]:
                return only("GET", method, lambda: self._ready(inquiry.query))
            case ["api", "status"]:
                return only("GET", method, lambda: OperatorAnswer(200, self.facts()))
            case ["api", "hottest"]:
                return only("GET", method, lambda: self._hottest(inquiry.query))
            case ["api", "history"]:
                return only("GET", method, lambda: self._history(inquiry.query))
            case ["api", "workers", name, "drain" | "undrain" as action]:
                move = parse_qs(inquiry.query).get("polls", []) == ["move"]
                return only("POST", method, lambda: self.drain(name, action == "drain", inquiry.who, move=move))
            case ["api", "workers", name, "check"]:
                return only("POST", method, lambda: self._check(name))
            case ["api", "workers", name, "weight" | "maximum" as what]:
                return only("POST", method, lambda: self._adjusted(name, Adjustable(what), inquiry))
            case ["api", "maintenance", "on" | "off" as action]:
                return only("POST", method, lambda: self._maintained(action == "on", inquiry))
            case ["api", "balancers", name, server, "drain" | "undrain" as action]:
                return only("POST", method, lambda: self.drain_server(name, server, action == "drain", inquiry.who))
        return OperatorAnswer(404, {"error": "There is nothing here; see /, /health, /ready and /api/status."})

    def _health(self) -> OperatorAnswer:
        return OperatorAnswer(200, {"healthy": True})

    def _ready(self, query: str) -> OperatorAnswer:
        """Whether all pools, or those that `pool` names, have a worker that is up."""
        view = self.look()
        asked = parse_qs(query, keep_blank_values=True).get("pool", [])
        for name in asked:
            if name not in view.plan.pools:
                return OperatorAnswer(404, {"error": unknown_name("pool", name, view.plan.pools)})
        reasons = unready(view, asked)
        return OperatorAnswer(503 if reasons else 200, {"ready": not reasons, "reasons": reasons})

    def _hottest(self, query: str) -> OperatorAnswer:
        """The hottest keys, and where somebody who is named stands among them. No name is kept or logged."""
        if not self.hottest.room:
            return OperatorAnswer(404, {"error": "Nothing is counted, because `operator.hottest` is 0."})
        self.look().gateway.notes.tell()
        asked, now = parse_qs(query).get("is", [])[:MOST_ASKED], self.events.now()
        told = self.hottest.told(now, self.hottest.room)
        return OperatorAnswer(200, {**told, "asked": [self.hottest.asked(now, text) for text in asked]})

    def _history(self, query: str) -> OperatorAnswer:
        points = parse_qs(query).get("points", [str(POINTS)])[-1]
        if not points.isdecimal() or not 0 < int(points) <= MOST_POINTS:
            return OperatorAnswer(400, {"error": f"`points` is a number from 1 to {MOST_POINTS}."})
        return OperatorAnswer(200, self.recent.hour.told(int(points)))

    def _check(self, name: str) -> OperatorAnswer:
        """Ask a worker now whether it is healthy. The answer to that is seen in the status, when it has come."""
        pools = self.look().gateway.pools
        pool = pools.get(name)
        if pool is None:
            return _no_worker(name, self.look())
        pool.health.check()
        return OperatorAnswer(200, {"worker": name, "told": f"The worker {name} is asked for its health."})

    def drain(self, name: str, drain: bool, by: str, *, move: bool = False) -> OperatorAnswer:
        """Stop or resume giving new requests to a worker, at an operator's request.

        `move`: the long polls that it has go on at another worker.
        """
        view = self.look()
        pools = view.gateway.pools
        pool = pools.get(name)
        if pool is None:
            return _no_worker(name, view)
        if pool.draining != drain:
            what = "drained" if drain else "in service again"
            _log.info("worker {name} is {what}, by {by}", name=name, what=what, by=by)
            told = "gets no new requests" if drain else "gets requests again"
            self.events.note("drain" if drain else "undrain", name, told, by=by)
            self._turned[name] = view.uptime
            (pool.drain if drain else pool.undrain)()
            if not drain:
                _look_again(pools.values())
        told = "gets no new requests" if drain else "gets new requests"
        if drain and move:
            self.move_polls(name)
        running = f"; {pool.leased} of its requests still run" if drain and pool.leased else ""
        sentence = f"The worker {name} {told}{running}."
        return OperatorAnswer(
            200,
            {"worker": name, "state": state(pool), "leased": pool.leased, "waiting": pool.waiting, "told": sentence},
        )

    def _adjusted(self, name: str, what: Adjustable, inquiry: Inquiry) -> OperatorAnswer:
        given = parse_qs(inquiry.query).get("value") or parse_qs(inquiry.body.decode("utf-8", "replace")).get("value")
        return self.set_value(name, what, given[-1] if given else "", inquiry.who)

    def set_value(self, name: str, what: Adjustable, text: str, by: str) -> OperatorAnswer:
        """Give a worker the weight or the maximum that `text` says, at an operator's request; `file`: the file's."""
        before = self.look()
        pool = before.gateway.pools.get(name)
        if pool is None:
            return _no_worker(name, before)
        try:
            self.adjust(name, what, None if text.strip() == FILE else _number(text), by)
        except RefusedValueError as error:
            return OperatorAnswer(400, {"error": str(error)})
        view = self.look()
        now = _in_force(view, name, what)
        own = any(each.worker == name and each.what is what for each in view.overrides)
        sentence = f"The {what.value} of {name} is {now:g}" + ("" if own else ", as the file says") + "."
        if view.overrides != before.overrides:
            _log.info("{sentence} Set by {by}.", sentence=sentence, by=by)
            told = f"{what.value} {now:g} instead of {_in_force(before, name, what):g}"
            self.events.note("adjusted", name, told if own else f"{told}, as the file says", by=by)
        return OperatorAnswer(200, {"worker": name, what.value: now, "told": sentence})

    def _maintained(self, on: bool, inquiry: Inquiry) -> OperatorAnswer:
        given = {**parse_qs(inquiry.body.decode("utf-8", "replace")), **parse_qs(inquiry.query)}
        before = self.look().maintenance
        try:
            wanted = _maintenance(given, inquiry.who) if on else None
        except ValueError as error:
            return OperatorAnswer(400, {"error": str(error)})
        sentence = f"Maintenance mode is {'on' if on else 'off'}" + (
            f". Clients are answered 503: {wanted.text}" if wanted is not None else ". Clients are served again."
        )
        if wanted is not None or before is not None:
            self.maintain(wanted)
            _log.info("maintenance mode is {what}, by {by}", what="on" if on else "off", by=inquiry.who)
            text = "off" if wanted is None else f"on: {wanted.text}"
            self.events.note("maintenance", "", text, by=inquiry.who)
        return OperatorAnswer(200, {"maintenance": on, "told": sentence})

    def drain_server(self, name: str, server: str, drain: bool, by: str) -> OperatorAnswer:
        """Stop or resume giving new connections to a server of a balancer."""
        balancers = self.look().fleet.running
        balancer = balancers.get(name)
        if balancer is None:
            return OperatorAnswer(404, {"error": unknown_name("balancer", name, balancers)})
        found = balancer.servers.get(server)
        if found is None:
            return OperatorAnswer(404, {"error": unknown_name("server", server, balancer.servers)})
        if found.draining != drain:
            place = f"{name}/{server}"
            what = "drained" if drain else "in service again"
            _log.info("server {name} is {what}, by {by}", name=place, what=what, by=by)
            told = "gets no new connections" if drain else "gets connections again"
            self.events.note("drain" if drain else "undrain", place, told, by=by)
            balancer.drain(found, drain)
        told = "gets no new connections" if drain else "gets new connections"
        running = f"; it has {found.count} still" if drain and found.count else ""
        sentence = f"The server {server} of {name} {told}{running}."
        return OperatorAnswer(
            200,
            {
                "balancer": name,
                "server": server,
                "state": found.state,
                "connections": found.count,
                "told": sentence,
            },
        )


def _maintenance(given: Mapping[str, list[str]], by: str) -> Maintenance:
    """The mode as somebody asks for it. Raises ValueError with a sentence."""
    text = given.get("text", [DEFAULT_TEXT])[-1]
    if not 0 < len(text) <= LONGEST_TEXT or not text.isprintable():
        raise ValueError(f"`text` is one line of 1 to {LONGEST_TEXT} printable characters.")
    after = given.get("retry_after", [str(DEFAULT_RETRY)])[-1]
    seconds = read_duration(int(after) if after.isdecimal() and len(after) < 9 else after)
    if seconds is None or not 1 <= seconds <= LONGEST_RETRY:
        raise ValueError("`retry_after` is a duration from 1s to 1d, such as `10m`.")
    return Maintenance(text=text, retry_after=int(seconds), by=by)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise RefusedValueError(f"`value` is a number, or `{FILE}` for what the file says.") from None


def _in_force(view: View, name: str, what: Adjustable) -> float:
    worker = view.plan.workers[name]
    if what is Adjustable.WEIGHT:
        return worker.share
    return worker.maximum or view.worker_connections


def _no_worker(name: str, view: View) -> OperatorAnswer:
    pool = view.plan.pools.get(name)
    if pool is not None:
        its = ", ".join(pool.workers)
        return OperatorAnswer(404, {"error": f"{name} is a pool, not a worker. Its workers: {its or 'none'}."})
    return OperatorAnswer(404, {"error": unknown_name("worker", name, view.gateway.pools)})


def _look_again(pools: Iterable[WorkerPool]) -> None:
    """Who waits for another worker that is drained may have somewhere to go now."""
    for pool in pools:
        if pool.draining:
            pool.drain()
