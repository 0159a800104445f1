"""One request as `doctor` sends it: exactly as written, with what it says of the answer or of the silence."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest

from doctor.installation import Proxy
from sidecar.doctor.raw_request import Reply, ServerAddress, SilenceError, ask


def heard(method: str, target: str, **more: Any) -> bytes:
    """The head that comes of a request."""
    heads: list[bytes] = []

    def answer(head: bytes) -> bytes:
        heads.append(head)
        return b"HTTP/1.1 204 No Content\r\n\r\n"

    with Proxy(0, answer) as proxy:
        ask(
            ServerAddress(host="example.org", address="127.0.0.1", port=proxy.port, named_port=80),
            method,
            target,
            **more,
        )
    return heads[0]


def test_a_target_is_sent_as_it_is_given() -> None:
    """Nothing is decoded, encoded, merged or cut."""
    target = "/a%2Fb//c%21!d;e=f/%c3%bc?q=%2F&=&?"
    assert heard("GET", target).startswith(f"GET {target} HTTP/1.1\r\nHost: example.org\r\n".encode())
    assert heard("GET", "/a?").startswith(b"GET /a? HTTP/1.1\r\n")


def test_fields_and_length() -> None:
    """A body has its length, also where more is announced than sent; a GET has none."""
    assert b"\r\nContent-Length: 2" in heard("POST", "/", content=b"{}")
    assert b"\r\nContent-Length: 0" in heard("PUT", "/")
    assert b"\r\nContent-Length: 1000" in heard("POST", "/", content=b"{}", announced=1000)
    assert b"Content-Length" not in heard("GET", "/", fields=[("X-A", "b")])
    assert b"\r\nX-A: b\r\nConnection: close" in heard("GET", "/", fields=[("X-A", "b")])


@pytest.mark.parametrize(
    ("place", "named"),
    [
        (ServerAddress(socket="/run/x.sock"), "localhost"),
        (ServerAddress(host="example.org", port=80), "example.org"),
        (ServerAddress(host="example.org", port=8008), "example.org:8008"),
        (ServerAddress(host="::1", port=8008), "[::1]:8008"),
    ],
)
def test_the_name_in_host(place: ServerAddress, named: str) -> None:
    """With the port where it is not the usual one."""
    assert place.named == named


def silence(place: ServerAddress, **more: Any) -> SilenceError:
    with pytest.raises(SilenceError) as raised:
        ask(place, "GET", "/", **more)
    return raised.value


def test_nobody_listens() -> None:
    """In the words of the operating system."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert str(silence(ServerAddress(host="127.0.0.1", port=port))) == "connection refused"


def test_nobody_answers_in_time() -> None:
    """After how long is said."""
    waiting = threading.Event()

    def answer_nothing(_: bytes) -> None:
        waiting.wait(30)

    with Proxy(0, answer_nothing) as proxy:
        found = silence(ServerAddress(host="127.0.0.1", port=proxy.port), timeout=0.1)
        waiting.set()
    assert str(found) == "no response within 0 s"


def test_an_answer_that_is_no_http() -> None:
    """Such as that of another protocol, or of none."""
    with Proxy(0, lambda _: b"HTTP/banana\r\n\r\n") as proxy:
        assert "without an HTTP response" in str(silence(ServerAddress(host="127.0.0.1", port=proxy.port)))
    with Proxy(0, lambda _: None) as proxy:
        assert "without an HTTP response" in str(silence(ServerAddress(host="127.0.0.1", port=proxy.port)))


def test_a_name_that_leads_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the resolver says, which is not asked here; and one that can be no name at all."""

    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    assert str(silence(ServerAddress(host="a..b", port=1))) == "this is not a host name"
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert str(silence(ServerAddress(host="nowhere.invalid", port=1))) == "DNS does not know the name"


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff", b"[" * 100_000, b"nothing"])
def test_content_that_is_no_object_has_no_values(content: bytes) -> None:
    """Whatever a proxy answers."""
    reply = Reply(status=502, fields=(("Server", "nginx"),), content=content, seconds=0.1)
    assert (reply.values, reply.errcode, reply.told(), reply.by_synapse) == ({}, "", "502", False)
