"""Who uses the homeserver: users and the rooms that they are in. Made once, at the processes' own sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
from attrs import field, frozen
from end_to_end.children import LaboratoryError
from end_to_end.laboratory import PASSWORD

from benchmarks.homeserver.clients import FORWARDED, V3, Person, Room
from benchmarks.homeserver.remote import Remote

AT_ONCE = 4
OUTSIDERS = 4


@frozen
class Size:
    """So many users, in so many rooms of so many; everybody is in as many rooms as anybody else, but for one."""

    users: int
    rooms: int
    members: int

    @property
    def name(self) -> str:
        return f"{self.users} users, rooms of {self.members}"


SIZES = (Size(24, 12, 8), Size(200, 100, 8), Size(200, 4, 100))


@frozen
class Population:
    """The users and rooms of one size."""

    size: Size
    people: list[Person]
    rooms: list[Room]
    outsiders: list[Person] = field(factory=list)
    """People of another homeserver: the first is in the first room, and so on."""


async def populated(size: Size, main: Path, prefix: str, remote: Remote | None, home: str) -> Population:
    """Register the users and have them join; `prefix` begins their names, `home` is the name of their server."""
    async with _Asking.at(main) as here:
        people = await asyncio.gather(*(here.person(f"{prefix}u{number}") for number in range(size.users)))

        async def room(number: int) -> Room:
            first, *guests = (people[at % size.users] for at in places(size, number))
            content = {"preset": "public_chat", "name": f"room {number}"}
            room_id = (await here.ask(first.token, f"{V3}/createRoom", content))["room_id"]
            for guest in guests:
                await here.ask(guest.token, f"{V3}/join/{quote(room_id)}", {})
            return Room(room_id, [first, *guests])

        rooms = await asyncio.gather(*map(room, range(size.rooms)))
        await asyncio.gather(*map(here.first_sync, people))
    if remote is None:
        return Population(size, people, rooms)
    outsiders = []
    async with _Asking.at(remote.main) as there:
        for number, room_ in enumerate(rooms[:OUTSIDERS]):
            outsiders.append(await there.person(f"{prefix}o{number}"))
            await there.ask(outsiders[-1].token, f"{V3}/join/{quote(room_.id)}?server_name={quote(home)}", {})
    return Population(size, people, rooms, outsiders)


@frozen
class _Asking:
    """Requests to one main process, a few at once."""

    session: aiohttp.ClientSession
    limit: asyncio.Semaphore

    @staticmethod
    @asynccontextmanager
    async def at(main: Path) -> AsyncIterator[_Asking]:
        async with aiohttp.ClientSession("http://main", connector=aiohttp.UnixConnector(str(main))) as session:
            yield _Asking(session, asyncio.Semaphore(AT_ONCE))

    async def ask(self, token: str, target: str, content: Mapping[str, Any]) -> Any:
        """The JSON of the answer, which has to be a good one."""
        fields = {"Authorization": f"Bearer {token}", **FORWARDED} if token else FORWARDED
        async with self.limit, self.session.post(target, json=content, headers=fields) as response:
            body = await response.read()
        if response.status != 200:
            raise LaboratoryError(f"{target} was answered {response.status}: {body!r}")
        return json.loads(body)

    async def first_sync(self, person: Person) -> None:
        """What takes a long time, before anything is measured."""
        headers = {"Authorization": f"Bearer {person.token}", **FORWARDED}
        async with self.limit, self.session.get(f"{V3}/sync?timeout=0", headers=headers) as response:
            person.since = (await response.json())["next_batch"]

    async def person(self, name: str) -> Person:
        """A new user."""
        content = {"username": name, "password": PASSWORD, "auth": {"type": "m.login.dummy"}}
        answer = await self.ask("", f"{V3}/register", content)
        return Person(answer["user_id"], answer["access_token"])


def places(size: Size, room: int) -> list[int]:
    """Which users are in this room: some that sit together, and some from all over."""
    begin, step = room * size.members // 2, max(1, size.users // size.members)
    near = [(begin + at) % size.users for at in range(size.members // 2)]
    far = ((room + at * step) % size.users for at in range(size.users))
    for one in [*far, *range(size.users)]:
        if len(near) == size.members:
            break
        if one not in near:
            near.append(one)
    return near
