"""Workers that answer wrongly, partly, or without end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from socket import MSG_PEEK
from typing import NamedTuple

import pytest
from attrs import frozen
from processes import Running, connect

from .asking import CUT, Asked, answer_on, ask, request
from .liars import END, GOOD, Fault, Liar, endlessly, says
from .side_by_side import ALL, SIDECAR, WorkerProcess, in_front
from .stand_in import HALF

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
MEMORY = 24 * 1024 * 1024
"""Bytes by which endless answers may change the process, all of them together."""


class Case(NamedTuple):
    """A fault, and what the client of the sidecar may see of it."""

    fault: Fault
    seen: tuple[str, ...]


SOON_OR_LATE = ("502", CUT)
"""As the head of the answer came, or did not come, in the same piece as the fault."""

CASES = {
    "nothing, but a close": Case(says(), ("502",)),
    "half a status line": Case(says(b"HTTP/1.1 20"), ("502",)),
    "half a head": Case(says(HEAD + b"Content-Le"), ("502",)),
    "a body that is too short": Case(says(HEAD + b"Content-Length: 10\r\n\r\nabc"), (CUT,)),
    "chunks without an end": Case(says(CHUNKED + b"3\r\nabc\r\n"), (CUT,)),
    "half a chunk": Case(says(CHUNKED + b"5\r\nabc"), (CUT,)),
    "half the last chunk": Case(says(CHUNKED + b"3\r\nabc\r\n0\r\n"), (CUT,)),
    "garbage": Case(says(b"\x00\xff\xfe garbage\r\n\r\n", close=False), ("502",)),
    "another protocol": Case(says(b"SSH-2.0-OpenSSH_9.2\r\n", close=False), ("502",)),
    "garbage for a chunk": Case(says(CHUNKED + b"xyz\r\nabc\r\n", close=False), SOON_OR_LATE),
    "two lengths": Case(says(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk", close=False), ("502",)),
    "an answer too many": Case(says(GOOD + GOOD.replace(b"ok", b"NO"), close=False), ("200",)),
    "an endless status line": Case(endlessly(HEAD.strip(), b"k"), ("502",)),
    "endless fields": Case(endlessly(HEAD, b"X-Field: value\r\n"), ("502",)),
    "endless interim answers": Case(endlessly(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), ("502",)),
    "an endless chunk size": Case(endlessly(CHUNKED, b"0"), SOON_OR_LATE),
    "endless chunk extensions": Case(endlessly(CHUNKED + b"1", b";x=y"), SOON_OR_LATE),
    "endless trailers": Case(endlessly(CHUNKED + b"0\r\n", b"X-Field: value\r\n"), SOON_OR_LATE),
}


@frozen
class Scene:
    """One sidecar in front of a worker with all these faults."""

    liar: Liar
    sidecar: Running
    memory: int


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    place = tmp_path_factory.mktemp("answers")
    liar = Liar({target_of(name): case.fault for name, case in CASES.items()} | ENDLESS)
    worker = liar.at(place / "main.sock")
    with in_front(SIDECAR, place, place / "main.sock") as front:
        assert front.sidecar is not None
        for _ in range(20):
            assert ask(front.address, request("/good")).outcome == "200"
        yield Scene(liar, front.sidecar, front.sidecar.memory())
    worker.close()
    assert worker.failure is None


def target_of(name: str) -> str:
    return f"/_matrix/client/v3/{name.replace(' ', '_').replace(',', '')}"


ENDLESS = {
    "/endless/length": endlessly(HEAD + b"Content-Length: 999999999999\r\n\r\n", b"x"),
    "/endless/chunks": endlessly(CHUNKED, b"5\r\nabcde\r\n"),
    "/endless/close": endlessly(HEAD + END[2:], b"x"),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_a_client_sees(scene: Scene, name: str, method: str) -> None:
    """A 502 before anything was passed on, a visible cut afterwards; nobody else gets anything of that connection."""
    address, target = scene.sidecar.address(), target_of(name)
    asked = ask(address, request(target, method, b"{}" if method == "POST" else None))
    assert asked.outcome in CASES[name].seen, asked
    assert asked.body != b"NO"
    if asked.outcome == "502":
        assert b'"errcode"' in asked.body
    assert ask(address, request("/good")) == Asked("200", b"ok", ANY_FIELDS)
    assert scene.liar.after(target) == []


class _Any:
    def __eq__(self, other: object) -> bool:
        return True


ANY_FIELDS: str = _Any()  # type: ignore[assignment]


@pytest.mark.parametrize("target", ENDLESS)
def test_an_answer_without_end(scene: Scene, target: str) -> None:
    """It passes as long as somebody wants it; who leaves ends it at the worker; the memory stays what it was."""
    with connect(scene.sidecar.address()) as client:
        client.sendall(request(target))
        got = 0
        while got < 20_000_000:
            piece = client.recv(1 << 20)
            assert piece
            got += len(piece)
    assert ask(scene.sidecar.address(), request("/good")).outcome == "200"
    assert scene.liar.after(target) == []
    assert scene.sidecar.memory() - scene.memory < MEMORY


@pytest.mark.parametrize("name", ALL)
def test_killed_in_the_middle_of_a_body(name: str, place: Path, reached: Callable[..., None]) -> None:
    """Clients of a worker that is killed see that their answers are not whole; the next worker serves at once."""
    with WorkerProcess(place) as worker, in_front(name, place, worker.path) as front:
        clients = [connect(front.address) for _ in range(20)]
        for client in clients:
            client.sendall(request("/_matrix/client/v3/half"))
            assert client.recv(1, MSG_PEEK) == b"H"
        worker.kill()
        answers = [answer_on(client) for client in clients]
        for client in clients:
            client.close()
        visible = sum(answer.outcome == CUT and len(answer.body) <= HALF for answer in answers)
        reached("20 clients of a worker killed in the middle of its answers", name, f"{visible} see a cut")
        worker.start()
        assert visible == len(clients)
        if name == SIDECAR:
            assert ask(front.address, request("/good")).outcome == "200"
