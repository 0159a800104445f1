"""What a sidecar may tell of itself, made up for tests, and HTML read as a browser reads it."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from attrs import define, field

VOID = {"input", "link", "meta", "br"}


def told(**more: Any) -> dict[str, Any]:
    """`/api/status` of a sidecar with five workers, one down, one draining and one slow."""
    workers = {
        "main": {
            "state": "up",
            "leased": 3,
            "changed": 90061.0,
            "recent": recent(12.34, p50=0.004, p99=0.31, slowest=10.25),
        },
        "sync1": {"state": "up", "leased": 210, "recent": recent(3.0, errors=2)},
        "sync2": {"state": "down", "reason": "Connection refused", "waiting": 4, "changed": 12.0},
        "client1": {"state": "draining", "leased": 1},
        "typing1": {"state": "up", "slow_start": True, "waiting": 2, "connecting": 1},
    }
    for name, worker in workers.items():
        worker["name"] = name
    pools = {
        "main": {"workers": ["main"], "fallback": []},
        "sync": {"workers": ["sync1", "sync2"], "fallback": ["main"], "running": 5, "concurrency": 900},
        "initial_sync": {"workers": ["sync1", "sync2"], "fallback": ["main"], "running": 2, "concurrency": 9},
        "client": {"workers": ["client1"], "fallback": ["main"]},
        "typing": {"workers": ["typing1"], "fallback": []},
        "media": {"workers": ["main"], "fallback": [], "running": 4, "waiting": 3, "concurrency": 4},
        "empty": {"workers": [], "fallback": []},
    }
    return {
        "version": "0.1.0",
        "host": "gate1",
        "uptime": 3700.0,
        "ready": True,
        "actions": "page",
        "listening": ["127.0.0.1:8008"],
        "counters": {"requests": 4321, "connections_open": 250},
        "workers": workers,
        "leaving": [{"name": "old1", "state": "up", "leased": 2}],
        "pools": pools,
        "recent": {
            "seconds": 60.0,
            "per_second": {"requests": 15.3, "bytes_up": 20480.0, "bytes_down": 1.5e6},
            "more": {"failed": 5, "refused": 0},
            "failures": [{"pool": "sync", "reason": "gone", "count": 3}, {"pool": "", "reason": "timeout", "count": 4}],
        },
        "problems": ["/etc/s.yaml:3: listen: warning: odd"],
        **more,
    }


def recent(rate: float, **more: Any) -> dict[str, Any]:
    return {"requests_per_second": rate, "curve": [0.0, rate / 2, rate], **more}


@define
class Element:
    """An element with what is in it."""

    name: str
    attributes: dict[str, str] = field(factory=dict)
    children: list[Element | str] = field(factory=list)

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)

    def all(self, name: str = "", /, **attributes: str) -> Iterator[Element]:
        """Those inside, in order, with this name and these attributes."""
        for child in self.children:
            if isinstance(child, Element):
                wanted = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
                if name in ("", child.name) and wanted.items() <= child.attributes.items():
                    yield child
                yield from child.all(name, **attributes)

    def one(self, name: str = "", /, **attributes: str) -> Element:
        (found,) = self.all(name, **attributes)
        return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("")]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice"
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].name == tag, f"{tag} ends inside {self.open[-1].name}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)


def parsed(html: str | bytes) -> Element:
    """HTML as a tree; every element must be closed in its place."""
    reader = _Reader()
    reader.feed(html.decode() if isinstance(html, bytes) else html)
    reader.close()
    (root,) = reader.open
    return root
