"""Which Synapse runs: asked at the start, and again by a running sidecar, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from socket import socket
from typing import Any

import pytest
from net.peers import Peer, Worker, connected
from net.turns import observe, reactor, staged, turns
from processes import PlainWorker
from twisted.logger import LogEvent

from sidecar.app.reload import Reload
from sidecar.app.service import SidecarService
from sidecar.app.version_watch import VersionWatch
from sidecar.app.work import work_of
from sidecar.loading.deployment import Deployment, read_deployment, read_for_running_synapse
from sidecar.synapse.asker import PATH
from sidecar.wire.fields import FieldSection

OLD, NEW = "1.120.2", "1.163.2"
QUESTION = f"GET {PATH} HTTP/1.1\r\n".encode()
LOGOUT = b"POST /_matrix/client/v3/logout HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
LONG = 30.0
"""Seconds that no test takes."""


def configured(directory: Path, version: str | None = None, *, files: bool = False) -> partial[Deployment]:
    """A main process and a worker, and no version unless one is stated; what reads them.

    With `files`, main is also in a file of Synapse's.
    """
    path = directory / "sidecar.yaml"
    stated = f'synapse: {{version: "{version}"}}\n' if version else ""
    if files:
        stated = "synapse: {config: homeserver.yaml}\n"
        (directory / "homeserver.yaml").write_text(
            "server_name: x\nreport_stats: false\nlisteners:\n"
            f"  - {{type: http, path: {directory}/main.sock, resources: [{{names: [client, federation]}}]}}\n"
        )
    path.write_text(
        'listen: "tcp:0:interface=127.0.0.1"\n' + stated + "workers:\n"
        '  main: {endpoint: "unix:main.sock"}\n  worker1: {endpoint: "unix:worker1.sock", serves: [client]}\n'
    )
    return partial(read_deployment, str(path))


def says(version: str) -> bytes:
    content = json.dumps({"server": {"name": "Synapse", "version": version}}).encode()
    return b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(content), content)


class Running:
    """A sidecar that was started with Synapse `told`, and keeps watch; main is there unless `away`."""

    def __init__(
        self,
        directory: Path,
        *,
        told: str | None = OLD,
        stated: str | None = None,
        away: bool = False,
        files: bool = False,
        timeout: float = LONG,
    ) -> None:
        self.directory = directory
        self.messages: list[str] = []
        self._unobserve = observe(self._note)
        read = configured(directory, stated, files=files)
        deployment = read(version=told)
        self.service = SidecarService(work_of(deployment), reactor)
        self.reload = Reload(self.service, deployment, read, reactor)
        self.watch = VersionWatch(self.reload, reactor, timeout)
        self.mains: list[Worker] = []
        self.clients: list[Peer] = []
        if not away:
            self.start_main()
        for each in (self.service, self.reload, self.watch):
            each.startService()

    def _note(self, event: LogEvent) -> None:
        if event.get("log_namespace") == "sidecar" and "{error}" in str(event.get("log_format")):
            self.messages.append(str(event["error"]))

    def start_main(self) -> None:
        self.mains.append(Worker(self.directory / "main.sock", healthy=True).start())

    async def request(self) -> Peer:
        """A client that has sent a request which only main serves."""
        client = await connected(self.service.ports[0])
        self.clients.append(client)
        client.send(LOGOUT)
        return client

    async def arrivals(self, count: int) -> tuple[list[Peer], list[Peer]]:
        """The next `count` connections to the newest main, those that ask for the version and the others."""
        questions: list[Peer] = []
        requests: list[Peer] = []
        for _ in range(count):
            peer = await self.mains[-1].connection()
            asks = (await peer.head()).startswith(QUESTION)
            (questions if asks else requests).append(peer)
        return questions, requests

    async def question(self) -> Peer:
        (questions, requests) = await self.arrivals(1)
        assert not requests
        return questions[0]

    async def until(self, condition: Callable[[], Any]) -> None:
        while not condition():
            await turns(1)

    @property
    def deletes_device(self) -> str:
        """Who deletes a device, which workers can since 1.130."""
        return self.service.gateway.decide(
            b"DELETE", b"/_matrix/client/v3/devices/d", FieldSection(b"\r\n\r\n"), "192.0.2.1", "http"
        ).candidates[0]

    async def strike(self) -> None:
        self._unobserve()
        for main in self.mains:
            await main.stop()
        for peer in (*self.clients, *(peer for main in self.mains for peer in main.accepted)):
            if not peer.gone:
                peer.reset()
                await peer.vanishes()
        for each in (self.watch, self.reload, self.service):
            if each.running:
                await _ended(each)


async def _ended(service: Any) -> None:
    stopped = service.stopService()
    if stopped is not None:
        await stopped


# -- while the sidecar runs


@staged(Running, away=True)
async def test_asks_when_main_has_come_back(running: Running) -> None:
    """An upgrade takes main away; what it says when it is back decides which endpoints it is asked for."""
    assert running.deletes_device == "main"
    client = await running.request()
    await running.until(lambda: running.service.gateway.pools["main"].down)
    running.start_main()
    (question,), (request,) = await running.arrivals(2)
    request.send(OK)
    await client.gets(OK)
    question.send(says(NEW))
    await running.until(lambda: running.deletes_device == "worker1")
    assert running.reload.deployment.table.asked == NEW
    assert running.service.gateway.pools["main"].on_new_life == running.watch.ask


@staged(Running)
async def test_asks_when_the_socket_of_main_is_another_one(running: Running) -> None:
    """A main process that is back before anybody missed it is noticed by its new socket."""
    await running.request()
    questions, _ = await running.arrivals(1)
    assert not questions
    await running.mains[0].stop()
    running.start_main()
    await running.request()
    (question,), _ = await running.arrivals(2)
    question.send(says(NEW))
    await running.until(lambda: running.deletes_device == "worker1")


@staged(Running)
async def test_the_same_version_changes_nothing(running: Running) -> None:
    """A mere restart leaves everything in place."""
    before = running.reload.deployment
    running.watch.ask()
    question = await running.question()
    question.send(says(OLD))
    await question.vanishes()
    await turns()
    assert running.reload.deployment is before


@staged(Running, stated=OLD, away=True)
async def test_a_stated_version_is_not_asked_for(running: Running) -> None:
    """Who states a version gets that one's endpoints, whatever runs."""
    client = await running.request()
    await running.until(lambda: running.service.gateway.pools["main"].down)
    running.start_main()
    questions, (request,) = await running.arrivals(1)
    request.send(OK)
    await client.gets(OK)
    running.watch.ask()
    await turns(20)
    assert not questions
    assert len(running.mains[0].accepted) == 1
    assert running.deletes_device == "main"


@staged(Running)
async def test_a_version_stated_by_a_reload_wins(running: Running) -> None:
    """An answer that comes after a reload has stated a version is not used, and nobody asks again."""
    running.watch.ask()
    question = await running.question()
    running.reload.use(configured(running.directory, OLD)())
    assert running.service.gateway.pools["main"].on_new_life is None
    question.send(says(NEW))
    await question.vanishes()
    await turns()
    assert running.deletes_device == "main"


@staged(Running)
async def test_one_question_at_a_time(running: Running) -> None:
    """Main is not asked twice at once; it is once more if it began anew while an answer was awaited."""
    for _ in range(3):
        running.watch.ask()
    first = await running.question()
    await turns(20)
    assert len(running.mains[0].accepted) == 1
    first.send(says(OLD))
    second = await running.question()
    second.send(says(NEW))
    await running.until(lambda: running.deletes_device == "worker1")
    await turns(20)
    assert len(running.mains[0].accepted) == 2


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
        says(NEW)[:-9],
    ],
)
@staged(Running)
async def test_failures_are_logged_once(running: Running, answer: bytes) -> None:
    """Whatever goes wrong is told in one line until something succeeds, and leaves everything in place."""
    for _ in range(2):
        running.watch.ask()
        question = await running.question()
        question.send(answer)
        question.close()
        await question.vanishes()
        await turns(20)
    assert len(running.messages) == 1
    assert running.messages[0]
    assert running.deletes_device == "main"
    running.watch.ask()
    (await running.question()).send(says(NEW))
    await running.until(lambda: running.deletes_device == "worker1")


@staged(Running, away=True)
async def test_nobody_there(running: Running) -> None:
    """A question to a process that is gone again fails quietly."""
    running.watch.ask()
    await running.until(lambda: running.messages)
    assert running.deletes_device == "main"


@staged(Running)
async def test_an_answer_without_a_version_changes_nothing(running: Running) -> None:
    """Something else than Synapse in main's place is not a failure."""
    running.watch.ask()
    question = await running.question()
    question.send(b"HTTP/1.1 404 Not Found\r\nServer: else\r\nContent-Length: 0\r\n\r\n")
    await question.vanishes()
    await turns()
    assert not running.messages
    assert running.deletes_device == "main"


@staged(Running, timeout=0.05)
async def test_silence(running: Running) -> None:
    """A main process that takes the question and says nothing is not waited for without end."""
    running.watch.ask()
    question = await running.question()
    question.send(says(NEW)[:-9])
    await question.vanishes()
    await running.until(lambda: running.messages)
    assert running.deletes_device == "main"


@staged(Running, told=None, away=True, files=True, timeout=0.05)
async def test_asks_until_it_was_told_once(running: Running) -> None:
    """With no answer at the start main is asked without anybody's request, as often as it takes, and then no more."""
    await running.until(lambda: running.messages)
    running.start_main()
    (await running.question()).send(says(OLD))
    await running.until(lambda: running.deletes_device == "main")
    assert running.reload.deployment.table.asked == OLD
    assert len(running.messages) == 1
    await turns(20)
    assert not [call for call in reactor.getDelayedCalls() if call.func == running.watch._ask_now]


@staged(Running, told=None)
async def test_what_may_not_be_synapse_is_not_asked(running: Running) -> None:
    """A main process that is stated by hand, and told nothing at the start, gets the clients' requests only."""
    await running.request()
    questions, requests = await running.arrivals(1)
    assert (len(questions), len(requests)) == (0, 1)
    running.watch.ask()
    await turns(20)
    assert len(running.mains[0].accepted) == 1


@staged(Running, told=None, files=True)
async def test_asks_with_the_first_request_for_main(running: Running) -> None:
    """Who did not answer at the start is asked as soon as anybody reaches it, and not again for the next connection."""
    await running.request()
    questions, requests = await running.arrivals(2)
    assert (len(questions), len(requests)) == (1, 1)
    questions[0].send(says(NEW))
    await running.until(lambda: running.deletes_device == "worker1")
    await running.request()
    questions, _ = await running.arrivals(1)
    assert not questions


@staged(Running, told=None, away=True, files=True)
async def test_a_stop_ends_the_watch(running: Running) -> None:
    """Nothing is asked, and no timer left, when the service has stopped."""
    await _ended(running.watch)
    assert not [call for call in reactor.getDelayedCalls() if call.func == running.watch._ask_now]
    running.start_main()
    running.watch.ask()
    await turns(20)
    assert not running.mains[0].accepted


@staged(Running)
async def test_an_answer_after_a_stop_is_not_used(running: Running) -> None:
    """A stop while main is being asked changes nothing any more."""
    running.watch.ask()
    question = await running.question()
    await _ended(running.watch)
    question.send(says(NEW))
    await question.vanishes()
    await turns()
    assert running.deletes_device == "main"


# -- at the start


def main_that_says(path: Path, version: str) -> PlainWorker:
    def converse(connection: socket) -> None:
        received = b""
        while not received.endswith(b"\r\n\r\n"):
            received += connection.recv(65536)
        assert received.startswith(QUESTION)
        connection.sendall(says(version))

    return PlainWorker(path, converse)


@pytest.mark.parametrize(("version", "who"), [(OLD, "1.120"), (NEW, "1.163"), ("1.120.0rc1", "1.120")])
def test_a_start_asks_the_running_synapse(tmp_path: Path, version: str, who: str) -> None:
    """Where the file states no version, the endpoints are those of the Synapse that runs."""
    main = main_that_says(tmp_path / "main.sock", version)
    deployment = read_for_running_synapse(configured(tmp_path), LONG)
    main.close()
    assert main.failure is None
    assert (deployment.table.asked, deployment.table.release) == (version, who)


def test_a_start_with_a_stated_version_asks_nobody(tmp_path: Path) -> None:
    """A stated version holds although another one runs, and main is not even connected to."""
    main = main_that_says(tmp_path / "main.sock", NEW)
    deployment = read_for_running_synapse(configured(tmp_path, OLD), LONG)
    main.close()
    assert deployment.table.asked == OLD


def test_a_start_without_synapse_takes_the_newest_endpoints(tmp_path: Path) -> None:
    """A sidecar can be started before Synapse."""
    deployment = read_for_running_synapse(configured(tmp_path), LONG)
    assert deployment.table.asked is None
    assert deployment.table.release == deployment.table.newest
