"""The sidecar as a module in a real Synapse: clients on its port, its start, reload and end, and what may be wrong.

One Synapse for all tests, which run in this order; some of them start a process of it anew.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from .children import ask
from .clients import Person, got, in_event_loop, nio, people, say, seen, shared_room, synced, witness_of
from .laboratory import PASSWORD, Gateway, Laboratory, free_port, running_synapse
from .services import Services
from .synapse_files import write_last
from .topology import GENERIC

LIMIT = 30.0


@frozen
class Hosted:
    """A Synapse with the module in its homeserver.yaml."""

    gateway: Gateway
    admin: int
    file: Path

    @property
    def laboratory(self) -> Laboratory:
        return self.gateway.laboratory

    def configure(self, **config: Any) -> None:
        """For the next start of any process."""
        write_last(self.laboratory.layout, modules(**config))

    def log(self, process: str = "main") -> str:
        return self.laboratory.layout.log(process).read_text()

    def says(self, pattern: str, process: str = "main") -> None:
        """Wait until a process has logged this."""
        deadline = time.monotonic() + LIMIT
        while not re.search(pattern, self.log(process)):
            assert time.monotonic() < deadline, f"{process} did not log {pattern!r}:\n{self.log(process)[-3000:]}"
            time.sleep(0.02)


def modules(**config: Any) -> dict[str, Any]:
    return {"modules": [{"module": "sidecar.synapse_module.Sidecar", "config": config}]}


def at(port: int) -> str:
    return f"tcp:{port}:interface=127.0.0.1"


@pytest.fixture(scope="module")
def hosted(services: Services) -> Iterator[Hosted]:
    port, admin = free_port(), free_port()
    file = services.root / "inside.yaml"
    file.write_text("limits: {waiting: 999}\n")
    main, *workers = GENERIC.processes
    main = evolve(main, resources=(*main.resources, "metrics"))
    topology = evolve(GENERIC, name="inside", processes=(main, *workers))
    directory = str(services.root / topology.name / "etc" / "workers")
    shared = modules(listen=at(port), admin=at(admin), workers=directory, file=str(file)) | {"enable_metrics": True}
    with running_synapse(services, topology, shared) as laboratory:
        yield Hosted(Gateway(laboratory, "three_lines", port, laboratory.children["main"]), admin, file)


@in_event_loop
async def test_people_talk_through_it(hosted: Hosted) -> None:
    """Accounts, a room, messages and media; every request was answered by the process that should, main and workers."""
    async with people(hosted.gateway, "alice", "bob") as (alice, bob):
        room = await shared_room(alice, bob)
        await synced(bob, timeout=0)
        message = await say(alice, room, "hello from within")

        def heard(sync: Any) -> str | None:
            joined = sync.rooms.join.get(room)
            events = joined.timeline.events if joined else []
            return next((event.event_id for event in events if isinstance(event, nio.RoomMessageText)), None)

        assert await seen(bob, heard) == message
        content = bytes(range(256)) * 1024
        response, _ = await alice.upload(
            io.BytesIO(content), "application/octet-stream", "a.bin", filesize=len(content)
        )
        uploaded = got(nio.UploadResponse, response).content_uri
        assert got(nio.MemoryDownloadResponse, await bob.download(uploaded)).body == content
        workers = {answer.worker for answer in await alice.witness.check()}
        assert "main" in workers
        assert len(workers) > 1


def test_it_knows_this_synapse(hosted: Hosted) -> None:
    """It serves by the version that runs and by its own servlets, which are those of the release."""
    hosted.says(r" sidecar INFO .* listening on 127\.0\.0\.1:")
    assert "the servlets of main differ" not in hosted.log()
    status, answer = ask(("127.0.0.1", hosted.admin), "GET", "/api/status")
    told = json.loads(answer)
    assert (status, told["ready"]) == (200, True)
    assert set(told["workers"]) == {"main", "generic1", "generic2", "generic3"}


def test_its_metrics_are_among_synapse_s(hosted: Hosted) -> None:
    """One question answers for both, and what people did before was counted."""
    status, answer = ask(hosted.laboratory.layout.socket("main"), "GET", "/_synapse/metrics")
    told = answer.decode()
    assert status == 200
    assert "synapse_http_server_response_count_total{" in told
    counted = re.findall(r'^matrix_sidecar_requests_total\{.*endpoint="sync".*\} (\S+)$', told, re.MULTILINE)
    assert sum(map(float, counted)) > 0


def test_it_is_reloaded_with_synapse(hosted: Hosted) -> None:
    """SIGHUP makes Synapse read its logging anew, and the sidecar its files."""
    hosted.file.write_text("limits: {waiting: 998}\n")
    hosted.laboratory.children["main"].signal(signal.SIGHUP)
    hosted.says(r"reloaded: limits\.waiting: 998 \(before: 999\)")


@in_event_loop
async def test_it_ends_with_synapse(hosted: Hosted) -> None:
    """A poll that waits when the process is told to end is answered in full; then both are gone, in good order."""
    laboratory = hosted.laboratory
    witness = witness_of(hosted.gateway)
    carol, dave = Person(witness, "carol"), Person(witness, "dave")
    try:
        for person in (carol, dave):
            got(nio.RegisterResponse, await person.register(person.user, PASSWORD))
        room = await shared_room(carol, dave)
        await synced(dave, timeout=0)
        since = (await synced(dave, timeout=0)).next_batch
        poll = asyncio.ensure_future(dave.ask("GET", f"/_matrix/client/v3/sync?since={since}&timeout=20000"))
        await asyncio.sleep(0)
        await witness.logs.received_by(witness.newest)
        laboratory.children["main"].signal(signal.SIGTERM)
        await asyncio.to_thread(hosted.says, r"waiting for \d connections? to end")
        target = f"/_matrix/client/v3/rooms/{room}/send/m.room.message/1"
        content = {"msgtype": "m.text", "body": "last words"}
        sent = await asyncio.to_thread(
            ask, laboratory.layout.socket("generic1"), "PUT", target, content, token=carol.access_token
        )
        assert sent[0] == 200
        reply = await poll
        assert "last words" in reply.body.decode()
    finally:
        for person in (carol, dave):
            await person.close()
    assert laboratory.children["main"].ends(LIMIT)
    assert not re.search(r"Traceback|Unhandled", hosted.log())


def test_a_fault_in_its_configuration(hosted: Hosted) -> None:
    """Synapse starts without it, and logs the sentence with file, line and key."""
    hosted.configure(lisen=at(hosted.gateway.port))
    hosted.laboratory.start("main")
    hosted.says(
        r"without its sidecar: /\S*/conf\.d/zz\.yaml:4: modules\[0\]\.config\.lisen: unknown key; did you mean `listen`"
    )
    with pytest.raises(ConnectionRefusedError):
        ask(("127.0.0.1", hosted.gateway.port), "GET", "/_matrix/client/versions")


def test_a_worker_as_host(hosted: Hosted) -> None:
    """The process that `processes` names runs it; where that cannot listen, it says so and does its own work."""
    laboratory, port = hosted.laboratory, hosted.gateway.port
    taken, workers = laboratory.layout.socket("generic3"), str(laboratory.layout.workers)
    hosted.configure(listen=[at(port), f"unix:{taken}/none"], processes="generic2", workers=workers)
    laboratory.restart("generic2")
    hosted.says(r"without its sidecar: cannot listen on unix:\S+: Not a directory", "generic2")
    hosted.configure(listen=at(port), processes="generic2", workers=workers)
    laboratory.restart("generic2")
    hosted.says(r"listening on 127\.0\.0\.1:\d+", "generic2")
    assert "the servlets of generic2 differ" not in hosted.log("generic2")
    assert ask(("127.0.0.1", port), "GET", "/_matrix/client/v3/login")[0] == 200
    laboratory.restart("generic1")
    hosted.says("the sidecar runs inside generic2, not in generic1", "generic1")
