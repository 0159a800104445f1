"""Requests in lines of text, and how they are treated: as the running sidecar treats the same octets."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import requests, spoilt

from sidecar.errors import WireError
from sidecar.exchange.replies import STATUS_OF_FAULT
from sidecar.explaining.rehearsal import Rehearsal, RequestText
from sidecar.explaining.request_lines import MOST, NoRequestError, answer_line, read_line
from sidecar.loading.deployment import Deployment, read_deployment
from sidecar.routing.decide import decide
from sidecar.routing.decision import Decision
from sidecar.routing.explain import as_json
from sidecar.wire.head import RequestHead
from sidecar.wire.reader import ReaderLimits, RequestReader

CONFIGURATION = """\
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: client}
  sync2: {endpoint: "unix:sync2.sock", serves: client}
  media1: {endpoint: "unix:media1.sock", serves: media}
pools: {media: {workers: media1, request_body: 20M}}
limits: {request_body: 10M}
forwarded: {trust: [127.0.0.1, 10.0.0.0/8]}
access: {admin: 192.0.2.0/24}
routes:
  - {host: hs1.test, path: "/a/{b}", refuse: 410}
"""


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    path: Path = tmp_path_factory.mktemp("configuration") / "sidecar.yaml"
    path.write_text(CONFIGURATION)
    return read_deployment(str(path))


@pytest.fixture(scope="module")
def rehearsal(deployment: Deployment) -> Rehearsal:
    return Rehearsal(deployment)


# Lines.

NGINX = '192.0.2.7 - alice [20/Nov/2026:12:50:14 +0000] "GET /x?a=\\x22b HTTP/2.0" 200 512 "-" "Element/1.12 (x)"'
HAPROXY = (
    "Feb  6 12:14:14 localhost haproxy[14389]: 2001:db8::1:33317 [06/Feb/2009:12:14:14.655] http-in static/srv1 "
    '10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 {1wt.eu} {} "PUT /index.html#22 HTTP/1.1"'
)


def uploaded(peer: str) -> RequestText:
    return RequestText("PUT", '/index.html"', [], peer)


AGENT = [("User-Agent", "Element/1.12 (x)")]


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        (NGINX, RequestText("GET", '/x?a="b', AGENT, "192.0.2.7")),
        (
            NGINX.replace("192.0.2.7", "example.org:443 2001:db8::2"),
            RequestText("GET", '/x?a="b', AGENT, "2001:db8::2"),
        ),
        (NGINX.replace("192.0.2.7", "unix:").replace("Element/1.12 (x)", "-"), RequestText("GET", '/x?a="b', [], "")),
        (NGINX.partition(' "-"')[0], RequestText("GET", '/x?a="b', [], "192.0.2.7")),
        (HAPROXY, uploaded("2001:db8::1")),
        (HAPROXY.partition("]: ")[2].replace("2001:db8::1", "192.0.2.1"), uploaded("192.0.2.1")),
        (HAPROXY.replace("2001:db8::1:33317", "unix:1"), uploaded("")),
        ('{"method": "GET", "target": "/"}', RequestText("GET", "/", (), "192.0.2.9")),
        (
            ' {"method": "GET", "target": "/", "headers": {}, "peer": null, "id": 7}',
            RequestText("GET", "/", (), "192.0.2.9"),
        ),
        ('{"method": "GET", "target": "/", "peer": "unix"}', RequestText("GET", "/", (), "")),
        ('{"method": "GET", "target": "/", "peer": "::1"}', RequestText("GET", "/", (), "::1")),
        (
            '{"method": "", "target": "", "headers": {"A": "b", "C": ["d", "e"]}}',
            RequestText("", "", [("A", "b"), ("C", "d"), ("C", "e")], "192.0.2.9"),
        ),
    ],
)  # fmt: skip
def test_lines_that_hold_a_request(line: str, asked: RequestText) -> None:
    """JSON, nginx and HAProxy, with what may vary in them."""
    assert read_line(line.encode() + b"\n", "192.0.2.9") == asked


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"\n", "the line is empty"),
        (b"\xff", "not UTF-8"),
        (b"a" * (MOST + 1), "longer than"),
        (b"sesame", "neither a JSON object nor one of an access log"),
        (b"[1]", "neither a JSON object"),
        (b'{"method": "sesame}', "not JSON at column"),
        (b'{"method": ' + b"[" * 100_000, "not JSON"),
        (b'{"method": ' + b"1" * 10_000 + b"}", "not JSON"),
        (b'{"method": "GET"}', "`method` and `target`"),
        (b'{"method": 1, "target": "/"}', "`method` and `target`"),
        (b'{"method": "GET", "target": "/", "peer": "sesame"}', "`peer` must be"),
        (b'{"method": "GET", "target": "/", "peer": 7}', "`peer` must be"),
        (b'{"method": "GET", "target": "/", "headers": ["sesame"]}', "`headers` must be an object"),
        (b'{"method": "GET", "target": "/", "headers": {"sesame": 1}}', "each of `headers`"),
        (NGINX.replace("GET /x?a=\\x22b HTTP/2.0", "\\x16\\x03 sesame").encode(), "no complete request-line"),
        (NGINX.partition('"')[0].encode() + b"-", "no complete request-line"),
        (HAPROXY.partition(" HTTP/1.1")[0].encode(), "no complete request-line"),
        (HAPROXY.replace("PUT /index.html#22 HTTP/1.1", "<BADREQ>").encode(), "no complete request-line"),
        (NGINX.replace("192.0.2.7", "sesame").encode(), "does not begin with the client's address"),
        (NGINX.replace("192.0.2.7 - ", "").encode(), "does not begin with the client's address"),
        (HAPROXY.replace("2001:db8::1:33317", "sesame").encode(), "does not begin with the client's address"),
    ],
)
def test_lines_that_hold_none(line: bytes, sentence: str) -> None:
    """A sentence that says what is missing and repeats nothing of the line."""
    with pytest.raises(NoRequestError) as raised:
        read_line(line, "")
    assert sentence in str(raised.value)
    assert "sesame" not in str(raised.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.fixed_dictionaries({}, optional=dict.fromkeys(("method", "target", "headers", "peer"), JSON))


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode) | KEYS.map(lambda keys: json.dumps(keys).encode()))
def test_any_line_is_read_or_refused(line: bytes) -> None:
    """Nothing but NoRequestError comes of any octets."""
    with suppress(NoRequestError):
        assert isinstance(read_line(line, ""), RequestText)


TEXTS = st.text() | st.sampled_from(("\u4e2d", '"', "\\", "\ud800", "\x7f", "{}", "%s"))
NAMES = st.lists(TEXTS, max_size=3).map(tuple)
DECISIONS = st.builds(
    Decision,
    action=st.sampled_from(("forward", "refuse", "respond", "redirect")),
    endpoint=TEXTS,
    pool=TEXTS,
    kind=TEXTS,
    key=st.none() | TEXTS,
    candidates=NAMES,
    fallback=NAMES,
    status=st.none() | st.sampled_from((204, 400, 503)),
    reason=TEXTS,
)


@given(TEXTS, TEXTS, DECISIONS)
def test_the_text_of_an_answer(method: str, target: str, decision: Decision) -> None:
    """It is put together from parts, and is what `json` makes of the object of the contract."""
    assert answer_line(method, target, decision) == json.dumps(as_json(method, target, decision))


# The request in it.


@given(
    st.text(max_size=8), st.text(max_size=12), st.lists(st.tuples(st.text(max_size=6), st.text(max_size=6)), max_size=3)
)
@example("GET", "/\ud800", [])
@example("GET", "/ HTTP/1.1\r\nX: ", [])
@example("GET", "/", [("Host", "a\r\n\r\nGET / HTTP/1.1")])
@example("OPTIONS", "*", [])
def test_any_text_is_answered(rehearsal: Rehearsal, method: str, target: str, headers: list[tuple[str, str]]) -> None:
    """There is a decision for whatever was asked; a refusal has a status, a forwarded request a worker."""
    heard = rehearsal.hear(RequestText(method, target, headers))
    decision = heard.decision
    assert (decision.status is None) == (decision.action == "forward") == bool(decision.candidates)
    assert heard.head is not None or decision.action == "refuse"


@given(st.one_of(requests().map(lambda message: message[0]), spoilt(requests())))
def test_requests_are_treated_as_on_the_wire(rehearsal: Rehearsal, stream: bytes) -> None:
    """What was made of text is refused or decided as the same octets are that come from a client."""
    line, *fields = stream.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    words = line.removesuffix(" HTTP/1.1").split(" ", 1)
    pairs = [field.partition(":")[::2] for field in fields]
    if len(words) != 2 or not all(":" in field for field in fields) or not line.endswith(" HTTP/1.1"):
        return
    raw = "\r\n".join([line, *(f"{name}: {value}" for name, value in pairs), "\r\n"]).encode("utf-8")
    if b"\nhost:" not in raw.lower():
        raw = raw.replace(b"\r\n", b"\r\nHost: localhost\r\n", 1)
    heard = rehearsal.hear(RequestText(words[0], words[1], pairs, "192.0.2.1"))
    status, expected = None, None
    try:
        expected = RequestReader(ReaderLimits()).feed(raw)[0]
    except WireError as error:
        status = STATUS_OF_FAULT[error.fault]
    if status is not None:
        assert heard.decision.status == status
    else:
        assert isinstance(expected, RequestHead)
        plan = rehearsal.deployment.plan
        assert heard.decision == decide(expected.method, expected.origin, expected.fields, "192.0.2.1", plan)


UPLOAD = "/_matrix/media/v3/upload"


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        (RequestText("GET", "/", [("Host", "a"), ("Host", "b")]), 400),
        (RequestText("GET", "//x#y"), 400),
        (RequestText("GET", "/", [("X", "a\nb")]), 400),
        (RequestText("GET", "/", [("X", "a\r\nY: b")]), 400),
        (RequestText("GET", "/", [("Host", "a"), ("X", "a\r\nY: b")]), 400),
        (RequestText("GET", "/", [("Transfer-Encoding", "gzip")]), 501),
        (RequestText("GET", "/", [("Expect", "miracles")]), 417),
        (RequestText("GET", "/" + "x" * 13_000), 414),
        (RequestText("GET", "/", [("X", "x" * 17_000)]), 431),
        (RequestText("GET", "/", [("X", "x" * 15_940)]), 431),
        (RequestText("GET", "/", [("X", "x" * 15_500)]), None),
        (RequestText("GET", "/", [(f"X{number}", "") for number in range(201)]), 431),
        (RequestText("CONNECT", "a:1"), 405),
        (RequestText("TRACE", "/"), 405),
        (RequestText("OPTIONS", "*"), None),
        (RequestText("GET", "http://example.org/_matrix/client/versions"), None),
        (RequestText("GET", "http://example.org/", [("Host", "example.com")]), 400),
        (RequestText("GET", "matrix-federation://a/b"), 400),
        (RequestText("POST", "/x", [("Content-Length", "10485760")]), None),
        (RequestText("POST", "/x", [("Content-Length", "10485761")]), 413),
        (RequestText("POST", UPLOAD, [("Content-Length", "20971520")]), None),
        (RequestText("POST", UPLOAD, [("Content-Length", "20971521")]), 413),
        (RequestText("GET", "/a/b", [("Host", "hs1.test")]), 410),
        (RequestText("GET", "/a/b"), None),
        (RequestText("GET", "/_synapse/admin/v1/rooms", [("X-Forwarded-For", "192.0.2.1")]), None),
        (RequestText("GET", "/_synapse/admin/v1/rooms", [("x-forwarded-for", "192.0.2.1")], ""), None),
        (
            RequestText("GET", "/_synapse/admin/v1/rooms", [("X-Forwarded-For", "192.0.2.1, 203.0.113.1, 10.1.1.1")]),
            403,
        ),
        (RequestText("GET", "/_synapse/admin/v1/rooms", [("X-Forwarded-For", "192.0.2.1")], "203.0.113.1"), 403),
        (RequestText("GET", "/_synapse/admin/v1/rooms", [], "192.0.2.1"), None),
    ],
)
def test_what_is_refused(rehearsal: Rehearsal, asked: RequestText, status: int | None) -> None:
    """The status that the running sidecar gives, by the rules of wire, limits, routes and the client's address."""
    assert rehearsal.hear(asked).decision.status == status
