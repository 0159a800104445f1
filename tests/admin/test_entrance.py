"""The operator's listener as HTTP: passwords, bounds, and the fields that keep browsers from harm."""

from __future__ import annotations

import socket
from base64 import b64encode
from pathlib import Path

import pytest
from net.turns import logged_failures, port_of, spin, staged, turns
from twisted.internet.task import Clock

from admin.operated import CONFIGURATION, Operated, received
from sidecar.admin.listener import OperatorListener, OperatorSite
from sidecar.admin.operator_answer import OperatorAnswer
from sidecar.app.reload import Reload

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


def site_of(scene: Operated) -> OperatorSite:
    return next(each for each in scene.services if isinstance(each, OperatorListener)).site


@staged(Operated, more="operator: {connections: 2}\n")
async def test_connections_are_bounded(scene: Operated) -> None:
    """One more than `operator.connections` closes the one that has waited longest, so that nobody is kept out."""
    site = site_of(scene)
    slow, asking = scene.operator(), scene.operator()
    slow.sendall(b"GET / HT")
    while site.open < 2:
        await turns(1)
    assert (await scene.ask("GET", "/health"))[0] == 200
    assert await received(slow, lambda _: False) == b""
    asking.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await received(asking, lambda got: b"healthy" in got)).startswith(b"HTTP/1.1 200 ")
    while site.open > 1:
        await turns(1)


@staged(Operated, more="operator: {connections: 2, head: 1s}\n")
async def test_requests_have_to_be_complete_in_time(scene: Operated) -> None:
    """The time is that of the whole request, so that a byte now and then does not help; an answered one begins anew."""
    site = site_of(scene)
    clock = Clock()
    site.reactor = clock
    operator = scene.operator()
    for octet in b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n":
        operator.sendall(bytes([octet]))
        clock.advance(0.02)
        await turns(1)
    assert b"healthy" in await received(operator, lambda got: b"healthy" in got)
    clock.advance(30)
    operator.setblocking(True)
    operator.sendall(b"G")
    while not clock.getDelayedCalls():
        await turns(1)
    for octet in b"ET /health":
        operator.sendall(bytes([octet]))
        await turns(1)
        clock.advance(0.12)
    assert await received(operator, lambda _: False) == b""
    assert site.open == 0


@staged(Operated, address="tcp:0:interface=127.0.0.3", more="operator: {allow: [192.0.2.0/24]}\n")
async def test_who_may_not_is_not_taken(scene: Operated) -> None:
    """A connection from an address outside of `operator.allow` is closed before a byte is read, and takes no place."""
    listener = next(each for each in scene.services if isinstance(each, OperatorListener))
    assert listener.port is not None
    for _ in range(3):
        with socket.create_connection(("127.0.0.3", port_of(listener.port))) as stranger:
            assert await received(stranger, lambda _: False) == b""
    assert listener.site.open == 0


@staged(Operated, address="tcp:0:interface=127.0.0.3", more="operator: {allow: [127.0.0.0/8], connections: 3}\n")
async def test_a_hundred_slow_heads(scene: Operated) -> None:
    """They have their time, and whoever asks is answered all the same."""
    port = next(each for each in scene.services if isinstance(each, OperatorListener)).port
    assert port is not None
    address = ("127.0.0.3", port_of(port))
    for _ in range(100):
        slow = socket.create_connection(address)
        scene.clients.append(slow)
        slow.sendall(b"GET / HTTP/1.1\r\nHost")
        await turns(1)
    with socket.create_connection(address) as operator:
        operator.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await received(operator, lambda _: False)).startswith(b"HTTP/1.1 200 ")


@staged(Operated, more="operator: {actions: none}\n")
async def test_a_path_that_is_spelled_in_another_way(scene: Operated) -> None:
    """With `actions: none` it is refused as well, and without it works as the other."""
    for path in ("/%61pi/workers/sync1/drain", "/api/canary/0123456789abcdef0123456789abcdef/open"):
        status, told, _ = await scene.ask("POST", path)
        assert (status, told["error"]) == (403, "Nothing can be done here, because `operator.actions` is `none`.")
    assert not scene.sidecar.gateway.pools["sync1"].draining


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

    def fail(_: OperatorAnswer) -> bytes:
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
