"""What a client can make the sidecar do with one request: steps of the interpreter are counted, not time.

Each hostile request is made as large as the limits allow, and half as large. The steps may grow with it in proportion
at most, and must stay below what an ordinary request may cost a few times over.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from routing.plans import SPLIT, plan_of

import sidecar
from sidecar.config.compression import Compress
from sidecar.config.schema import Limits, Route
from sidecar.errors import WireError
from sidecar.exchange.changing import Changes, Changing
from sidecar.records.request_id import NewIds, RequestIds
from sidecar.relay.gateway import request_limits
from sidecar.routing.decide import decide
from sidecar.synapse.senders import origin_of
from sidecar.wire.forwarded import ForwardedPolicy
from sidecar.wire.framing import RESPONSE_SPECIAL
from sidecar.wire.head import RequestHead, ResponseHead
from sidecar.wire.reader import RequestReader

LIMITS = Limits()
MOST = 12_000
"""Steps. An ordinary request costs some 2,500 when nothing of it is remembered."""

QUERY_ROUTES = (
    Route(path="/asked", query={"kind": "guest", "x": None}, refuse=403),
    Route(query={"probe": "1"}, header={"x-probe": "1"}, host=("probe.example.org",), refuse=403),
)
PLAN = plan_of(SPLIT, routes=QUERY_ROUTES)
POLICY = ForwardedPolicy([ip_network("127.0.0.0/8")], None)
IDS = RequestIds(("X-Request-ID",), NewIds("p"))
CHANGES = Changes(compress=Compress())

Request = Callable[[int], bytes]
"""From a number of repetitions to a request."""


def steps(work: Callable[[], object]) -> int:
    """How many steps the interpreter takes, in all that is written in Python."""
    count = 0

    def trace(frame: object, event: str, _: object) -> object:
        nonlocal count
        frame.f_trace_opcodes = True  # type: ignore[attr-defined]
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def handled(raw: bytes) -> None:
    """All that is read and decided of a request before it goes on."""
    try:
        (head, *_) = RequestReader(request_limits(LIMITS)).feed(raw)
    except WireError:
        return
    assert isinstance(head, RequestHead)
    client, scheme, forwarded = POLICY.client("127.0.0.1", "http", head.fields)
    decide(head.method, head.origin, head.fields, client, PLAN, scheme)
    IDS.settle(head, forwarded, trusted=True)
    Changing(CHANGES, head).request(raw, LIMITS.request_head)


def targets(method: bytes = b"GET", path: bytes = b"/_matrix/client/v3/sync?") -> Callable[[bytes], Request]:
    return lambda piece: lambda count: b"%b %b%b HTTP/1.1\r\nHost: h\r\n\r\n" % (method, path, piece * count)


def lines(name: bytes, target: bytes = b"/_matrix/client/v3/sync", more: bytes = b"") -> Callable[[bytes], Request]:
    def of(piece: bytes) -> Request:
        return lambda count: b"GET %b HTTP/1.1\r\nHost: h\r\n%b%b: %b\r\n\r\n" % (target, more, name, piece * count)

    return of


FEDERATION = b"/_matrix/federation/v1/state/!r:x"
FIELDS: dict[str, list[Request]] = {
    "connection": [lines(b"Connection")(piece) for piece in (b"x,", b",", b" ", b"x ", b"keep-alive,", b"\t,")],
    "authorization": [
        *(lines(b"Authorization")(piece) for piece in (b"Bearer ", b"x", b" ", b"_")),
        *(lines(b"Authorization", FEDERATION)(piece) for piece in (b"X-Matrix a=b,", b'a="', b"\\", b"a ", b"=")),
        lambda count: lines(b"Authorization", FEDERATION)(b"X-Matrix " + b"a=b," * count)(1),
        lambda count: lines(b"Authorization", FEDERATION)(b'X-Matrix origin="' + b"\\a" * count)(1),
        lambda count: lines(b"Authorization")(b"Bearer syt_" + b"_" * count)(1),
        lambda count: lines(b"Authorization")(b"Bearer syt_" + b"A" * count + b"_a_b")(1),
        lambda count: lines(b"Authorization")(b"Bearer MDAx" + b"A" * count)(1),
        lambda count: lines(b"Authorization", FEDERATION)(b"")(1).replace(
            b"\r\n\r\n", b"\r\nAuthorization: x" * count + b"\r\n\r\n"
        ),
    ],
    "x-forwarded-for": [
        *(lines(b"X-Forwarded-For")(piece) for piece in (b"127.0.0.1,", b",", b" ,", b"::1,", b"1", b"[", b'"', b" ")),
        lambda count: lines(b"X")(b"")(1).replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 127.0.0.1" * count + b"\r\n\r\n"),
    ],
    "x-forwarded-proto": [lines(b"X-Forwarded-Proto")(piece) for piece in (b"https,", b",", b" ")],
    "host": [
        lambda count: b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % (b"a." * count),
        lambda count: b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % (b":1" * count),
        lambda count: b"GET / HTTP/1.1\r\n%b\r\n" % (b"Host: h\r\n" * count),
    ],
    "expect": [lines(b"Expect")(piece) for piece in (b"100-continue,", b",", b" ")],
    "upgrade": [lines(b"Upgrade", more=b"Connection: upgrade\r\n")(piece) for piece in (b"websocket,", b",", b" ")],
    "content-length": [lines(b"Content-Length")(piece) for piece in (b"1", b"0", b" ", b"1,")],
    "transfer-encoding": [lines(b"Transfer-Encoding")(piece) for piece in (b"chunked,", b",", b" ")],
    "user-agent": [lines(b"User-Agent")(b"x ")],
    "x-request-id": [lines(b"X-Request-ID")(piece) for piece in (b"a", b" a")],
    "accept-encoding": [lines(b"Accept-Encoding")(piece) for piece in (b"gzip,", b",", b" ", b"gzip;q=0.1,", b"q=")],
    "if-none-match": [
        lambda count: lines(b"If-None-Match", more=b"Accept-Encoding: gzip\r\n")(b'W/"x", ' * count)(1),
        lambda count: lines(b"X", more=b"Accept-Encoding: gzip\r\n")(b"")(1).replace(
            b"\r\n\r\n", b'\r\nIf-None-Match: W/"x"' * count + b"\r\n\r\n"
        ),
    ],
    "cookie": [lines(b"Cookie")(piece) for piece in (b"a=b; ", b" ")],
    "access-control-request-method": [
        lambda count: (
            b"OPTIONS /asked HTTP/1.1\r\nHost: h\r\nOrigin: x\r\nAccess-Control-Request-Method: %b\r\n\r\n"
            % (b"PUT," * count)
        )
    ],
    "any": [
        lines(b"X")(b"\x80"),
        lambda count: b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * count + b"\r\n",
        lambda count: b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X-Probe: y\r\n" * count + b"\r\n",
    ],
}
"""By the field that is read."""
OF_ANSWERS = {"server", "content-type", "cache-control", "location", "etag", "vary"}
PIECES = (
    b"&",
    b";",
    b"a=1&",
    b"%61=1&",
    b"%",
    b"%25",
    b"+",
    b"=",
    b"since",
    b"&sinc=",
    b"&%73ince=x",
    b"&full_state=x",
)
QUERIES: list[Request] = [
    *map(targets(), (*PIECES, b"&access_token=x", b"&user_id=x", b"&access_token=syt_")),
    *map(targets(path=b"/asked?"), (*PIECES, b"&kind=x", b"&k%69nd=gues", b"&kind=guest")),
    *map(targets(path=b"/_matrix/client/v3/sync?access_token="), (b"%41", b"+", b"_")),
]
PATHS: list[Request] = [
    *map(targets(path=b""), (b"/", b"/_synapse", b"/%5fsynapse", b"/.", b"/..", b"/a%2fb", b"/%25", b"/%", b"/\\")),
    *map(
        targets(path=b"/_synapse"), (b"/", b"/.", b"/..", b"/x/..", b"%2f", b"%252f", b"\\", b"%5c..", b"%25", b"/%61")
    ),
    *map(targets(path=b"/x/../_synapse/"), (b"/", b"../", b"%2e%2e/", b"%2f..", b"%25252e/")),
    *map(targets(path=b"/_matrix/client/v3/rooms/!r:x/state/a/"), (b"/", b"%2f", b"_synapse%2f", b"%252f_synapse")),
    *map(targets(path=b"/_matrix/client/v3/user/"), (b"%40", b"@a:", b"%")),
    *map(targets(path=b"/_matrix/media/v3/download/x/"), (b"/", b"%2f")),
]


def hostile() -> Iterator[tuple[str, Request]]:
    for name, requests in FIELDS.items():
        yield from ((f"{name} {number}", each) for number, each in enumerate(requests))
    yield from ((f"query {number}", each) for number, each in enumerate(QUERIES))
    yield from ((f"path {number}", each) for number, each in enumerate(PATHS))


def as_large_as(size: int, request: Request) -> bytes:
    """The request with as many repetitions as fit into `size` bytes."""
    one = len(request(2)) - len(request(1))
    return request(max(1, (size - len(request(0))) // one))


@pytest.mark.parametrize(("name", "request_of"), [pytest.param(*each, id=each[0]) for each in hostile()])
def test_no_request_costs_much(name: str, request_of: Request) -> None:
    """Whichever field or query it repeats."""
    limit = LIMITS.request_target if name.startswith(("query", "path")) else LIMITS.request_head - 100
    handled(request_of(1))
    half, whole = (as_large_as(size, request_of) for size in (limit // 2, limit))
    little, much = steps(lambda: handled(half)), steps(lambda: handled(whole))
    assert much <= MOST
    assert much <= 2.2 * little + 500


def test_every_field_that_is_read_is_among_them() -> None:
    """A new one has to be added here."""
    read = set()
    for path in Path(sidecar.__file__).parent.rglob("*.py"):
        found = re.findall(r"(?:(?<!weights\.)get|get_all|tokens|values_of)\(b\"([a-z-]+)\"", path.read_text())
        read |= set(found) - OF_ANSWERS
    assert read <= FIELDS.keys()
    assert {name for name in FIELDS if name not in read} == {"any", "x-forwarded-proto", "x-request-id"}


@pytest.mark.parametrize("piece", [b"x,", b",", b" ", b"content-length,"])
def test_nor_does_an_answer(piece: bytes) -> None:
    """A worker is trusted more, but what it sends may be what another server wrote."""
    assert b"connection" in RESPONSE_SPECIAL

    def answered(count: int) -> None:
        raw = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: %b\r\n\r\n" % (piece * count)
        try:
            ResponseHead(raw, b"GET").passed_on(close=True, decoded=False)
        except WireError:
            return

    assert steps(lambda: answered(LIMITS.response_head // len(piece))) <= MOST


def test_parameters_of_a_signature_are_bounded() -> None:
    """An origin behind more parameters than X-Matrix has is none."""
    assert origin_of(b"X-Matrix " + b"a=b," * 31 + b"origin=x.org") == "x.org"
    assert origin_of(b"X-Matrix " + b"a=b," * 32 + b"origin=x.org") is None


def test_connection_options_are_bounded() -> None:
    """What just fits goes on, one more is refused."""
    raw = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: %b\r\n\r\n"
    options = b",".join(b"x%d" % number for number in range(LIMITS.connection_options))
    assert RequestReader(request_limits(LIMITS)).feed(raw % options)
    with pytest.raises(WireError, match="more than 32 connection options"):
        RequestReader(request_limits(LIMITS)).feed(raw % (options + b",y"))


def test_segments_are_bounded_where_each_is_looked_at() -> None:
    """Only where the path may lead below /_synapse; elsewhere a path may have as many as fit."""
    deep = b"/x" * LIMITS.path_segments
    for path, status in [
        (deep, None),
        (b"/_synapse" + deep[2:], None),
        (b"/_synapse" + deep, 400),
        (b"/%5Fsynapse" + deep.replace(b"/", b"%2f"), 400),
        (b"/..%2f_synapse" + deep, 400),
    ]:
        decision = decide(b"GET", path, head_of(path).fields, "192.0.2.1", PLAN)
        assert decision.status == status, path


def head_of(path: bytes) -> RequestHead:
    return RequestHead(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
