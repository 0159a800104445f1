"""The id of a request: who may choose it, and what Synapse is sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.records.request_id import NewIds, RequestIds
from sidecar.wire.head import RequestHead

FORWARDED = b"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: http\r\n"
ACCEPTED = st.from_regex(rb"[A-Za-z0-9._:/+=@-]{1,128}", fullmatch=True)


def head(*lines: bytes, first: bytes = b"GET /a?b HTTP/1.1") -> RequestHead:
    return RequestHead(b"\r\n".join((first, b"Host: x", *lines, b"", b"")))


def sent(head: RequestHead, ids: RequestIds, *, trusted: bool) -> tuple[str, list[bytes]]:
    """The id, and the field lines that go on but for the forwarded ones."""
    request_id, raw = ids.settle(head, FORWARDED, trusted=trusted)
    assert raw.endswith(b"\r\n\r\n")
    first, *lines = raw[:-4].split(b"\r\n")
    assert first.split(b" ")[0] == head.method
    assert lines.count(b"X-Forwarded-For: 203.0.113.7") == 1
    return request_id, [line for line in lines if not line.startswith(b"X-Forwarded-")]


def test_made() -> None:
    """Where nobody says one, each request gets another; none before somebody is told of it."""
    new = NewIds("c0ffee")
    assert sent(head(), RequestIds((), new), trusted=True)[0] == ""
    ids = RequestIds(["X-Request-ID"], new)
    made = [sent(head(), ids, trusted=True)[0] for _ in range(20)]
    assert made[:2] == ["c0ffee-1", "c0ffee-2"]
    assert len({*made, ids.make(), new.make()}) == 22


@pytest.mark.parametrize("trusted", [True, False])
def test_not_told_where_synapse_does_not_read_it(trusted: bool) -> None:
    """Without `request_id_header` in Synapse's files the head goes on as if there were no ids."""
    ids = RequestIds((), NewIds("c0ffee"))
    request_id, lines = sent(head(b"x-request-ID: abc"), ids, trusted=trusted)
    assert lines == [b"Host: x", b"x-request-ID: abc"]
    assert request_id == ("abc" if trusted else "")


@given(ACCEPTED)
def test_a_trusted_peer_chooses(value: bytes) -> None:
    """Its line goes on untouched, in its place."""
    ids = RequestIds(["X-Request-ID"], NewIds("c0ffee"))
    request_id, lines = sent(head(b"x-request-id:  " + value, b"A: b"), ids, trusted=True)
    assert request_id == value.decode()
    assert lines == [b"Host: x", b"x-request-id:  " + value, b"A: b"]


@given(ACCEPTED)
def test_a_client_does_not(value: bytes) -> None:
    """Its line is cut, however it is spelled and however often it is there; ours is the only one."""
    ids = RequestIds(["X-Trace"], NewIds("c0ffee"))
    request_id, lines = sent(head(b"X-TRACE: " + value, b"A: b", b"x-trace:" + value), ids, trusted=False)
    assert request_id == "c0ffee-1"
    assert lines == [b"Host: x", b"A: b", b"X-Trace: c0ffee-1"]


@given(st.binary(max_size=200).filter(lambda octets: not set(octets) & set(b"\r\n") and octets.isascii()))
def test_what_is_not_accepted(value: bytes) -> None:
    """An empty id, a long one, or one that would break a line of a log, is replaced, whoever sends it."""
    value = bytes(octet for octet in value if 0x20 <= octet < 0x7F) + b' "'
    ids = RequestIds(["X-Request-ID"], NewIds("c0ffee"))
    request_id, lines = sent(head(b"X-Request-ID: " + value), ids, trusted=True)
    assert request_id == "c0ffee-1"
    assert lines == [b"Host: x", b"X-Request-ID: c0ffee-1"]


def test_two_lines_of_a_trusted_peer() -> None:
    """Synapse would take one of them; which one is not for us to guess."""
    ids = RequestIds(["X-Request-ID"], NewIds("c0ffee"))
    assert sent(head(b"X-Request-ID: a", b"X-Request-ID: b"), ids, trusted=True)[1] == [
        b"Host: x",
        b"X-Request-ID: c0ffee-1",
    ]


def test_processes_of_synapse_that_differ() -> None:
    """Each reads the name that its own listener has: the id is told under all of them, and read under the first."""
    ids = RequestIds(["X-One", "X-Two", "X-One"], NewIds("c0ffee"))
    request_id, lines = sent(head(b"X-Two: spoofed", b"X-One: abc"), ids, trusted=True)
    assert request_id == "abc"
    assert lines == [b"Host: x", b"X-One: abc", b"X-Two: abc"]
    assert sent(head(b"X-Two: spoofed"), ids, trusted=False)[1] == [
        b"Host: x",
        b"X-One: c0ffee-1",
        b"X-Two: c0ffee-1",
    ]


def test_other_heads() -> None:
    """HTTP/1.0, an upgrade, and a body keep what they need."""
    ids = RequestIds(["X-Request-ID"], NewIds("c0ffee"))
    old = head(b"X-Request-ID: abc", b"Expect: 100-continue", first=b"GET / HTTP/1.0")
    assert sent(old, ids, trusted=False)[1] == [b"Host: x", b"X-Request-ID: c0ffee-1"]
    upgrade = head(b"X-Request-ID: abc", b"Connection: upgrade", b"Upgrade: websocket")
    assert sent(upgrade, ids, trusted=False)[1] == [
        b"Host: x",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"X-Request-ID: c0ffee-2",
    ]
    body = head(b"Content-Length: 05", b"X-Request-ID: abc", first=b"PUT / HTTP/1.1")
    assert sent(body, ids, trusted=False)[1] == [b"Host: x", b"Content-Length: 5", b"X-Request-ID: c0ffee-3"]
