"""The ordinary log on standard output, written through a sink: neither a full disk nor a stopped reader is felt.

twistd writes its log to what is `sys.stdout` when logging begins, and waits until each line is taken. A pipe whose
reader has stopped, or a journal that is stuck, would then stop every request. Of what is in a line this knows the form
that Twisted gives it, what of it is of no use to an administrator, and what a journal wants.
"""

from __future__ import annotations

import atexit
import io
import json
import re
import sys
from functools import partial

from sidecar.observe.logbook import is_journal
from sidecar.observe.sink import Sink
from sidecar.plurals import counted

PAUSE = 0.01
"""Seconds; somebody may be reading along."""
PATIENCE = 1.0
"""Seconds for which the end of the process waits until the last lines are taken."""


_CLASSIC = re.compile(r"(?P<time>\S+) \[(?P<system>[^\]#]*)(?:#(?P<level>\w+))?\] (?P<text>.*)", re.DOTALL)
"""How twistd writes an event. What it logs the old way has no level."""
_OF_NO_USE = re.compile(r"\S+ starting on .*|\((?:TCP|UNIX|TLS) Port .* Closed\)|Main loop terminated\.", re.DOTALL)
"""What Twisted says of ports and of itself; the sidecar's own lines say it with more sense."""
_PRIORITIES = {"debug": 7, "info": 6, "warn": 4, "error": 3, "critical": 2}
"""Of sd-daemon(3)."""
_PROBLEM = re.compile(r"Unhandled Error|Traceback \(most recent call last\)")


def readable(event: str, *, journal: bool) -> str:
    """An event as an administrator wants it: empty if of no use; for a journal with a priority instead of the time."""
    found = _CLASSIC.fullmatch(event)
    if found is None:
        return event
    text, system, level = found["text"], found["system"], found["level"]
    if system.startswith("twisted.") and level == "info":
        return ""
    if system == "-" and _OF_NO_USE.fullmatch(text.rstrip("\n")):
        return ""
    if not journal:
        return event
    if level is None:
        level = "error" if _PROBLEM.search(text) else "info"
    named = "" if system in ("-", "sidecar") else f"[{system}] "
    return with_priority(named + text, level)


def in_json(event: str) -> str:
    """An event as one line of JSON; empty if of no use, or if it is nothing but the end of a line."""
    if not event.strip() or not readable(event, journal=False):
        return ""
    found = _CLASSIC.fullmatch(event)
    if found is None:
        told = {"level": "info", "system": "-", "text": event.rstrip("\n")}
    else:
        text = found["text"].rstrip("\n")
        level = found["level"] or ("error" if _PROBLEM.search(text) else "info")
        told = {"time": found["time"], "level": level, "system": found["system"], "text": text}
    return json.dumps(told, ensure_ascii=False) + "\n"


class LogStream(io.TextIOBase):
    """What stands for `sys.stdout`. Tells in a line of its own how many could not be written, as soon as it can."""

    encoding = "utf-8"

    def __init__(self, sink: Sink, *, journal: bool = False, as_json: bool = False) -> None:
        self.sink = sink
        self._shown = in_json if as_json else partial(readable, journal=journal)
        self._journal = journal
        self._told = 0

    def write(self, text: str) -> int:
        sink = self.sink
        lost = sink.lost - self._told
        if lost and sink.takes_more:
            self._told += lost
            sink.write(self._lost(lost))
        line = self._shown(text)
        if line:
            sink.write(line)
        return len(text)

    def _lost(self, count: int) -> str:
        lost = f"{counted(count, 'line')} of this log {'is' if count == 1 else 'are'} lost"
        told = f"{lost}, because nobody took them in time"
        if self._shown is in_json:
            return json.dumps({"level": "warn", "system": "sidecar", "text": told}) + "\n"
        return f"<{_PRIORITIES['warn']}>{told}\n" if self._journal else f"[sidecar] {told}\n"

    def writable(self) -> bool:
        return True


def with_priority(text: str, level: str) -> str:
    """Text whose every line begins with its priority, as systemd's journal reads it."""
    return "".join(f"<{_PRIORITIES.get(level, 6)}>{line}\n" for line in text.splitlines())


def never_wait_for_standard_output(*, as_json: bool = False) -> None:
    """Let what twistd is going to log reach standard output by a thread of its own.

    To be called before logging begins. Nothing where somebody has put another stream there already.
    """
    if sys.stdout is sys.__stdout__:
        sink = Sink(pause=PAUSE)
        sys.stdout = LogStream(sink, journal=is_journal(), as_json=as_json)
        atexit.register(sink.close, PATIENCE)
