"""Users, rooms, servers and addresses with the most requests, on the status page: hashes, as in the access log."""

from __future__ import annotations

from collections.abc import Sequence

from sidecar.admin.page.markup import Markup, tag
from sidecar.admin.page.pieces import section
from sidecar.admin.snapshot import HOT_KINDS, HotFacts, Snapshot
from sidecar.admin.words import duration, number


def hottest(facts: Snapshot) -> Markup | None:
    """A list for each kind of which there is somebody."""
    found = [(kind, facts.hottest.keys.get(kind, ())) for kind in HOT_KINDS]
    lists = [_list(HOT_KINDS[kind], keys) for kind, keys in found if keys]
    if not lists:
        return None
    note = f"the last {duration(facts.hottest.seconds)}; hashes, as in the access log"
    return section("Hottest", "hottest", tag("div", lists, class_="hot-lists"), note=note)


def _list(title: str, keys: Sequence[HotFacts]) -> Markup:
    items = [
        tag("li", tag("code", key.hash), tag("span", f"{number(key.per_second)}/s, {key.share:.0%}")) for key in keys
    ]
    return tag("div", tag("h3", title), tag("ol", items, class_="plain"))
