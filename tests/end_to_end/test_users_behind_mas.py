"""Users whose tokens do not name them, in front of a real Synapse that leaves its tokens to a stand-in for MAS."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import quote

import pytest
import yaml
from attrs import frozen

from sidecar.routing.hashing import ranked
from sidecar.routing.seats import seat_of, seats_of

from .access_log import AccessLogs, Answer
from .children import ask
from .clients import eventually, in_event_loop
from .exact_http import Reply, exchange
from .laboratory import Gateway, running_sidecar, running_synapse
from .mas import Kind, Mas
from .services import Services
from .synapse_files import REQUEST_ID_HEADER, SERVER_NAME
from .topology import Process, Topology

V3 = "/_matrix/client/v3"
WORKERS = ("generic1", "generic2", "generic3")
WEIGHTS = dict.fromkeys(WORKERS, 1.0)
TOPOLOGY = Topology(
    name="mas", processes=tuple(Process(name, ("client", "federation")) for name in ("main", *WORKERS)), pools={}
)
USERS = tuple(f"user{number}" for number in range(6))
DEVICE = "PHONE"
AS_TOKEN = secrets.token_hex(20)
ROTATIONS = 300
GHOSTS = tuple(f"ghost{number}" for number in range(4))


@frozen
class Site:
    """A Synapse behind the sidecar, and the service that gives its users their tokens."""

    gateway: Gateway
    mas: Mas
    logs: AccessLogs

    async def ask(
        self, method: str, target: str, token: str, content: object = None, *, address: str
    ) -> tuple[Reply, Answer]:
        """The answer to a client at this address, and what the access log of the process that gave it says."""
        request_id = secrets.token_hex(6)
        fields = [
            (REQUEST_ID_HEADER, request_id),
            ("X-Forwarded-For", address),
            ("User-Agent", "a phone"),
            ("Authorization", f"Bearer {token}"),
        ]
        reply = await exchange(self.gateway.port, method, target, fields, content)
        return reply, await self.logs.answer(request_id)

    def asked_for(self, address: str) -> list[str]:
        """What all processes logged of questions whose a token of this client is."""
        return [
            line
            for file in self.logs.files.values()
            for line in file.read_text(errors="replace").splitlines()
            if "Processed request" in line and "account/whoami" in line and f" {address} - " in line
        ]

    async def was_asked_for(self, address: str) -> list[str]:
        """The same, of which there is at least one: Synapse writes it a moment after it has answered."""

        async def look() -> list[str]:
            return self.asked_for(address)

        lines: list[str] = await eventually(look, bool)
        return lines


@pytest.fixture(scope="module")
def site(services: Services) -> Iterator[Site]:
    registration = services.root / "bridge.yaml"
    registration.write_text(
        yaml.safe_dump(
            {
                "id": "bridge",
                "url": None,
                "as_token": AS_TOKEN,
                "hs_token": secrets.token_hex(20),
                "sender_localpart": "bridge",
                "namespaces": {"users": [{"regex": "@ghost.*", "exclusive": True}]},
            }
        )
    )
    with ExitStack() as stack:
        mas = stack.enter_context(Mas())
        shared = {**mas.synapse, "app_service_config_files": [str(registration)]}
        laboratory = stack.enter_context(running_synapse(services, TOPOLOGY, shared))
        main = laboratory.layout.socket("main")
        for user in USERS:
            for path, content in (
                ("provision_user", {"localpart": user}),
                ("upsert_device", {"localpart": user, "device_id": DEVICE}),
            ):
                status, body = ask(main, "POST", f"/_synapse/mas/{path}", content, token=mas.secret)
                assert status == 201, body
        gateway = stack.enter_context(running_sidecar(laboratory, "three_lines"))
        logs = AccessLogs({process.name: laboratory.layout.log(process.name) for process in TOPOLOGY.processes})
        yield Site(gateway, mas, logs)


def home(user: str) -> str:
    """Where the user belongs whose token names it; see docs/routing.md."""
    return ranked(WEIGHTS, user)[0]


def sync_home(user: str) -> str:
    """Where the user's syncs belong: half of the workers share them."""
    return seat_of(seats_of(WEIGHTS, 2, "sync"), (1.0, 1.0), user)[0]


def test_the_users_of_these_tests_are_spread() -> None:
    """Otherwise nothing would be shown by their staying where they are."""
    assert {home(user) for user in USERS} == set(WORKERS)
    assert len({home(ghost) for ghost in GHOSTS}) > 1
    assert sync_home("user2") != sync_home("user4")
    assert len({sync_home(user) for user in USERS}) == 2


@in_event_loop
async def test_a_user_stays_on_one_worker_through_every_change_of_the_token(site: Site) -> None:
    """And it is the worker of the user, where any other device would be, whatever kind of token it has."""
    old: tuple[Kind, str | None] = ("mat", DEVICE)
    kinds: list[tuple[Kind, str | None]] = [*[old] * 4, ("mct", DEVICE), ("mpt", None)]
    address = "203.0.113.1"
    for user in USERS:
        since = ""
        for kind, device in kinds:
            token = site.mas.issue(kind, user, device)
            reply, answer = await site.ask("GET", f"{V3}/sync?timeout=0{since}", token, address=address)
            assert reply.status == 200, reply.body
            assert (answer.worker, answer.user) == (sync_home(user), f"@{user}:{SERVER_NAME}"), kind
            since = f"&since={reply.json['next_batch']}"
            reply, answer = await site.ask("GET", f"{V3}/joined_rooms", token, address=address)
            assert (reply.status, answer.worker) == (200, home(user)), kind


@in_event_loop
async def test_over_three_hundred_tokens_of_one_device(site: Site) -> None:
    """All its requests are answered by one process, as that process and all others have logged it."""
    workers = set()
    for _ in range(ROTATIONS):
        token = site.mas.issue("mat", "user4", DEVICE)
        reply, answer = await site.ask(
            "GET", f"{V3}/sync?timeout=0&since=s0_0_0_0_0_0_0_0_0_0_0", token, address="203.0.113.7"
        )
        assert reply.status == 200, reply.body
        workers.add(answer.worker)
    assert workers == {sync_home("user4")}


@in_event_loop
async def test_questions_are_asked_once_for_a_token_and_in_the_name_of_the_client(site: Site) -> None:
    """Not again for its next request; and what Synapse notes down is where the client is."""
    token, address = site.mas.issue("mat", "user0", DEVICE), "203.0.113.2"
    for _ in range(3):
        reply, answer = await site.ask("GET", f"{V3}/sync?timeout=0", token, address=address)
        assert (reply.status, answer.client) == (200, address)
    asked = await site.was_asked_for(address)
    assert len(asked) == 1
    assert '"a phone"' in asked[0]
    # One worker asked MAS for whoami, the user's own for the rest, at most.
    assert site.mas.introspections[token] <= 2


@in_event_loop
async def test_what_names_its_user_is_not_asked_for(site: Site) -> None:
    """A new token that is used for a filter first, as clients do, is known by the time of the sync."""
    token, address = site.mas.issue("mat", "user1", DEVICE), "203.0.113.3"
    path = f"{V3}/user/{quote(f'@user1:{SERVER_NAME}')}/filter"
    reply, answer = await site.ask("POST", path, token, {"room": {"timeline": {"limit": 5}}}, address=address)
    assert (reply.status, answer.worker) == (200, home("user1"))
    reply, answer = await site.ask("GET", f"{V3}/sync?timeout=0", token, address=address)
    assert (reply.status, answer.worker) == (200, sync_home("user1"))
    assert not site.asked_for(address)


@in_event_loop
async def test_whoever_writes_another_users_id_into_a_path_gets_nowhere_with_it(site: Site) -> None:
    """Synapse refuses it, and so nothing is learnt from it."""
    token, address = site.mas.issue("mat", "user2", DEVICE), "203.0.113.4"
    path = f"{V3}/user/{quote(f'@user4:{SERVER_NAME}')}/filter"
    reply, _ = await site.ask("POST", path, token, {}, address=address)
    assert reply.status == 403
    reply, answer = await site.ask("GET", f"{V3}/sync?timeout=0", token, address=address)
    assert (reply.status, answer.worker) == (200, sync_home("user2"))


@in_event_loop
async def test_a_token_of_nobody_is_refused_by_synapse_and_asked_for_once(site: Site) -> None:
    """The request goes on by its token; the next ones do too, without a question each."""
    token, address = site.mas.issue("mat", "nobody", DEVICE, lifetime=-1), "203.0.113.5"
    for _ in range(3):
        reply, _ = await site.ask("GET", f"{V3}/sync?timeout=0", token, address=address)
        assert (reply.status, reply.json["errcode"]) == (401, "M_UNKNOWN_TOKEN")
    assert len(await site.was_asked_for(address)) == 1


@in_event_loop
async def test_an_application_service_acts_where_its_users_belong(site: Site) -> None:
    """Its token is known from its registration, and `user_id` says for whom it acts; nobody is asked."""
    address = "203.0.113.6"
    for ghost in GHOSTS:
        content = {"username": ghost, "type": "m.login.application_service", "inhibit_login": True}
        reply, _ = await site.ask("POST", f"{V3}/register", AS_TOKEN, content, address=address)
        assert reply.status == 200, reply.body
        acting = quote(f"@{ghost}:{SERVER_NAME}")
        reply, answer = await site.ask("GET", f"{V3}/joined_rooms?user_id={acting}", AS_TOKEN, address=address)
        assert (reply.status, answer.worker) == (200, home(ghost)), reply.body
    assert not site.asked_for(address)


def test_no_token_was_logged(site: Site) -> None:
    """By the sidecar, in all of the above."""
    said = site.gateway.laboratory.layout.log("sidecar.three_lines").read_text()
    assert "listening on" in said
    assert not any(token in said for token in (*site.mas.introspections, AS_TOKEN, site.mas.secret))
