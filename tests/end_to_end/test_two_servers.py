"""Two real Synapses that federate, each behind a sidecar that ends TLS: nothing but the sidecars is between them.

One is known by a name, the other by an address, both with a port, so that every id holds colons. Federation reaches
each only through its one federation worker.
"""

from __future__ import annotations

import asyncio
import io
import random
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from attrs import frozen

from .clients import Person, eventually, got, in_event_loop, nio, say, seen, synced, witness_of
from .laboratory import PASSWORD, Gateway, Laboratory, free_port, running_sidecar, running_synapse
from .services import Services
from .topology import Process, Topology

cryptography = pytest.importorskip("cryptography", reason="cryptography is not installed; matrix-synapse brings it")

V3 = "/_matrix/client/v3"
HOSTS = ("localhost", "127.0.0.2")
PROCESSES = (
    Process("main", ("client",)),
    Process("client1", ("client",)),
    Process("fed1", ("federation",)),
)
HISTORY = 25
"""Messages before a join, which the server that joins has to fetch."""
REQUESTS = (
    *("/key/v2/server", "/v1/query/directory?", "/v1/make_join/", "/v2/send_join/", "/v1/send/", "/v1/backfill/"),
    *("/v1/media/download/", "/v1/query/profile?"),
)
SPELLINGS = ("/make_join/%21", "%2F", "%25", "%3A", "%C3%BC", "%24")
"""Of `!`, `/`, `%`, `:`, `ü` and `$`, as Synapse writes and signs them."""


@frozen
class Server:
    """One homeserver with its sidecar."""

    name: str
    gateway: Gateway

    @property
    def laboratory(self) -> Laboratory:
        return self.gateway.laboratory

    def federation(self) -> list[tuple[str, str, int, str]]:
        """Process, method, status and target of every request of federation that was answered here.

        But for the version, which is asked for by the sidecar.
        """
        pattern = r'Processed request: .* (\d{3})!? "(\S+) (/_matrix/(?:federation/(?!v1/version)|key/)\S+) \S+" '
        return [
            (process.name, method, int(status), target)
            for process in self.laboratory.topology.processes
            for status, method, target in re.findall(pattern, self.laboratory.layout.log(process.name).read_text())
        ]

    def failures_of(self, other: Server) -> list[tuple[Any, ...]]:
        """`failure_ts` and `retry_interval` where this server holds a failure against the other."""
        statement = "SELECT failure_ts, retry_interval FROM destinations WHERE destination = %s"
        return [row for row in self.laboratory.query(statement, other.name) if any(row)]


@pytest.fixture(scope="module")
def servers(services: Services) -> Iterator[tuple[Server, Server]]:
    from .authority import Authority

    authority = Authority(services.root)
    with ExitStack() as stack:
        found = []
        for number, host in enumerate(HOSTS, 1):
            secure, plain = free_port(), free_port()
            name = f"{host}:{secure}"
            shared: dict[str, Any] = {
                "server_name": name,
                "federation_custom_ca_list": [str(authority.root)],
                "ip_range_blacklist": [],
                "federation_ip_range_blacklist": [],
                # Any request that fails is held against the other server at once.
                "federation": {"client_timeout": "60s", "max_short_retries": 0, "max_long_retries": 0},
            }
            laboratory = stack.enter_context(
                running_synapse(services, Topology(f"server{number}", PROCESSES, {}), shared)
            )
            key, certificate = authority.server(host)
            interface = "127.0.0.1" if host == "localhost" else host
            settings = {
                "listen": [
                    f"ssl:{secure}:interface={interface}:privateKey={key}:certKey={certificate}",
                    f"tcp:{plain}:interface=127.0.0.1",
                ],
                "timeouts": {"wait": "60s"},
            }
            gateway = stack.enter_context(running_sidecar(laboratory, "three_lines", plain, settings))
            found.append(Server(name, gateway))
        yield found[0], found[1]


@asynccontextmanager
async def users(*accounts: tuple[Server, str]) -> AsyncIterator[list[Person]]:
    """A user at each of these servers."""
    persons = []
    try:
        for server, name in accounts:
            person = Person(witness_of(server.gateway), name)
            persons.append(person)
            got(nio.RegisterResponse, await person.register(name, PASSWORD))
        yield persons
    finally:
        for person in persons:
            await person.close()


def heard(room: str, text: str) -> Any:
    """Looks for this message in a sync."""

    def look(sync: Any) -> Any:
        joined = sync.rooms.join.get(room)
        events = joined.timeline.events if joined else []
        return next((event for event in events if getattr(event, "body", None) == text), None)

    return look


@pytest.mark.parametrize("version", ["10", "12"])
@in_event_loop
async def test_a_room_across_servers(servers: tuple[Server, Server], version: str) -> None:
    """Found by an alias that wants escaping, joined, talked in both ways, and its history fetched.

    Ids of rooms have a domain in version 10, and none in 12.
    """
    one, two = servers
    names = f"a/b=c+d.{version}", f"x/y_z-{version}"
    async with users((one, names[0]), (two, names[1])) as (alice, bob):
        alias = f"#50% ünï/cödé?&+=;{version}".replace(" ", "")
        created = await alice.succeed(
            "POST", f"{V3}/createRoom", {"room_version": version, "room_alias_name": alias[1:], "preset": "public_chat"}
        )
        room = created["room_id"]
        assert (":" in room) is (version == "10")
        said = [await say(alice, room, f"number {number}") for number in range(HISTORY)]
        joined = await bob.succeed("POST", f"{V3}/join/{quote(f'{alias}:{one.name}', safe='')}", {})
        assert joined["room_id"] == room
        await synced(alice, timeout=0)
        await synced(bob, timeout=0)
        await say(bob, room, "from afar")
        assert (await seen(alice, heard(room, "from afar"))).sender == bob.user_id
        await say(alice, room, "and back")
        assert (await seen(bob, heard(room, "and back"))).sender == alice.user_id
        assert [event for event in await history(bob, room) if event in said] == said[::-1]
        profile = await bob.succeed("GET", f"{V3}/profile/{quote(alice.user_id, safe='')}/displayname")
        assert profile == {"displayname": names[0]}


async def history(person: Person, room: str) -> list[str]:
    """The ids of all events that can be read backwards, page by page."""
    events: list[str] = []
    token: str | None = ""
    while token is not None:
        target = f"{V3}/rooms/{quote(room, safe='')}/messages?dir=b&limit=10" + (f"&from={token}" if token else "")
        page = await person.succeed("GET", target)
        events += [event["event_id"] for event in page["chunk"]]
        token = page.get("end")
    return events


@in_event_loop
async def test_an_invitation_and_a_device_list(servers: tuple[Server, Server]) -> None:
    """A user whose name has a slash is invited from the other server, and their keys are asked for there."""
    one, two = servers
    async with users((one, "host/ess"), (two, "gu=est/2")) as (alice, bob):
        room = (await alice.succeed("POST", f"{V3}/createRoom", {"invite": [bob.user_id]}))["room_id"]
        invited = await seen(bob, lambda sync: sync.rooms.invite.get(room))
        assert invited is not None
        await bob.succeed("POST", f"{V3}/rooms/{quote(room, safe='')}/join", {})
        await synced(alice, timeout=0)
        await say(bob, room, "thank you")
        await seen(alice, heard(room, "thank you"))
        keys = await alice.succeed("POST", f"{V3}/keys/query", {"device_keys": {bob.user_id: []}})
        assert keys["failures"] == {}


@in_event_loop
async def test_media_of_the_other_server(servers: tuple[Server, Server]) -> None:
    """A mebibyte and a bit that is uploaded at one is what is downloaded at the other, both ways."""
    async with users(*((server, f"media{number}") for number, server in enumerate(servers))) as persons:
        for seed, (owner, reader) in enumerate((persons, persons[::-1])):
            content = random.Random(seed).randbytes(2**20 + 321)
            response, _ = await owner.upload(
                io.BytesIO(content), "application/octet-stream", "noise.bin", filesize=len(content)
            )
            uploaded = got(nio.UploadResponse, response).content_uri
            assert got(nio.MemoryDownloadResponse, await reader.download(uploaded)).body == content


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@in_event_loop
async def test_a_restart_costs_no_backoff(servers: tuple[Server, Server], number: signal.Signals) -> None:
    """While the worker that answers federation restarts, everything waits in its sidecar: transactions and questions.

    A single failure would make Synapse leave the other server alone for ten minutes (`destinations`).
    """
    one, two = servers
    async with users((one, f"resident-{number}"), (two, f"visitor-{number}")) as (alice, bob):
        options = {"preset": "public_chat", "room_alias_name": f"shield{number}"}
        room = (await alice.succeed("POST", f"{V3}/createRoom", options))["room_id"]
        alias = quote(f"#shield{number}:{one.name}", safe="")
        await bob.succeed("POST", f"{V3}/join/{alias}", {})
        restart = asyncio.ensure_future(restarted(one.laboratory, "fed1", number))
        said: list[str] = []
        while not restart.done():
            said.append(await say(bob, room, f"message {len(said)}"))
            found = await bob.ask("GET", f"{V3}/directory/room/{alias}")
            assert found.status == 200
        await restart
        said.append(await say(bob, room, "the last one"))
        arrived = await eventually(lambda: history(alice, room), lambda events: said[-1] in events)
        assert [event for event in arrived if event in said] == said[::-1]
    assert one.failures_of(two) == two.failures_of(one) == []


async def restarted(laboratory: Laboratory, name: str, number: signal.Signals) -> None:
    """End a process with this signal and start it again, while clients go on."""
    await asyncio.to_thread(laboratory.end, name, number)
    laboratory.begin(name)
    await asyncio.to_thread(laboratory.wait_for, name)


def test_what_passed_between_the_servers(servers: tuple[Server, Server]) -> None:
    """The federation workers answered all of it and with success: no signature failed, and it covers every byte."""
    targets = ""
    for server in servers:
        answered = server.federation()
        assert {process for process, *_ in answered} == {"fed1"}
        assert [request for request in answered if request[2] != 200] == []
        targets += "\n".join(target for *_, target in answered)
    assert [part for part in (*REQUESTS, *SPELLINGS) if part not in targets] == []
