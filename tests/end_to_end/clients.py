"""Matrix clients that go through the sidecar, and the witness who checks afterwards which process answered them."""

from __future__ import annotations

import asyncio
import functools
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from attrs import define, field

from .access_log import AccessLogs, Answer
from .exact_http import Reply, exchange
from .expectations import Expected, expected
from .laboratory import PASSWORD, Gateway
from .synapse_files import REQUEST_ID_HEADER

nio = pytest.importorskip("nio", reason="matrix-nio is not installed")

SCENARIO_LIMIT = 60.0
BACKGROUND_INTERVAL = 0.1
Kind = TypeVar("Kind")
_numbers = itertools.count(1)


def in_event_loop(scenario: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a plain test of a coroutine function; its parameters stay fixtures."""

    @functools.wraps(scenario)
    def test(*args: Any, **fixtures: Any) -> None:
        asyncio.run(asyncio.wait_for(scenario(*args, **fixtures), SCENARIO_LIMIT))

    return test


def got(kind: type[Kind], response: object) -> Kind:
    """The response, which must be the one that nio gives on success."""
    assert isinstance(response, kind), f"expected {kind.__name__}, got {response}"
    return response


@define
class Witness:
    """Remembers each request that was sent and checks each against the table and Synapse's logs."""

    gateway: Gateway
    logs: AccessLogs
    _clients: dict[str, str] = field(factory=dict)
    _stuck: dict[tuple[str, str], str] = field(factory=dict)

    def note(self, client: str) -> str:
        """A new request id, for a request that comes from this client address."""
        request_id = f"{secrets.token_hex(6)}"
        self._clients[request_id] = client
        return request_id

    @property
    def newest(self) -> str:
        return next(reversed(self._clients))

    def forget(self, request_id: str) -> None:
        """This request was given up by its client; Synapse writes its line when the poll would have ended."""
        del self._clients[request_id]

    async def check(self) -> list[Answer]:
        """Every request so far was answered by a process that should, and came from its real client."""
        answers = [await self.logs.answer(request_id) for request_id in self._clients]
        wrong = [
            complaint
            for answer, client in zip(answers, self._clients.values(), strict=True)
            for complaint in self._complaints(answer, client)
        ]
        assert not wrong, "\n".join(wrong)
        return answers

    def _complaints(self, answer: Answer, client: str) -> list[str]:
        request = f"{answer.method} {answer.target} of {answer.user}"
        expectation = expected(
            self.gateway.laboratory.topology, self.gateway.configuration, answer.method, answer.target
        )
        complaints = []
        if answer.worker not in expectation.workers:
            right = " or ".join(sorted(expectation.workers))
            complaints.append(f"{request}: {answer.worker} answered {answer.status}, not {right} ({expectation.pool})")
        if answer.status >= 500:
            complaints.append(f"{request}: {answer.worker} answered {answer.status}")
        if answer.client != client:
            complaints.append(f"{request}: {answer.worker} took {answer.client} for the client, not {client}")
        if (first := self._first_answerer(expectation, answer)) != answer.worker:
            complaints.append(f"{request}: {answer.worker} answered what {first} answered before")
        return complaints

    def _first_answerer(self, expectation: Expected, answer: Answer) -> str:
        if expectation.sticky is None:
            return answer.worker
        key = answer.user if expectation.sticky == "user" else expectation.room
        assert key is not None
        return self._stuck.setdefault((expectation.pool, key), answer.worker)


def witness_of(gateway: Gateway) -> Witness:
    layout, topology = gateway.laboratory.layout, gateway.laboratory.topology
    return Witness(gateway, AccessLogs({process.name: layout.log(process.name) for process in topology.processes}))


class Person(nio.AsyncClient):  # type: ignore[name-defined, misc]
    """A Matrix user with one device, behind a trusted proxy that knows the user's address."""

    def __init__(self, witness: Witness, name: str, *, store: Path | None = None) -> None:
        self.witness = witness
        self.address = f"203.0.113.{next(_numbers) % 254 + 1}"
        super().__init__(
            witness.gateway.url,
            name,
            store_path=str(store) if store else "",
            config=nio.AsyncClientConfig(
                max_limit_exceeded=0, max_timeouts=0, request_timeout=40, encryption_enabled=store is not None
            ),
        )

    async def send(
        self,
        method: str,
        path: str,
        data: Any = None,
        headers: dict[str, str] | None = None,
        trace_context: Any = None,
        timeout: float | None = None,
    ) -> Any:
        return await super().send(method, path, data, {**(headers or {}), **self._own_lines()}, trace_context, timeout)

    def _own_lines(self) -> dict[str, str]:
        return {REQUEST_ID_HEADER: self.witness.note(self.address), "X-Forwarded-For": self.address}

    @asynccontextmanager
    async def on_another_device(self) -> AsyncIterator[Person]:
        """The same user, logged in once more."""
        again = Person(self.witness, self.user)
        try:
            got(nio.LoginResponse, await again.login(PASSWORD, "another device"))
            yield again
        finally:
            await again.close()

    async def ask(self, method: str, target: str, content: Any = None, *, authorization: str | None = None) -> Reply:
        """A request that nio has no call for; with the user's token unless told otherwise ("": none)."""
        fields = list(self._own_lines().items())
        if line := f"Bearer {self.access_token}" if authorization is None else authorization:
            fields.append(("Authorization", line))
        return await exchange(self.witness.gateway.port, method, target, fields, content)

    async def succeed(self, method: str, target: str, content: Any = None) -> Any:
        """As `ask`, with an answer of 200, whose JSON is returned."""
        reply = await self.ask(method, target, content)
        assert reply.status == 200, f"{method} {target}: {reply.status} {reply.body!r}"
        return reply.json


@asynccontextmanager
async def people(gateway: Gateway, *names: str, store: Path | None = None) -> AsyncIterator[Sequence[Person]]:
    """New users, registered and logged in; what they asked is checked in the end."""
    witness = witness_of(gateway)
    persons = [Person(witness, f"{name}{next(_numbers)}", store=store) for name in names]
    try:
        for person in persons:
            got(nio.RegisterResponse, await person.register(person.user, PASSWORD))
        yield persons
        await witness.check()
    finally:
        for person in persons:
            await person.close()


async def shared_room(owner: Person, *guests: Person, **options: Any) -> str:
    """A room that all are in. Its id has no domain: room version 12 is Synapse's default since 1.162."""
    room = got(
        nio.RoomCreateResponse,
        await owner.room_create(invite=[guest.user_id for guest in guests], **options),
    ).room_id
    for guest in guests:
        got(nio.JoinResponse, await guest.join(room))
    return str(room)


async def say(person: Person, room: str, text: str) -> str:
    """Send a message; returns its event id."""
    content = {"msgtype": "m.text", "body": text}
    return str(got(nio.RoomSendResponse, await person.room_send(room, "m.room.message", content)).event_id)


async def synced(person: Person, **options: Any) -> Any:
    """One sync, from where the last one ended."""
    return got(nio.SyncResponse, await person.sync(**options))


async def seen(person: Person, look: Callable[[Any], Kind | None]) -> Kind:
    """Sync until `look` finds what it looks for in an answer; the scenario's limit ends the search."""
    while True:
        if (found := look(await synced(person, timeout=20_000))) is not None:
            return found


async def eventually(ask: Callable[[], Awaitable[Any]], enough: Callable[[Any], object]) -> Any:
    """Ask until the answer is enough: what Synapse does in the background announces itself to nobody."""
    while not enough(answer := await ask()):
        await asyncio.sleep(BACKGROUND_INTERVAL)
    return answer
