"""The addresses of the status page: what is asked with which, and what is done. HTML for people, one form for each act.

Knows the sidecar by what `/api/status` reports and by what a drain does. Access was checked before.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from hmac import compare_digest
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from attrs import define, evolve, field, frozen

from sidecar.admin.explained import Explain, Explained, at_this_moment
from sidecar.admin.operator_answer import FILE, Inquiry, OperatorAnswer, only
from sidecar.admin.page import forms, frame
from sidecar.admin.page.graphs import curves
from sidecar.admin.page.live import live, title
from sidecar.admin.page.markup import Markup, tag
from sidecar.admin.snapshot import Snapshot
from sidecar.admin.together import snapshot_of
from sidecar.errors import unknown_name

HTML = "text/html; charset=utf-8"
STATIC = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
_STALE = "This page is from before a restart of the sidecar, or was altered; load it again."
_NO_BUTTONS = "Nothing can be done on this page, because `operator.actions` is not `page`."

Answering = OperatorAnswer | Awaitable[OperatorAnswer]


@frozen
class _Act:
    """A drain, or its end."""

    place: tuple[str, ...]
    """A worker; or a balancer and its server."""
    drain: bool

    @property
    def kind(self) -> str:
        return "worker" if len(self.place) == 1 else "server"

    @property
    def root(self) -> str:
        """From its page to the first one."""
        return "../" * (len(self.place) + 1)

    @property
    def path(self) -> tuple[str, ...]:
        """Below `/api`, where the same is done."""
        kind = "workers" if len(self.place) == 1 else "balancers"
        return (kind, *self.place, "drain" if self.drain else "undrain")

    def concerns(self, facts: Snapshot) -> bool:
        """Whether there is such a one."""
        name, *server = self.place
        if not server:
            return name in facts.workers
        return name in facts.balancers and server[0] in facts.balancers[name].servers

    def question(self, facts: Snapshot, token: str) -> Markup:
        """The question to confirm it."""
        name, *server = self.place
        if server:
            return forms.server_question(facts, name, server[0], token, drain=self.drain)
        return forms.question(facts, name, token, drain=self.drain)


@define(eq=False)
class StatusPage:
    """Answers what a browser asks; what it does not know is left to others."""

    facts: Callable[[], dict[str, Any]]
    """What `/api/status` reports, or that of all instances."""
    act: Callable[[Inquiry], Awaitable[OperatorAnswer]]
    """Does what a POST to the API asks for."""
    explain: Explain
    hour: Callable[[], dict[str, Any]]
    """What `/api/history` reports."""
    clock: Callable[[], datetime]
    patience: Callable[[], float] = lambda: 0.0
    """Seconds that other instances may take for one action."""
    token: str = field(factory=lambda: secrets.token_urlsafe(24), repr=False)
    """Stands in every form. Nobody else's page can read it, so a form that has it is one of ours."""
    _static: dict[str, bytes] = field(factory=dict, init=False, repr=False)

    def answer(self, inquiry: Inquiry) -> Answering | None:
        """The answer; None for what is no part of the page."""
        method = inquiry.method
        match inquiry.parts:
            case [""]:
                return only("GET", method, lambda: self._whole(inquiry))
            case ["live"]:
                return only("GET", method, lambda: self._moving(inquiry))
            case ["history"]:
                return only("GET", method, lambda: _html(200, curves(self.hour()).encode()))
            case ["static", name] if name in STATIC:
                return only("GET", method, lambda: OperatorAnswer(200, self._file(name), kind=STATIC[name]))
            case ["explain"]:
                return only("POST", method, lambda: self._explained(inquiry))
            case ["api", "explain"]:
                return only("POST", method, lambda: self._told(inquiry))
            case ["workers", name, "drain" | "undrain" as what]:
                return self._act(inquiry, _Act((name,), what == "drain"))
            case ["maintenance", "on" | "off" as what]:
                return self._maintenance(inquiry, what)
            case ["workers", name, "values"]:
                return self._values(inquiry, name)
            case ["balancers", name, server, "drain" | "undrain" as what]:
                return self._act(inquiry, _Act((name, server), what == "drain"))
        return None

    def dressed(self, inquiry: Inquiry, answer: OperatorAnswer) -> OperatorAnswer:
        """A refusal as a person reads it, where a browser asked for a page."""
        content = answer.content
        for_people = "text/html" in inquiry.fields.get("accept", "") and inquiry.parts[:1] != ("api",)
        if answer.status < 400 or not for_people or not isinstance(content, dict) or "error" not in content:
            return answer
        page = frame.notice(str(content["error"]), "../" * (inquiry.path.count("/") - 1))
        return OperatorAnswer(answer.status, page, answer.allow, HTML, answer.fields)

    def _snapshot(self) -> Snapshot:
        return snapshot_of(self.facts())

    def _time(self) -> str:
        return f"{self.clock():%H:%M:%S} UTC"

    def _live(self, facts: Snapshot, inquiry: Inquiry) -> Markup:
        return live(facts, _one(inquiry.query, "sort"), self._time(), _one(inquiry.query, "endpoints"))

    def _moving(self, inquiry: Inquiry) -> OperatorAnswer:
        """What changes while a page is open: all that is live, and what the foot offers."""
        facts = self._snapshot()
        return _html(200, self._live(facts, inquiry).encode() + frame.foot(facts).encode())

    def _whole(self, inquiry: Inquiry, box: Markup | None = None) -> OperatorAnswer:
        facts = self._snapshot()
        content = tag("main", self._live(facts, inquiry), curves(self.hour()), box or forms.explain_box(self.token))
        parts = (frame.bar(facts, self._time()), content, tag("dialog", id="dialog"), frame.foot(facts))
        return _html(200, frame.document(title(facts), *parts))

    def _file(self, name: str) -> bytes:
        if name not in self._static:
            self._static[name] = files("sidecar.admin.page").joinpath("static", name).read_bytes()
        return self._static[name]

    # What is asked with a form.

    def _foreign(self, form: str) -> bool:
        return not compare_digest(_one(form, "token").encode(), self.token.encode())

    def _explained(self, inquiry: Inquiry) -> OperatorAnswer:
        form = inquiry.body.decode("utf-8", "replace")
        if self._foreign(form):
            return OperatorAnswer(403, {"error": _STALE})
        asked, peer = _one(form, "request"), _one(form, "peer").strip()
        try:
            story = forms.story(self._explain(asked, peer), self._snapshot())
        except ValueError as error:
            story = forms.complaint(f"{str(error)[:1].upper()}{str(error)[1:]}.")
        return self._whole(inquiry, forms.explain_box(self.token, asked.replace("\r\n", "\n"), peer, story))

    def _explain(self, asked: str, peer: str) -> Explained:
        return self.explain(asked.replace("\r\n", "\n"), "" if peer == "unix" else peer)

    def _told(self, inquiry: Inquiry) -> OperatorAnswer:
        try:
            explained = self._explain(inquiry.body.decode("utf-8", "replace"), "127.0.0.1")
        except ValueError as error:
            return OperatorAnswer(400, {"error": f"{error}"})
        told = {
            **explained.facts,
            "outcome": explained.outcome,
            "now": at_this_moment(explained, self._snapshot().workers),
            "steps": [list(step) for step in explained.steps],
            "others": dict(explained.others),
        }
        return OperatorAnswer(200, told)

    def _act(self, inquiry: Inquiry, act: _Act) -> Answering:
        """GET asks for confirmation; POST does it."""
        facts = self._snapshot()
        if facts.actions != "page":
            return OperatorAnswer(403, {"error": _NO_BUTTONS})
        if inquiry.method == "POST":
            return self._done(inquiry, act)
        if not act.concerns(facts):
            return OperatorAnswer(404, {"error": f"There is no such {act.kind}."})
        form = act.question(facts, self.token)
        return only("GET", inquiry.method, lambda: self._question(facts, form, act.root))

    def _values(self, inquiry: Inquiry, name: str) -> Answering:
        """GET shows the weight and the maximum of a worker; POST sets those that were changed."""
        facts = self._snapshot()
        if facts.actions != "page":
            return OperatorAnswer(403, {"error": _NO_BUTTONS})
        if name not in facts.workers:
            return OperatorAnswer(404, {"error": unknown_name("worker", name, facts.workers)})
        given = inquiry.body.decode("utf-8", "replace")
        if inquiry.method != "POST":
            form = forms.values_question(facts, name, self.token)
            return only("GET", inquiry.method, lambda: self._question(facts, form, "../../"))
        if self._foreign(given):
            return OperatorAnswer(403, {"error": _STALE})
        everywhere = "&all" if _one(given, "where") == "all" else ""
        wanted = {what: _one(given, what).strip() for what in ("weight", "maximum")}
        return self._all_acted(
            [
                evolve(
                    inquiry,
                    path=f"/api/workers/{_quoted(name)}/{what}",
                    query=urlencode({"value": value or FILE}) + everywhere,
                    body=b"",
                )
                for what, value in wanted.items()
                # Compared with what was shown, not with what holds now: that may be somebody else's change.
                if value != _one(given, forms.SHOWN + what)
            ],
            "../../",
        )

    def _maintenance(self, inquiry: Inquiry, what: str) -> Answering:
        facts, given = self._snapshot(), inquiry.body.decode("utf-8", "replace")
        if facts.actions != "page":
            return OperatorAnswer(403, {"error": _NO_BUTTONS})
        if inquiry.method != "POST":
            form = forms.maintenance_question(facts, self.token, on=what == "on")
            return only("GET", inquiry.method, lambda: self._question(facts, form, "../"))
        if self._foreign(given):
            return OperatorAnswer(403, {"error": _STALE})
        values = {name: value for name in ("text", "retry_after") if (value := _one(given, name).strip())}
        everywhere = "&all" if _one(given, "where") == "all" else ""
        asked = evolve(inquiry, path=f"/api/maintenance/{what}", query=urlencode(values) + everywhere, body=b"")
        return self._all_acted([asked], "../")

    async def _all_acted(self, inquiries: Sequence[Inquiry], root: str) -> OperatorAnswer:
        """One after another; if any was refused, the first refusal."""
        answers = [await self.act(each) for each in inquiries]
        for answer in answers:
            if answer.status != 200:
                return answer
        return OperatorAnswer(303, b"", kind=HTML, fields=(("Location", root),))

    def _question(self, facts: Snapshot, form: Markup, root: str) -> OperatorAnswer:
        # A form may be two actions, one after the other.
        patience = str(round(2000 * self.patience()))
        content = tag("main", tag("section", form), class_="narrow", data_patience=patience)
        page = frame.document(title(facts), frame.bar(facts, self._time(), root), content, root=root)
        return _html(200, page)

    def _done(self, inquiry: Inquiry, act: _Act) -> Answering:
        form = inquiry.body.decode("utf-8", "replace")
        if self._foreign(form):
            return OperatorAnswer(403, {"error": _STALE})
        path = "/".join(("/api", *map(_quoted, act.path)))
        query = "all" if _one(form, "where") == "all" else ""
        return self._acted(evolve(inquiry, path=path, query=query, body=b""), act.root)

    async def _acted(self, inquiry: Inquiry, root: str) -> OperatorAnswer:
        done = await self.act(inquiry)
        if done.status != 200:
            return done
        return OperatorAnswer(303, b"", kind=HTML, fields=(("Location", root),))


def _quoted(part: str) -> str:
    return quote(part, safe="")


def _html(status: int, content: bytes) -> OperatorAnswer:
    return OperatorAnswer(status, content, kind=HTML)


def _one(form: str, name: str) -> str:
    """The first value of a field; empty where there is none, or where this is no form."""
    try:
        return parse_qs(form, keep_blank_values=True, max_num_fields=20).get(name, [""])[0]
    except ValueError:
        return ""
