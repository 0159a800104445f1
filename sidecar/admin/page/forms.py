"""What can be asked and done on the status page: the box for a request, the question before a drain, and refusals.

Every form carries the token of this process, which no page of another site can read.
"""

from __future__ import annotations

from urllib.parse import quote

from sidecar.admin.consequences import consequences
from sidecar.admin.explained import Explained, at_this_moment
from sidecar.admin.page.markup import Child, Markup, tag
from sidecar.admin.page.pieces import badge
from sidecar.admin.snapshot import Snapshot
from sidecar.admin.together import instances_told
from sidecar.plurals import counted
from sidecar.routing.maintenance import DEFAULT_TEXT, LONGEST_TEXT

SHOWN = "shown_"
"""Begins the name of a field that has what another field showed before somebody typed."""
EXAMPLE = "GET /_matrix/client/v3/sync?since=s1\nAuthorization: Bearer syt_…"


def _token(token: str) -> Markup:
    return tag("input", type="hidden", name="token", value=token)


def explain_box(token: str, asked: str = "", peer: str = "127.0.0.1", answer: Child = None) -> Markup:
    """The box in which a request can be explained, and the answer if there is one."""
    hint = "Method and request-target, field lines below; or a line of an access log. Nothing is sent to a worker."
    return tag(
        "section",
        tag("h2", "Explain a request", tag("small", "where it would go, and why")),
        tag(
            "form",
            _token(token),
            tag("label", "Request", for_="request"),
            tag(
                "textarea",
                asked,
                id="request",
                name="request",
                rows="3",
                required=True,
                spellcheck="false",
                autocomplete="off",
                placeholder=EXAMPLE,
                aria_describedby="hint",
            ),
            tag("p", hint, id="hint", class_="hint"),
            tag(
                "p",
                tag("label", "Comes from ", tag("input", name="peer", value=peer, size="15", autocomplete="off")),
                tag("button", "Explain", type="submit"),
                class_="line",
            ),
            method="post",
            action="explain",
            id="explain-form",
        ),
        tag("div", answer, id="explained", aria_live="polite"),
        id="explain",
    )


def story(explained: Explained, facts: Snapshot) -> Markup:
    """What would happen, step by step."""
    now = at_this_moment(explained, facts.workers)
    parts = [
        tag("p", tag("code", explained.title), class_="asked"),
        tag(
            "p",
            badge("forwarded" if explained.forwarded else "not forwarded", "up" if explained.forwarded else "down"),
            tag("span", explained.outcome),
            class_="verdict",
        ),
        tag("p", now, class_="now") if now else None,
        _pairs(explained.steps),
    ]
    if explained.others:
        parts.append(tag("details", tag("summary", "Not chosen"), _pairs(explained.others)))
    return tag("div", parts, class_="story")


def _pairs(pairs: tuple[tuple[str, str], ...]) -> Markup:
    return tag("dl", [tag("div", tag("dt", name), tag("dd", text)) for name, text in pairs], class_="pairs")


def complaint(sentence: str) -> Markup:
    """Why a request is not explained."""
    return tag("p", badge("no request", "down"), tag("span", sentence), class_="verdict")


def question(facts: Snapshot, name: str, token: str, *, drain: bool) -> Markup:
    """What a drain of a worker would do, or its end, and the button for it."""
    told = list(consequences(facts, name)) if drain else ["It gets new requests again, those that wait for it first."]
    return _asked(name, ("workers", name), told, token, where(facts), drain=drain)


def values_question(facts: Snapshot, name: str, token: str) -> Markup:
    """The weight and the maximum of a worker, to be changed."""
    worker = facts.workers[name]
    told = [
        "Weight: its share of keys beside the others. Only its own keys move. With 0 it gets none.",
        "Maximum: most requests that it has at once, long polls included. More wait.",
        "Leave a field empty for the value of the file. Both hold until the sidecar restarts, and through reloads.",
        "A field that you do not change is not set.",
    ]
    values = {"weight": f"{worker.weight:g}", "maximum": "" if worker.maximum is None else str(worker.maximum)}
    fields = [
        tag("label", what.capitalize(), " ", tag("input", name=what, value=value, size="9", autocomplete="off"))
        for what, value in values.items()
    ]
    shown = [tag("input", type="hidden", name=SHOWN + what, value=value) for what, value in values.items()]
    controls = (*shown, *fields, tag("button", f"Change {name}", type="submit"))
    return _form(f"Change {name}?", ("workers", name), told, token, where(facts), controls, "values")


def maintenance_question(facts: Snapshot, token: str, *, on: bool) -> Markup:
    """What maintenance mode does, and the text for clients."""
    if not on:
        button = tag("button", "Turn off", type="submit", class_="main")
        told = ["Clients are served again."]
        return _form("End maintenance mode?", ("maintenance",), told, token, where(facts), (button,), "off")
    told = [
        "Clients are answered 503 with this text. Requests that run already end by themselves.",
        "Other servers are served, or wait while workers are down.",
        "It holds through reloads. A restart of the sidecar ends it.",
    ]
    fields = (
        tag("label", "Text ", tag("input", name="text", value=DEFAULT_TEXT, maxlength=LONGEST_TEXT)),
        tag("label", "Retry after ", tag("input", name="retry_after", value="10m", size="5", autocomplete="off")),
        tag("button", "Turn on", type="submit", class_="danger"),
    )
    return _form("Turn maintenance mode on?", ("maintenance",), told, token, where(facts), fields, "on")


def server_question(facts: Snapshot, name: str, server: str, token: str, *, drain: bool) -> Markup:
    """The same for a server of a balancer."""
    count = facts.balancers[name].servers[server].connections
    left = f" {counted(count, 'connection')} that it has now {'goes' if count == 1 else 'go'} on." if count else ""
    told = f"It gets no new connections.{left}" if drain else "It gets new connections again."
    return _asked(f"{name}/{server}", ("balancers", name, server), [told], token, where(facts), drain=drain)


def where(facts: Snapshot) -> Markup | None:
    """The choice between all instances and this one, where there are several."""
    if not facts.instances:
        return None
    own = next(each.name for each in facts.instances if each.own)
    choices = (("all", f"On {instances_told(facts)}", True), ("own", f"Only on {own}", False))
    return tag(
        "fieldset",
        tag("legend", "Where", class_="unseen"),
        [
            tag("label", tag("input", type="radio", name="where", value=value, checked=chosen), f" {text}")
            for value, text, chosen in choices
        ],
        class_="where",
    )


def _asked(
    name: str, place: tuple[str, ...], told: list[str], token: str, where: Markup | None, *, drain: bool
) -> Markup:
    verb = "Drain" if drain else "Resume"
    button = tag("button", f"{verb} {name}", type="submit", class_="danger" if drain else "main")
    return _form(f"{verb} {name}?", place, told, token, where, (button,), "drain" if drain else "undrain")


def _form(
    title: str,
    place: tuple[str, ...],
    told: list[str],
    token: str,
    where: Markup | None,
    controls: tuple[Markup, ...],
    what: str,
) -> Markup:
    root = "../" * len(place)
    path = "/".join(quote(part, safe="") for part in place)
    return tag(
        "form",
        tag("h2", title),
        tag("ul", [tag("li", each) for each in told], class_="plain"),
        _token(token),
        where,
        tag("p", *controls, tag("a", "Cancel", href=root, class_="button", data_cancel=True), class_="line"),
        method="post",
        action=f"{root}{path}/{what}",
        id="question",
    )
