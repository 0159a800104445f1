"""Who may ask the operator's listener: networks, names, and pages of other sites."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.admin.guard import is_foreign, is_own_name, refusal
from sidecar.admin.operator_answer import Inquiry
from sidecar.config.operator import Operator

OWN = Operator(hosts=("sidecar.example.org", "*.ops.example.org"), allow=(ip_network("10.0.0.0/8"),))


def judged(method: str = "GET", path: str = "/", peer: str = "10.0.0.1", host: str = "localhost", **fields: str) -> int:
    """The status of the refusal; 0 for none."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    inquiry = Inquiry(method=method, path=path, peer=peer, fields={"host": host, **named})
    answer = refusal(inquiry, OWN, "machine.example.net")
    return 0 if answer is None else answer.status


@pytest.mark.parametrize("path", ["/", "/api/status", "/health", "/metrics"])
def test_networks(path: str) -> None:
    """Only who is in `operator.allow` is answered; who comes by a UNIX socket always is."""
    assert judged(path=path) == 0
    assert judged(path=path, peer="::ffff:10.1.1.1") == 0
    assert judged(path=path, peer="") == 0
    assert judged(path=path, peer="11.0.0.1") == 403
    assert judged(path=path, peer="::1") == 403


def test_without_an_allow_list_everybody_may() -> None:
    """Where none is written, the endpoint says who can connect."""
    inquiry = Inquiry(method="GET", path="/", peer="192.0.2.1", fields={"host": "localhost"})
    assert refusal(inquiry, Operator(), "x") is None


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:9600",
        "LOCALHOST.",
        "sidecar1:80",
        "127.0.0.1:9600",
        "192.0.2.7",
        "[::1]:9600",
        "[2001:db8::1]",
        "a.localhost",
        "sidecar.example.org:9600",
        "Sidecar.Example.Org.",
        "a.b.ops.example.org",
        "machine.example.net",
        "",
    ],
)
def test_names_that_lead_here(host: str) -> None:
    """Addresses, names that no stranger can own, and the names that are configured."""
    assert judged(host=host) == 0


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:9600",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "ops.example.org",
        "xsidecar.example.org",
        "127.0.0.1@evil.example",
        "[::1",
        "evil.example.",
    ],
)
def test_names_of_others(host: str) -> None:
    """A page under a name that its owner makes lead here gets nothing to read and nothing to do."""
    for path in ("/", "/api/status", "/static/page.js"):
        assert judged(host=host, path=path) == 421
    assert judged("POST", "/api/workers/a/drain", host=host) == 421
    assert judged(host=host, path="/", peer="") == 421


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
def test_what_programs_ask_under_any_name(path: str) -> None:
    """Probes and Prometheus go by whatever name they were given."""
    assert judged(host="evil.example", path=path) == 0


def test_pages_of_other_sites() -> None:
    """A browser tells where a page comes from; who is no browser tells nothing."""
    post = {"method": "POST", "path": "/api/workers/a/drain", "host": "localhost:9600"}
    assert judged(**post) == 0
    assert judged(**post, origin="http://LOCALHOST:9600") == 0
    assert judged(**post, origin="http://localhost:9600", sec_fetch_site="same-origin") == 0
    for origin in ("null", "", "http://localhost", "http://localhost:9601", "http://evil.example", "http://[::1"):
        assert judged(**post, origin=origin) == 403
    for site in ("cross-site", "same-site", "x"):
        assert judged(**post, origin="http://localhost:9600", sec_fetch_site=site) == 403
        assert judged("GET", sec_fetch_site=site) == 0


def test_where_nothing_can_be_done() -> None:
    """With `actions: none` no worker is drained, whoever asks; looking and explaining go on."""
    operator = Operator(actions="none")
    drain = Inquiry(method="POST", path="/api/workers/a/drain", fields={"host": "x"})
    answer = refusal(drain, operator, "x")
    assert answer is not None
    assert answer.status == 403
    for path in ("/api/explain", "/explain"):
        assert refusal(Inquiry(method="POST", path=path, fields={}), operator, "x") is None


@pytest.mark.parametrize(
    "path",
    [
        "/%61pi/workers/a/drain",
        "/api/%77orkers/a/drain",
        "/api/workers/a/dr%61in",
        "/workers/a/drain",
        "/api/canary/0123456789abcdef0123456789abcdef/open",
        "/api/canar%79/x/close",
        "/anything",
    ],
)
def test_however_it_is_spelled(path: str) -> None:
    """The guard goes by what the router goes by, and lets nothing through that it does not know."""
    answer = refusal(Inquiry(method="POST", path=path, fields={"host": "x"}), Operator(actions="none"), "x")
    assert answer is not None
    assert answer.content == {"error": "Nothing can be done here, because `operator.actions` is `none`."}


@pytest.mark.parametrize(
    ("origin", "secure", "fields", "foreign"),
    [
        ("https://h", False, {}, True),
        ("http://h", False, {}, False),
        ("http://h", True, {}, True),
        ("https://h", True, {}, False),
        ("https://h", False, {"x-forwarded-proto": "https"}, False),
        ("http://h", False, {"x-forwarded-proto": "https"}, True),
        ("https://h", False, {"sec-fetch-site": "same-origin"}, False),
        ("https://other", False, {"sec-fetch-site": "same-origin"}, True),
        ("h", False, {}, True),
    ],
)
def test_an_origin_is_more_than_a_name(origin: str, secure: bool, fields: dict[str, str], foreign: bool) -> None:
    """A page that came unencrypted can be anybody's, and so is not one of the same name that came by TLS."""
    inquiry = Inquiry(method="POST", path="/", secure=secure, fields={"host": "h", "origin": origin, **fields})
    assert is_foreign(inquiry) is foreign


@given(st.text(max_size=30), st.text(max_size=30))
def test_nothing_in_a_field_makes_it_raise(host: str, origin: str) -> None:
    """Whatever stands in Host and Origin is judged."""
    is_own_name(host, ("a.b",))
    is_foreign(Inquiry(method="POST", path="/", fields={"host": host, "origin": origin}))
