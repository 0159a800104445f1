"""What servlets cannot tell: pool, affinity, stream writer, replay, cost; written by hand in `data/overlay.yaml`.

Pure but for reading that file. Used when the table is written, and by a sidecar inside Synapse for what it finds there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from attrs import evolve, field, frozen

from sidecar.synapse.names import BUILT_IN_POOLS, STREAMS

OVERLAY = Path(__file__).parent / "data" / "overlay.yaml"

AFFINITIES = ("user", "room", "origin", "source", "session", "path", "none")
COSTS = ("light", "normal", "heavy")


class OverlayError(ValueError):
    """The overlay and the servlets do not fit together; one line for each fault."""


@frozen(kw_only=True)
class Judgement:
    """What the overlay says of one method of one path. `group` is None until an entry has spoken."""

    group: str | None = None
    stream: str | None = None
    hard: bool = False
    affinity: str = "none"
    key: str | None = None
    replayable: bool = False
    cost: str = "normal"
    reason: str = ""
    safe: frozenset[str] = frozenset()
    """What workers lack of it (`sidecar.synapse.reach`) without harm."""


@frozen(kw_only=True)
class Entry:
    """One entry: what it says (`says`, only the words it has) of which endpoints, why, and where one can look it up."""

    selectors: tuple[str, ...]
    says: Mapping[str, Any]
    reason: str
    source: str


@frozen
class Overlay:
    """The entries in order; a later one overrides the words of an earlier one."""

    entries: tuple[Entry, ...]
    _used: set[str] = field(factory=set, init=False, eq=False)

    def judge(self, method: str, notation: str) -> Judgement:
        """What all entries together say of `method` on `notation`."""
        judgement = Judgement()
        for entry in self.entries:
            for selector in entry.selectors:
                if selects(selector, method, notation):
                    self._used.add(selector)
                    judgement = _said(judgement, entry, notation)
        return judgement

    def unused(self) -> list[str]:
        """Selectors that no endpoint judged so far has met."""
        return [each for entry in self.entries for each in entry.selectors if each not in self._used]


def _said(judgement: Judgement, entry: Entry, notation: str) -> Judgement:
    says = dict(entry.says)
    says["safe"] = judgement.safe.union(says.get("safe", ()))
    if "key" in says:
        there = [name for name in says["key"] if re.search(rf"\{{{name}\+?\}}", notation)]
        says["key"] = there[0] if there else None
    elif "affinity" in says:
        says["key"] = None
    if "group" in says:
        says.setdefault("stream", None)
        says.setdefault("hard", False)
        says["reason"] = entry.reason
    return evolve(judgement, **says)


def selects(selector: str, method: str, notation: str) -> bool:
    """Whether `selector`, such as `GET,PUT /_matrix/client/*/presence/**`, means `method` on `notation`.

    `*` is one segment of the notation (`{api/v1|r0|v3}` is one), `**` at the end any number of them, none included.
    A selector without methods means all of them. Parts that may be absent count as present, except a mere slash and
    "whatever follows" at the end, which count as absent.
    """
    methods, _, path = selector.rpartition(" ")
    if methods and method not in methods.split(","):
        return False
    wanted, given = path.split("/")[1:], _segments(notation)
    if wanted[-1] == "**":
        wanted = wanted[:-1]
        given = given[: len(wanted)]
    return len(wanted) == len(given) and all(want in ("*", have) for want, have in zip(wanted, given, strict=True))


def _segments(notation: str) -> list[str]:
    path = notation.removesuffix("[/**]").removesuffix("[/]")
    return re.findall(r"/((?:\{[^}]*\}|[^/{])*)", path.replace("[", "").replace("]", ""))


def read_overlay(file: Path = OVERLAY) -> Overlay:
    """The overlay in `file`. Raises OverlayError naming every entry that is wrong."""
    documents: list[dict[str, Any]] = yaml.safe_load(file.read_text("utf-8"))
    faults = [
        f"{file.name}: entry {number}: {fault}" for number, each in enumerate(documents, 1) for fault in _faults(each)
    ]
    if faults:
        raise OverlayError("\n".join(faults))
    return Overlay(tuple(_entry(each) for each in documents))


def _entry(document: Mapping[str, Any]) -> Entry:
    says = {key: document[key] for key in document if key in _WORDS}
    if isinstance(says.get("key"), str):
        says["key"] = [says["key"]]
    return Entry(selectors=tuple(document["of"]), says=says, reason=document["reason"], source=document["source"])


_WORDS: Mapping[str, Iterable[Any] | None] = {
    "group": BUILT_IN_POOLS,
    "stream": STREAMS,
    "hard": (True, False),
    "affinity": AFFINITIES,
    "key": None,
    "replayable": (True, False),
    "cost": COSTS,
    "safe": None,
}


def _faults(document: Mapping[str, Any]) -> list[str]:
    faults = [f"{key} is missing" for key in ("of", "reason", "source") if not document.get(key)]
    for key, value in document.items():
        if key not in _WORDS and key not in ("of", "reason", "source"):
            faults.append(f"{key} is not a word of the overlay; it knows {', '.join(_WORDS)}")
        allowed = _WORDS.get(key)
        if allowed is not None and value not in allowed:
            faults.append(f"{key} cannot be {value!r}")
    if document.get("hard") and "stream" not in document:
        faults.append("hard says nothing without a stream")
    return faults
