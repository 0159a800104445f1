"""What is read in short because it is usual is read as at length."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.errors import WireError
from sidecar.wire import head as heads
from sidecar.wire.head import RequestHead
from sidecar.wire.reader import END, ReaderLimits, RequestReader

METHODS = st.sampled_from([b"GET", b"PUT", b"POST", b"OPTIONS", b"CONNECT", b"TRACE", b"BREW", b"get", b"", b"G ET"])
OCTETS = b"/abc?=&%3A#\x7f\xff \t\r\n!@:*"
TARGETS = st.builds(
    bytes.__add__, st.sampled_from([b"/", b"", b"*", b"http://h/"]), st.lists(st.sampled_from(OCTETS)).map(bytes)
)
VERSIONS = st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"http/1.1", b"HTTP/1.1 ", b""])
SECTIONS = st.sampled_from(
    [
        b"\r\nHost: h\r\n\r\n",
        b"\r\nHost: h\r\nConnection: close\r\n\r\n",
        b"\r\nHost: h\r\nContent-Length: 3\r\n\r\n",
        b"\r\n\r\n",
        b"\r\nHost: h\n\r\n\r\n",
        b"\rHost: h\r\n\r\n",
    ]
)
HEADS = st.builds(lambda *words: b" ".join(words[:3]) + words[3], METHODS, TARGETS, VERSIONS, SECTIONS)


def judged(raw: bytes) -> Any:
    """What a head is, or why it is none."""
    try:
        head = RequestHead(raw)
    except WireError as error:
        return error.fault, str(error)
    names = ("method", "target", "origin", "http11", "persistent", "length", "upgrade")
    return {**{name: getattr(head, name) for name in names}, "passed on": head.passed_on(b"X: y\r\n")}


@given(HEADS)
def test_a_usual_request_line_is_one(raw: bytes) -> None:
    """Without the short look, the grammar says the same of every line."""
    short = judged(raw)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(heads, "_USUAL", frozenset())
        assert judged(raw) == short


@given(st.lists(HEADS, min_size=1, max_size=3).map(b"".join), st.integers(0, 3))
def test_a_whole_request_is_one(octets: bytes, cut: int) -> None:
    """What is taken for a whole request without content is one, and nothing else; otherwise nothing has happened."""
    octets = octets[: len(octets) - cut]
    reader, other = RequestReader(ReaderLimits()), RequestReader(ReaderLimits())
    head = reader.whole(octets)
    try:
        events = other.feed(octets)
    except WireError:
        events = []
    if head is None:
        assert (reader.ended, reader.buffered, reader.in_head) == (False, 0, False)
        assert not (len(events) == 2 and events[1] is END and not other.buffered) or octets[:1] == b"\r"
    else:
        first, end = events
        assert isinstance(first, RequestHead)
        assert (end, other.buffered, reader.ended) == (END, 0, True)
        assert first.passed_on(b"") == head.passed_on(b"")
