"""A steady load of Matrix requests on one gateway, by clients that never retry: what its users notice of a fault.

Each client is a thread with one connection that is kept alive, and sends its next request a moment after it has its
answer. What is written carries a mark that is counted in Synapse's database afterwards.
"""

from __future__ import annotations

import http.client
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any
from urllib.parse import quote

from attrs import define, field, frozen

from .children import ask
from .laboratory import Laboratory, register
from .signing import Signer
from .synapse_files import SERVER_NAME

PATIENCE = 120.0
"""Seconds after which a request has not been answered but hangs."""
PAUSE = 0.05
POLL = 3000
V3 = "/_matrix/client/v3"
FED = "/_matrix/federation"


@frozen
class Failure:
    """A request that was not answered with 200: who was asked what, and what came instead."""

    kind: str
    safe: bool
    """It may be sent again by HTTP's rules or by Matrix's, so nobody has a reason to let it fail."""
    status: int
    told: str
    """The body; or without an answer, how the connection ended."""

    @property
    def is_clear(self) -> bool:
        """Its client was told, in Matrix's words, that the server was at fault."""
        try:
            return self.status >= 500 and bool(json.loads(self.told)["errcode"] and json.loads(self.told)["error"])
        except (ValueError, KeyError):
            return False

    def __str__(self) -> str:
        return f"{self.kind}: {self.status or ''} {self.told}"


@frozen
class User:
    """Who is registered and has a room."""

    name: str
    token: str
    room: str


def user_in(laboratory: Laboratory) -> User:
    """A new user with a room of their own, made past every gateway."""
    main = laboratory.layout.socket("main")
    name = f"steady{secrets.token_hex(4)}"
    token = register(main, name)
    status, answer = ask(main, "POST", f"{V3}/createRoom", {}, token=token)
    assert status == 200, answer
    return User(f"@{name}:{SERVER_NAME}", token, json.loads(answer)["room_id"])


@define(eq=False)
class SteadyLoad:
    """The clients of one gateway. As a context: started, and ended with their last answer."""

    name: str
    port: int
    users: Sequence[User]
    sign: Signer
    transactions: bool = True
    """Send some as a server does: one after another. Of two at once from the same server Synapse refuses one."""
    answered: Counter[str] = field(factory=Counter)
    failures: list[Failure] = field(factory=list)
    longest: dict[str, float] = field(factory=dict)
    """Seconds that a request of each kind took at most, if it was answered with 200."""
    marks: dict[str, bool] = field(factory=dict)
    """Of everything that was written: whether its client was told that it is."""
    _ended: threading.Event = field(factory=threading.Event)
    _changed: threading.Condition = field(factory=threading.Condition)
    _threads: list[threading.Thread] = field(factory=list)

    def __enter__(self) -> SteadyLoad:
        for user in self.users:
            for client in (_Syncing, _Sending, _Posting):
                self._threads.append(threading.Thread(target=client(self, user).run))
        self._threads.append(threading.Thread(target=_Federating(self, self.users[0]).run))
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def note(self, kind: str, failure: Failure | None, seconds: float = 0.0) -> None:
        with self._changed:
            if failure is None:
                self.answered[kind] += 1
                self.longest[kind] = max(seconds, self.longest.get(kind, 0.0))
            else:
                self.failures.append(failure)
            self._changed.notify_all()

    def goes_on(self, requests: int) -> None:
        """Wait until so many more of each kind have been answered, but for the creation of rooms, which is slow."""
        with self._changed:
            before = Counter(self.answered)
            kinds = {kind for client in (_Syncing, _Sending, _Posting, _Federating) for kind in client.kinds}
            kinds -= {"POST createRoom"} if self.transactions else {"POST createRoom", "transaction"}

            def enough() -> bool:
                return all(self.answered[kind] - before[kind] >= requests for kind in kinds)

            assert self._changed.wait_for(enough, PATIENCE), f"{self.name}: {self.answered - before}"

    @property
    def total(self) -> int:
        return self.answered.total() + len(self.failures)


class _Client:
    """One thread of the load: one connection, one request after another."""

    kinds: tuple[str, ...] = ()

    def __init__(self, load: SteadyLoad, user: User) -> None:
        self.load = load
        self.user = user
        self.number = 0
        self._connection = http.client.HTTPConnection("127.0.0.1", load.port, timeout=PATIENCE)

    def run(self) -> None:
        while not self.load._ended.wait(PAUSE):
            self.number += 1
            self.turn()
        self._connection.close()

    def turn(self) -> None:
        raise NotImplementedError

    def ask(
        self, kind: str, method: str, target: str, content: Any = None, *, safe: bool = True, signed: bool = False
    ) -> Any:
        """The answer's JSON; None when there is none, which is noted."""
        authorization = self.load.sign(method, target, content) if signed else f"Bearer {self.user.token}"
        body = None if content is None else json.dumps(content)
        began = time.monotonic()
        try:
            self._connection.request(method, target, body, {"Authorization": authorization})
            response = self._connection.getresponse()
            answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self.load.note(kind, Failure(kind, safe, 0, f"{type(error).__name__}: {error}"))
            return None
        if response.status == 200:
            self.load.note(kind, None, time.monotonic() - began)
            return json.loads(answer)
        self.load.note(kind, Failure(kind, safe, response.status, answer.decode()))
        return None

    def write(
        self, kind: str, method: str, target: str, content: Mapping[str, Any], mark: str, *, safe: bool = True
    ) -> None:
        self.load.marks[mark] = False
        if self.ask(kind, method, target, content, safe=safe) is not None:
            self.load.marks[mark] = True

    def mark(self) -> str:
        return f"mark-{self.load.name}-{secrets.token_hex(6)}"


class _Syncing(_Client):
    kinds = ("long poll",)
    since = ""

    def turn(self) -> None:
        answer = self.ask("long poll", "GET", f"{V3}/sync?timeout={POLL}{self.since}")
        if answer is not None:
            self.since = f"&since={answer['next_batch']}"


class _Sending(_Client):
    kinds = ("send", "state", "typing", "read back")

    def turn(self) -> None:
        room, mark = f"{V3}/rooms/{quote(self.user.room)}", self.mark()
        self.write("send", "PUT", f"{room}/send/m.room.message/{mark}", {"msgtype": "m.text", "body": mark}, mark)
        if self.number % 3 == 0:
            mark = self.mark()
            # Without a transaction id nobody knows whether the first one will still be written.
            self.write("state", "PUT", f"{room}/state/lab.test/{mark}", {"body": mark}, mark, safe=False)
            self.ask("typing", "PUT", f"{room}/typing/{quote(self.user.name)}", {"typing": True, "timeout": 1000})
            self.ask("read back", "GET", f"{room}/messages?dir=b&limit=5")


class _Posting(_Client):
    """What may fail while a worker is killed, because nobody knows whether it was executed."""

    kinds = ("POST send", "POST createRoom")

    def turn(self) -> None:
        mark = self.mark()
        room = f"{V3}/rooms/{quote(self.user.room)}"
        if self.number % 5:
            content: dict[str, Any] = {"msgtype": "m.text", "body": mark}
            self.write("POST send", "POST", f"{room}/send/m.room.message", content, mark, safe=False)
        else:
            content = {"creation_content": {"body": mark}}
            self.write("POST createRoom", "POST", f"{V3}/createRoom", content, mark, safe=False)


class _Federating(_Client):
    kinds = ("version", "keys", "profile", "transaction")

    def turn(self) -> None:
        self.ask("version", "GET", f"{FED}/v1/version")
        self.ask("keys", "GET", "/_matrix/key/v2/server")
        self.ask("profile", "GET", f"{FED}/v1/query/profile?user_id={quote(self.user.name)}", signed=True)
        if not self.load.transactions:
            return
        content = {"origin": SERVER_NAME, "origin_server_ts": 0, "pdus": [], "edus": []}
        self.ask("transaction", "PUT", f"{FED}/v1/send/{self.mark()}", content, signed=True)


def written(laboratory: Laboratory) -> Counter[str]:
    """How often each mark is in an event in Synapse's database."""
    rows = laboratory.query("SELECT json FROM event_json WHERE json LIKE '%%mark-%%'")
    return Counter(str(json.loads(text)["content"].get("body")) for (text,) in rows)
