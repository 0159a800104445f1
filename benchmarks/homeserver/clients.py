"""Matrix clients at a fixed rate: what they send, when, and how long it takes to be answered and to arrive.

The same numbers choose the same senders, rooms and readers in every run, so that variants get the same requests.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import aiohttp
from attrs import define, field, frozen
from yarl import URL

V3 = "/_matrix/client/v3"
SLIDING = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync"
_MARK = re.compile(rb'"body":"mark-(\w+)"')
_LIST = {"all": {"ranges": [[0, 20]], "required_state": [], "timeline_limit": 10}}
POLL = 30_000
PATIENCE = 60.0
FORWARDED = {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http"}
"""What is said in place of a proxy."""


@define(eq=False)
class Person:
    """A registered user with a device, and how far each kind of sync has come."""

    name: str
    token: str
    since: str = ""
    position: str = ""


@frozen
class Room:
    """A room and who is in it."""

    id: str
    members: Sequence[Person]

    @property
    def path(self) -> str:
        return f"{V3}/rooms/{quote(self.id)}"


@frozen
class Outside:
    """People of another homeserver, the rooms that they are in, and requests that their server signs."""

    session: aiohttp.ClientSession
    people: Sequence[Person]
    rooms: Sequence[Room]
    sign: Callable[[str, str, Any], str]


@frozen(kw_only=True)
class Load:
    """What is sent: `rate` messages a second; of the rest, one for so many messages (0: none)."""

    rate: float
    readers: int = 2
    sliding: int = 0
    """Every so many users sync by sliding sync."""
    messages: int = 5
    initial: int = 0
    joins: int = 0
    lookups: int = 0
    """Members, key queries and profiles; account data and presence that are set."""
    federated: int = 0
    """Messages of people of another homeserver, and requests of that server beside each."""


@define
class Seen:
    """What was measured between two moments. Times are in seconds."""

    sends: list[float] = field(factory=list)
    arrivals: list[float] = field(factory=list)
    others: dict[str, list[float]] = field(factory=dict)
    failures: Counter[str] = field(factory=Counter)
    awaited: int = 0


@define(eq=False)
class Crowd:
    """All clients of one population, at one address."""

    session: aiohttp.ClientSession
    people: Sequence[Person]
    rooms: Sequence[Room]
    load: Load
    outside: Outside | None = None
    seen: Seen = field(factory=Seen)
    _sent: dict[str, tuple[float, set[str]]] = field(factory=dict)
    _readers: dict[str, set[str]] = field(factory=dict)
    _tasks: set[asyncio.Task[None]] = field(factory=set)
    _number: int = 0

    async def ask(self, who: Person, method: str, target: str, content: Any = None) -> bytes | None:
        """The body of a good answer; what is none is counted."""
        kind = f"{method} {target.partition('?')[0].rpartition('/')[2][:24]}"
        try:
            async with self.session.request(
                method, target, json=content, headers={"Authorization": f"Bearer {who.token}"}
            ) as response:
                body: bytes = await response.read()
        except (aiohttp.ClientError, asyncio.TimeoutError) as error:
            self.seen.failures[f"{kind}: {type(error).__name__}"] += 1
            return None
        if response.status != 200:
            self.seen.failures[f"{kind}: {response.status}"] += 1
            return None
        return body

    async def syncing(self, who: Person) -> None:
        """Sync for ever, as clients do."""
        while True:
            target = f"{V3}/sync?timeout={POLL}"
            body = await self.ask(who, "GET", target + (f"&since={who.since}" if who.since else ""))
            if body is None:
                await asyncio.sleep(1)
                continue
            self._arrived(who, body)
            who.since = json.loads(body)["next_batch"]

    async def sliding(self, who: Person) -> None:
        """The same, by simplified sliding sync."""
        while True:
            where = f"&pos={quote(who.position)}" if who.position else ""
            body = await self.ask(who, "POST", f"{SLIDING}?timeout={POLL}{where}", {"lists": _LIST})
            if body is None:
                who.position = ""
                await asyncio.sleep(1)
                continue
            self._arrived(who, body)
            who.position = json.loads(body)["pos"]

    def _arrived(self, who: Person, body: bytes) -> None:
        now = time.perf_counter()
        for found in _MARK.findall(body):
            mark = found.decode()
            begin, waiting = self._sent.get(mark, (0.0, set()))
            if who.name in waiting:
                waiting.discard(who.name)
                self._arrivals(mark).append(now - begin)
                if who.name in self._readers.get(mark, ()):
                    self._start(self._read(who, body, mark))

    def _arrivals(self, mark: str) -> list[float]:
        """Where the arrival of this message counts; the marks of those from outside begin with an f."""
        return self.seen.others.setdefault("arrival from outside", []) if mark[0] == "f" else self.seen.arrivals

    async def _read(self, who: Person, body: bytes, mark: str) -> None:
        """Tell that the message was read."""
        room, event = _event(body, mark)
        if event:
            await self.ask(who, "POST", f"{V3}/rooms/{quote(room)}/receipt/m.read/{quote(event)}", {})

    async def paced(self, seconds: float) -> int:
        """Send for so long; returns the number of messages, when all of them have been answered."""
        total, begin = max(1, round(seconds * self.load.rate)), time.perf_counter()
        sends = []
        for number in range(total):
            await asyncio.sleep(max(0.0, begin + number / self.load.rate - time.perf_counter()))
            self._number += 1
            sends.append(self._start(self._message(self._number)))
        await asyncio.sleep(max(0.0, begin + seconds - time.perf_counter()))
        await asyncio.wait(sends, timeout=PATIENCE)
        return total

    async def settled(self, limit: float) -> None:
        """Wait until all has arrived, at most so long."""
        end = time.perf_counter() + limit
        while any(waiting for _, waiting in self._sent.values()) and time.perf_counter() < end:
            await asyncio.sleep(0.05)

    @property
    def missing(self) -> int:
        """Arrivals that are still to come."""
        return sum(len(waiting) for _, waiting in self._sent.values())

    def begin(self) -> None:
        """Forget what was seen so far."""
        self.seen = Seen()
        self._sent.clear()
        self._readers.clear()

    async def _message(self, number: int) -> None:
        chance = random.Random(number)
        room = self.rooms[chance.randrange(len(self.rooms))]
        sender, *others = chance.sample(list(room.members), len(room.members))
        mark = f"m{time.time_ns():x}"
        who = quote(f"{sender.name}")
        await self.ask(sender, "PUT", f"{room.path}/typing/{who}", {"typing": True, "timeout": 5000})
        self._readers[mark] = {reader.name for reader in others[: self.load.readers]}
        begin = time.perf_counter()
        self._sent[mark] = begin, {other.name for other in others}
        self.seen.awaited += len(others)
        target = f"{room.path}/send/m.room.message/{mark}"
        if await self.ask(sender, "PUT", target, {"msgtype": "m.text", "body": f"mark-{mark}"}) is not None:
            self.seen.sends.append(time.perf_counter() - begin)
        for kind, count in (
            (self._history, self.load.messages),
            (self._initial, self.load.initial),
            (self._join, self.load.joins),
            (self._lookups, self.load.lookups),
            (self._from_outside, self.load.federated),
        ):
            if count and number % count == 0:
                self._start(kind(room, chance))

    async def timed(self, what: str, who: Person, method: str, target: str, content: Any = None) -> bytes | None:
        """As `ask`; the time counts under this name."""
        begin = time.perf_counter()
        body = await self.ask(who, method, target, content)
        self.seen.others.setdefault(what, []).append(time.perf_counter() - begin)
        return body

    async def _history(self, room: Room, chance: random.Random) -> None:
        await self.timed("messages", chance.choice(room.members), "GET", f"{room.path}/messages?dir=b&limit=20")

    async def _initial(self, room: Room, chance: random.Random) -> None:
        await self.timed("initial sync", chance.choice(room.members), "GET", f"{V3}/sync?timeout=0")

    async def _join(self, room: Room, chance: random.Random) -> None:
        inside = {member.name for member in room.members}
        outside = [person for person in self.people if person.name not in inside]
        if outside:
            who = chance.choice(outside)
            await self.timed("join", who, "POST", f"{V3}/join/{quote(room.id)}", {})
            await self.ask(who, "POST", f"{room.path}/leave", {})

    async def _lookups(self, room: Room, chance: random.Random) -> None:
        who, other = chance.sample(list(room.members), 2)
        await self.timed("members", who, "GET", f"{room.path}/members")
        await self.timed("keys", who, "POST", f"{V3}/keys/query", {"device_keys": {other.name: []}})
        await self.timed("profile", who, "GET", f"{V3}/profile/{quote(other.name)}")
        own = quote(who.name)
        await self.timed("account data", who, "PUT", f"{V3}/user/{own}/account_data/seen", {"in": room.id})
        await self.timed("presence", who, "PUT", f"{V3}/presence/{own}/status", {"presence": "online"})

    async def _from_outside(self, room: Room, chance: random.Random) -> None:
        """Somebody of another homeserver says something, which comes as a transaction; and that server asks."""
        outside = self.outside
        if outside is None:
            return
        number = chance.randrange(len(outside.people))
        room, sender, mark = outside.rooms[number], outside.people[number], f"f{time.time_ns():x}"
        self._sent[mark] = time.perf_counter(), {member.name for member in room.members}
        target = f"{room.path}/send/m.room.message/{mark}"
        headers = {"Authorization": f"Bearer {sender.token}", **FORWARDED}
        async with outside.session.put(
            target, json={"msgtype": "m.text", "body": f"mark-{mark}"}, headers=headers
        ) as response:
            if response.status != 200:
                self.seen.failures[f"send from outside: {response.status}"] += 1
        for target in (
            f"/_matrix/federation/v1/query/profile?user_id={quote(room.members[0].name)}",
            f"/_matrix/federation/v1/make_join/{quote(room.id)}/{quote(sender.name)}?ver=12",
        ):
            await self._asked_by_server(outside, target)

    async def _asked_by_server(self, outside: Outside, target: str) -> None:
        begin = time.perf_counter()
        signature = {"Authorization": outside.sign("GET", target, None)}
        async with self.session.get(URL(target, encoded=True), headers=signature) as response:
            await response.read()
        if response.status != 200:
            self.seen.failures[f"asked by a server: {response.status}"] += 1
        self.seen.others.setdefault("asked by a server", []).append(time.perf_counter() - begin)

    def _start(self, doing: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    @asynccontextmanager
    async def present(self) -> AsyncIterator[None]:
        """Everybody syncs for the length of the block."""
        for number, person in enumerate(self.people):
            slides = self.load.sliding and number % self.load.sliding == 0
            self._start(self.sliding(person) if slides else self.syncing(person))
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(*self._tasks, return_exceptions=True)


def _event(body: bytes, mark: str) -> tuple[str, str]:
    """Room and id of the event with this mark, in a classic or a sliding answer."""
    rooms = json.loads(body)["rooms"]
    for room, content in rooms.get("join", rooms).items():
        timeline = content.get("timeline", ())
        for event in timeline["events"] if isinstance(timeline, dict) else timeline:
            if event["content"].get("body") == f"mark-{mark}":
                return room, event["event_id"]
    return "", ""
