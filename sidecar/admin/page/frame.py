"""The whole page around what it shows: head, bar at the top, and foot. No script or style stands in it."""

from __future__ import annotations

from sidecar.admin.page.markup import Child, Markup, tag
from sidecar.admin.snapshot import Snapshot
from sidecar.admin.words import duration

_PARTS = ("Workers", "Events", "Endpoints", "Configuration", "Pools", "History", "Explain")
_CLOSED = "Scripts are off; this is how it was then. "


def document(title: str, *content: Child, root: str = "", script: bool = True) -> bytes:
    """A page; `root` leads from its address to that of the status page."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href=f"{root}static/icon.svg", type="image/svg+xml"),
        tag("link", rel="stylesheet", href=f"{root}static/page.css"),
        tag("script", src=f"{root}static/page.js", defer=True) if script else None,
    )
    return f"<!DOCTYPE html>\n{tag('html', head, tag('body', content), lang='en')}\n".encode("utf-8", "replace")


def bar(facts: Snapshot, time: str, root: str = "") -> Markup:
    """Whose page this is, and of when."""
    name = tag("a", "matrix-sidecar", href=root or "./", class_="name")
    off = tag("noscript", tag("span", _CLOSED), tag("a", "Load it again", href=""))
    parts = [tag("a", title, href=f"{root}#{title.lower()}") for title in _PARTS]
    return tag(
        "header",
        tag("h1", name, tag("small", facts.host)),
        tag("nav", parts),
        tag("p", off, tag("span", time, id="pulse"), class_="pulse"),
    )


def foot(facts: Snapshot) -> Markup:
    """Version, age, and where the same can be had by programs."""
    links = [tag("a", path, href=path) for path in ("api/status", "metrics", "ready", "health")]
    if facts.actions == "page":
        on = facts.maintenance is not None
        what, word = ("off", "End maintenance mode") if on else ("on", "Maintenance mode")
        links.append(tag("a", word, href=f"maintenance/{what}", data_confirm=True))
    listening = f"listening on {', '.join(facts.listening)}" if facts.listening else "not listening"
    told = f"matrix-sidecar {facts.version}, up for {duration(facts.uptime)}, {listening}"
    return tag("footer", tag("p", told), tag("nav", links), id="foot")


def notice(sentence: str, root: str) -> bytes:
    """A page with one sentence, for people whose request is refused."""
    back = tag("p", tag("a", "Status page", href=root or "./", class_="button"))
    content = tag("main", tag("section", tag("p", sentence, class_="verdict"), back), class_="narrow")
    return document("matrix-sidecar", content, root=root, script=False)
