"""Reads from Synapse's own access logs which process answered a request, how, and for which client address.

Requests are told apart by the request id that the laboratory's listeners take from a header and write into each
line. Knows nothing of who should have answered.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from attrs import define, field, frozen

LIMIT = 20.0
INTERVAL = 0.02
Found = TypeVar("Found")

_LINE = re.compile(r"\S+ \S+ synapse\.access\.http\.\S+ \w+ [A-Z]+-(?P<id>\S+) (?P<client>\S+) - \S+ - (?P<rest>.*)")
_ABANDONED = re.compile(
    r"\S+ \S+ synapse\.http\.site \w+ [A-Z]+-(?P<id>\S+) Connection from client lost before response was sent"
)
_PROCESSED = re.compile(
    r"\{(?P<user>\S*)\} Processed request: .* (?P<status>\d{3})(?P<cut>!?) \"(?P<method>\S+) (?P<target>\S+) \S+\" "
)


@frozen
class Answer:
    """One line of an access log: the request was answered, or broken off (`cut`)."""

    worker: str
    client: str
    user: str
    status: int
    cut: bool
    method: str
    target: str


@define
class AccessLogs:
    """The logs of all processes of one laboratory, read as they grow."""

    files: Mapping[str, Path]
    _read: dict[str, int] = field(factory=dict)
    _received: dict[str, str] = field(factory=dict)
    _abandoned: dict[str, str] = field(factory=dict)
    _answers: dict[str, list[Answer]] = field(factory=dict)

    async def answer(self, request_id: str) -> Answer:
        """The line of the process that answered; Synapse writes it a moment after the client has the answer.

        Raises AssertionError when no process wrote one within LIMIT seconds, or more than one did.
        """
        answers = await self._eventually(lambda: self._answers.get(request_id), f"no process answered {request_id}")
        assert len(answers) == 1, f"{request_id} was answered more than once: {answers}"
        return answers[0]

    async def received_by(self, request_id: str) -> str:
        """The process at which a request has arrived, answered or not."""
        return await self._eventually(lambda: self._received.get(request_id), f"{request_id} reached no process")

    async def abandoned_at(self, request_id: str) -> str:
        """The process that saw the connection end before it had answered."""
        return await self._eventually(lambda: self._abandoned.get(request_id), f"{request_id} was not broken off")

    async def _eventually(self, look: Callable[[], Found | None], otherwise: str) -> Found:
        deadline = time.monotonic() + LIMIT
        while (found := look()) is None:
            assert time.monotonic() < deadline, otherwise
            if not self._read_on():
                await asyncio.sleep(INTERVAL)
        return found

    def _read_on(self) -> bool:
        """Take in the whole lines that were added; whether there were any."""
        grown = False
        for worker, file in self.files.items():
            with file.open("rb") as log:
                log.seek(self._read.get(worker, 0))
                whole, newline, _ = log.read().rpartition(b"\n")
            if newline:
                grown = True
                self._read[worker] = self._read.get(worker, 0) + len(whole) + 1
                for line in whole.decode(errors="replace").splitlines():
                    self._take(worker, line)
        return grown

    def _take(self, worker: str, text: str) -> None:
        if abandoned := _ABANDONED.fullmatch(text):
            self._abandoned[abandoned["id"]] = worker
        if not (line := _LINE.fullmatch(text)):
            return
        if line["rest"].startswith("Received request: "):
            self._received[line["id"]] = worker
        elif processed := _PROCESSED.match(line["rest"]):
            self._answers.setdefault(line["id"], []).append(
                Answer(
                    worker=worker,
                    client=line["client"],
                    user=processed["user"],
                    status=int(processed["status"]),
                    cut=bool(processed["cut"]),
                    method=processed["method"],
                    target=processed["target"],
                )
            )
