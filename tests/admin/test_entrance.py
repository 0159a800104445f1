"""The operator's listener as HTTP: passwords, bounds, and the fields that keep browsers from harm."""

from __future__ import annotations

import socket
from base64 import b64encode
from pathlib import Path

import pytest
from net.turns import logged_failures, spin, staged, turns
from operated import CONFIGURATION, Operated, received

from sidecar.admin.answers import Answer
from sidecar.admin.listener import OperatorListener, OperatorSite
from sidecar.reload import Reload

PASSWORD = "operator: {user: ops, password_file: password, attempts: 2}\n"
RIGHT = f"Authorization: Basic {b64encode(b'ops:sesame').decode()}"
WRONG = f"Authorization: Basic {b64encode(b'ops:sesam').decode()}"


class Guarded(Operated):
    """With a password in a file."""

    def __init__(self, directory: Path) -> None:
        (directory / "password").write_text("sesame\n")
        super().__init__(directory, PASSWORD)


@staged(Guarded)
async def test_a_password(scene: Operated) -> None:
    """Asked for everywhere but by the probes; too many wrong ones are not looked at, and harm nobody who is in."""
    assert (await scene.ask("GET", "/health"))[0] == 200
    assert (await scene.ask("GET", "/ready"))[0] == 200
    for method, path in (("GET", "/"), ("GET", "/api/status"), ("GET", "/x"), ("POST", "/api/workers/sync1/drain")):
        status, told, head = await scene.ask(method, path)
        assert (status, told) == (401, {"error": "This needs the operator's name and password."})
        assert '\r\nWWW-Authenticate: Basic realm="matrix-sidecar", charset="UTF-8"' in head
    assert not scene.sidecar.gateway.pools["sync1"].draining
    assert (await scene.ask("GET", "/api/status", RIGHT))[0] == 200
    assert [(await scene.ask("GET", "/api/status", WRONG))[0] for _ in range(3)] == [401, 401, 429]
    assert (await scene.ask("POST", "/api/workers/sync1/drain", RIGHT))[0] == 200
    assert scene.sidecar.gateway.pools["sync1"].draining


@staged(Operated, more="operator: {actions: none}\n")
async def test_a_listener_that_does_nothing(scene: Operated) -> None:
    """With `actions: none` it is for looking only."""
    status, told, _ = await scene.ask("POST", "/api/workers/sync1/drain")
    assert (status, told["error"]) == (403, "Nothing can be done here, because `operator.actions` is `none`.")
    assert not scene.sidecar.gateway.pools["sync1"].draining


@staged(Guarded)
async def test_what_a_reload_changes(scene: Guarded) -> None:
    """The rules of the new file hold from the next request on; a password that was right before is asked for anew."""
    reload = next(each for each in scene.services if isinstance(each, Reload))
    assert (await scene.ask("GET", "/api/status", RIGHT))[0] == 200
    (scene.directory / "password").write_text("changed\n")
    reload.use(reload.read())
    assert (await scene.ask("GET", "/api/status", RIGHT))[0] == 401
    (scene.directory / "sidecar.yaml").write_text(CONFIGURATION + "operator: {actions: none}\n")
    reload.use(reload.read())
    assert (await scene.ask("GET", "/api/status"))[0] == 200
    assert (await scene.ask("POST", "/api/workers/sync1/drain"))[0] == 403


@staged(Operated)
async def test_fields_of_every_answer(scene: Operated) -> None:
    """No answer can be framed, sniffed, kept, or made to load anything from elsewhere."""
    for method, path in (("GET", "/health"), ("GET", "/elsewhere"), ("HEAD", "/ready"), ("DELETE", "/ready")):
        _, _, head = await scene.ask(method, path)
        (policy,) = [line for line in head.split("\r\n") if line.startswith("Content-Security-Policy: ")]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert "\r\nX-Content-Type-Options: nosniff" in head
        assert "\r\nCache-Control: no-store" in head


@staged(Operated, more="operator: {request: 1K}\n")
async def test_bodies_are_bounded(scene: Operated) -> None:
    """A body that is announced too large, or grows too large, ends the connection with 413; another is read."""
    path = "/api/workers/sync1/drain"
    assert (await scene.ask("POST", path, body="x" * 1024))[0] == 200
    assert (await scene.say("POST", path.replace("drain", "undrain"), body="x" * 1025))[0] == 413
    assert scene.sidecar.gateway.pools["sync1"].draining
    operator = scene.operator()
    operator.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
    for _ in range(3):
        operator.sendall(b"180\r\n" + b"x" * 0x180 + b"\r\n")
        await turns(2)
    assert (await received(operator, lambda _: False)).startswith(b"HTTP/1.1 413 ")


@staged(Operated, more="operator: {connections: 2}\n")
async def test_connections_are_bounded(scene: Operated) -> None:
    """One more than `operator.connections` is closed; when another has ended there is room again."""
    first, second = scene.operator(), scene.operator()
    site = next(each for each in scene.services if isinstance(each, OperatorListener)).site
    while site.open < 2:
        await turns(1)
    assert await received(scene.operator(), lambda _: False) == b""
    first.close()
    while site.open > 1:
        await turns(1)
    assert (await scene.ask("GET", "/health"))[0] == 200
    second.close()


@staged(Operated)
async def test_who_goes_before_the_answer(scene: Operated) -> None:
    """A connection that is gone while a password is looked at costs nothing but that."""
    listener = next(each for each in scene.services if isinstance(each, OperatorListener))
    with scene.operator() as operator:
        operator.sendall(b"GET /api/status HTTP/1.1\r\nHost: x\r\n\r\n")
        operator.shutdown(socket.SHUT_WR)
    while listener.site.open:
        await turns(1)
    assert (await scene.ask("GET", "/health"))[0] == 200


def test_an_answer_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fault of ours is told without its text, and logged."""

    def fail(_: Answer) -> bytes:
        raise KeyError("secret")

    async def scenario() -> None:
        scene = Operated(tmp_path)
        try:
            monkeypatch.setattr("sidecar.admin.operations.status", fail)
            with logged_failures() as failures:
                status, told, _ = await scene.ask("GET", "/api/status")
                assert (status, told) == (500, {"error": "This failed; the log says why."})
                assert [failure.type for failure in failures] == [KeyError]
                failures.clear()
        finally:
            await scene.strike()

    with pytest.raises(AssertionError, match="secret"):
        spin(scenario())


def test_http_2_is_never_offered() -> None:
    """Also where the library for it is installed."""
    assert OperatorSite.acceptableProtocols(OperatorSite.__new__(OperatorSite)) == [b"http/1.1"]
