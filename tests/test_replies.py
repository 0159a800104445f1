"""Replies of our own, octet for octet."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.config.schema import Sorry
from sidecar.errors import Fault
from sidecar.exchange.failures import Failure
from sidecar.exchange.replies import (
    CORS,
    RETRY_AFTER,
    STATUS_OF_FAULT,
    authored,
    failure_reply,
    refusal,
    response,
    status_of,
)
from sidecar.wire.head import ResponseHead
from sidecar.wire.reader import END, ReaderLimits, ResponseReader

TOLD = {failure: failure.status for failure in Failure if failure.status}
STATUSES = sorted({*TOLD.values(), *STATUS_OF_FAULT.values(), 403, 404, 429})


def read(octets: bytes, method: bytes = b"GET") -> tuple[int, dict[bytes, bytes], bytes]:
    """Status, fields and content as our own strict reader sees them; nothing may be left over."""
    reader = ResponseReader(ReaderLimits())
    reader.next_message(method, decoded=False)
    head, *content, end = reader.feed(octets)
    assert isinstance(head, ResponseHead)
    assert end is END
    assert not reader.excess
    assert len(head.fields.names) == len(set(head.fields.names))
    fields = {name: head.fields.get(name) or b"" for name in head.fields.names}
    return head.status, fields, b"".join(each for each in content if isinstance(each, bytes))


def test_a_refusal_is_these_octets() -> None:
    """Matrix JSON, readable across origins, delimited, and closing."""
    assert refusal(400, "Nein: \u201ex\u201c") == (
        b"HTTP/1.1 400 Bad Request\r\n"
        b"Content-Type: application/json\r\n"
        b"Access-Control-Allow-Origin: *\r\n"
        b"Access-Control-Allow-Methods: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH\r\n"
        b"Access-Control-Allow-Headers: X-Requested-With, Content-Type, Authorization, Date, *\r\n"
        b"Content-Length: 56\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b'{"errcode": "M_UNKNOWN", "error": "Nein: \\u201ex\\u201c"}'
    )


@pytest.mark.parametrize(
    ("failure", "status", "fault"),
    [
        (Failure.CLIENT_CUT, 400, False),
        (Failure.CLIENT_SLOW_HEAD, 408, False),
        (Failure.CLIENT_SLOW_BODY, 408, False),
        (Failure.BODY_TOO_LARGE, 413, False),
        (Failure.HEAD_TOO_LARGE, 431, False),
        (Failure.NO_WORKER, 503, True),
        (Failure.QUEUE_FULL, 429, True),
        (Failure.NO_TURN, 429, True),
        (Failure.WORKER_CUT, 502, True),
        (Failure.WORKER_INVALID, 502, True),
        (Failure.WORKER_SILENT, 504, True),
        (Failure.WORKER_STALLED, 504, True),
        (Failure.CLIENT_GONE, None, False),
        (Failure.CLIENT_STALLED, None, False),
        (Failure.ANSWER_CUT, None, True),
    ],
)
def test_what_a_failure_is_told_as(failure: Failure, status: int | None, fault: bool) -> None:
    """The status that docs/faults.md promises, and whether somebody should look at it."""
    assert (failure.status, failure.fault) == (status, fault)


@pytest.mark.parametrize("status", STATUSES)
def test_every_refusal_is_matrix_json_of_the_length_that_it_says(status: int) -> None:
    """errcode and error, CORS, Content-Length, and a reason phrase."""
    octets = refusal(status, 'a "sentence"', close=False)
    assert octets.startswith(b"HTTP/1.1 %d " % status)
    assert octets.partition(b"\r\n")[0][13:].strip()
    got, fields, content = read(octets)
    body = json.loads(content)
    assert (got, body["error"], body["errcode"][:2]) == (status, 'a "sentence"', "M_")
    assert fields[b"access-control-allow-origin"] == b"*"
    assert fields[b"content-type"] == b"application/json"
    assert b"connection" not in fields
    assert (b"allow" in fields) is (status == 405)
    assert fields.get(b"retry-after") == (b"%d" % RETRY_AFTER if status in (429, 503) else None)
    assert body.get("retry_after_ms") == (1000 * RETRY_AFTER if status == 429 else None)


@pytest.mark.parametrize(
    ("status", "errcode"),
    [
        (400, "M_UNKNOWN"),
        (403, "M_FORBIDDEN"),
        (404, "M_UNRECOGNIZED"),
        (405, "M_UNRECOGNIZED"),
        (408, "M_UNKNOWN"),
        (413, "M_TOO_LARGE"),
        (414, "M_TOO_LARGE"),
        (417, "M_UNRECOGNIZED"),
        (429, "M_LIMIT_EXCEEDED"),
        (418, "M_UNKNOWN"),
        (431, "M_TOO_LARGE"),
        (501, "M_UNRECOGNIZED"),
        (503, "M_UNKNOWN"),
        (505, "M_UNRECOGNIZED"),
    ],
)
def test_the_errcode_fits_the_status(status: int, errcode: str) -> None:
    """Client-server API, standard error response; what has none is unknown."""
    assert json.loads(read(refusal(status, "x"))[2])["errcode"] == errcode


def test_retry_after_is_what_is_asked_for() -> None:
    """In seconds, with any status."""
    assert read(refusal(503, "x", retry_after=7))[1][b"retry-after"] == b"7"
    assert read(refusal(429, "x", retry_after=0))[1][b"retry-after"] == b"0"


@pytest.mark.parametrize("status", STATUSES)
def test_an_answer_to_head_has_the_fields_and_no_content(status: int) -> None:
    """RFC 9110 9.3.2."""
    whole = refusal(status, "x")
    head = refusal(status, "x", head=True)
    assert head == whole.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert read(head, b"HEAD")[1] == read(whole)[1]


@pytest.mark.parametrize("status", [204, 304])
def test_some_statuses_have_no_content_and_no_length(status: int) -> None:
    """RFC 9110 6.4.1, 8.6: whatever is given."""
    got, fields, content = read(response(status, [("X", "y")], b"lost", close=False))
    assert (got, fields, content) == (status, {b"x": b"y"}, b"")


@given(
    st.sampled_from([200, 299, 302, 404, 599]),
    st.lists(
        st.tuples(st.sampled_from(["A", "B", "Location"]), st.text("abc/:\xe9 ", max_size=5)),
        max_size=3,
        unique_by=lambda f: f[0],
    ),
    st.binary(max_size=40),
    st.booleans(),
)
def test_a_response_arrives_as_it_was_meant(
    status: int, fields: list[tuple[str, str]], content: bytes, close: bool
) -> None:
    """Fields in order, content in full, and whether the connection ends."""
    octets = response(status, fields, content, close=close)
    got, read_fields, read_content = read(octets)
    expected = {name.lower().encode(): value.strip(" ").encode("latin-1") for name, value in fields}
    expected[b"content-length"] = b"%d" % len(content)
    if close:
        expected[b"connection"] = b"close"
    assert (got, list(read_fields.items()), read_content) == (status, list(expected.items()), content)


def test_every_fault_has_a_status() -> None:
    """The only place where faults meet statuses leaves none out."""
    assert set(STATUS_OF_FAULT) == set(Fault)


def test_every_failure_that_is_told_has_a_status() -> None:
    """All but those of which nobody is left to be told, or too late."""
    assert set(Failure) - set(TOLD) == {
        Failure.CLIENT_GONE,
        Failure.CLIENT_STALLED,
        Failure.ANSWER_CUT,
    }


def test_an_authored_response_can_be_read_across_origins() -> None:
    """With the lines of any other reply, but for those that the operator wrote; HEAD has the same fields."""
    given = [("Content-Type", "application/json"), ("access-control-allow-origin", "https://app.example.org")]
    status, fields, content = read(authored(200, given, b"{}", close=False))
    assert (status, content) == (200, b"{}")
    assert fields[b"access-control-allow-origin"] == b"https://app.example.org"
    assert {name.lower().encode() for name, _ in CORS} <= fields.keys()
    assert read(authored(200, given, b"{}", close=False, head=True), b"HEAD")[1] == fields


def test_a_page_is_shown_for_what_is_no_fault_of_the_client() -> None:
    """With the status of the failure, and never kept; a client's own fault stays a Matrix error."""
    page = Sorry(type="text/html", body="<p>Sorry</p>")
    status, fields, content = read(failure_reply(Failure.NO_WORKER, head=False, page=page))
    assert (status, content) == (503, b"<p>Sorry</p>")
    assert (fields[b"content-type"], fields[b"cache-control"], fields[b"retry-after"]) == (
        b"text/html",
        b"no-store",
        b"2",
    )
    assert read(failure_reply(Failure.WORKER_SILENT, head=False, page=page))[0] == 504
    assert b"M_TOO_LARGE" in failure_reply(Failure.BODY_TOO_LARGE, head=False, page=page)
    assert failure_reply(Failure.NO_WORKER, head=True, page=page).endswith(b"\r\n\r\n")


def test_a_client_is_told_that_it_was_too_many() -> None:
    """Unless it is another server, which would take 429 for an error of its own."""
    assert read(failure_reply(Failure.QUEUE_FULL, head=False))[0] == 429
    assert read(failure_reply(Failure.QUEUE_FULL, head=False, federation=True))[0] == 503


@pytest.mark.parametrize("failure", TOLD)
def test_a_preflight_never_fails(failure: Failure) -> None:
    """A browser hides the answer to a request whose preflight failed, and with it why there is none."""
    status, fields, content = read(failure_reply(failure, head=False, preflight=True), b"OPTIONS")
    assert (status, content, fields[b"access-control-allow-origin"]) == (204, b"", b"*")
    assert status_of(failure, federation=False, preflight=True) == 204


@pytest.mark.parametrize("failure", TOLD)
def test_another_server_is_never_told_that_it_asks_too_much(failure: Failure) -> None:
    """It would stay away for long; everything else it is told as clients are."""
    assert status_of(failure, federation=False, preflight=False) == failure.status
    assert status_of(failure, federation=True, preflight=False) == (503 if failure.status == 429 else failure.status)
