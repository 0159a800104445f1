"""What is closed stays closed however it is spelled."""

from __future__ import annotations

from ipaddress import ip_network

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.config.schema import Access, Route
from sidecar.routing.access import closed_resource, is_within

from .plans import Headers, asked, plan_of

CLOSED = plan_of()
OPEN = plan_of(access=Access(admin=(ip_network("192.0.2.0/24"),), mas=(ip_network("10.0.0.1/32"),)))

SPELLINGS = [
    "/_synapse/admin/v1/rooms",
    "/%5Fsynapse/admin/v1/rooms",
    "/%5fsynapse/%61dmin/v1/rooms",
    "//_synapse/admin/v1/rooms",
    "/_synapse//admin/v1/rooms",
    "/./_synapse/./admin/v1/rooms",
    "/%2e/_synapse/%2E/admin",
    "/_matrix/../_synapse/admin/v1/rooms",
    "/_matrix/%2e%2E/_synapse/admin",
    "/x/y/..%2F..%2F_synapse%2Fadmin",
    "/_synapse/admin/../../_matrix/client/versions",
    "/_synapse/client/../admin/v1/rooms",
    "/_synapse%2Fadmin/v1/rooms",
    "/%255Fsynapse/admin/v1/rooms",
    "/_SYNAPSE/Admin/v1/rooms",
    "/\\_synapse\\admin",
    "/_synapse\\admin/v1/rooms",
    "http://example.org/_synapse/admin/v1/rooms",
    "HTTP://example.org//%5Fsynapse/admin?x",
    "/_synapse/admin",
    "/_synapse/admin?/../../_matrix",
]


@pytest.mark.parametrize("target", SPELLINGS)
def test_every_spelling_of_the_admin_api_is_refused(target: str) -> None:
    """403 for everybody unless `access.admin` names the network, whatever the method."""
    for method in ("GET", "POST", "OPTIONS", "BREW"):
        decision = asked(CLOSED, method, target)
        assert (decision.action, decision.status, decision.candidates) == ("refuse", 403, ())


@pytest.mark.parametrize("target", SPELLINGS)
def test_the_preflight_of_a_closed_path_is_allowed(target: str) -> None:
    """So that a page can read the 403; nothing is forwarded."""
    decision = asked(CLOSED, "OPTIONS", target, Headers([(b"access-control-request-method", b"GET")]))
    assert (decision.action, decision.status, decision.candidates) == ("respond", 204, ())


@pytest.mark.parametrize("resource", ["mas/query_user", "metrics", "replication/fed_send_edu/m.typing/1"])
def test_the_other_closed_resources_are_refused(resource: str) -> None:
    """MAS, metrics and replication as well."""
    assert asked(CLOSED, "GET", f"/_synapse/{resource}").status == 403
    assert asked(CLOSED, "GET", f"//_synapse/x/%2e./{resource}").status == 403


@pytest.mark.parametrize(
    "target",
    [
        "/_synapse/client/pick_idp",
        "/_synapse/administrator",
        "/_synapse",
        "/_matrix/client/v3/rooms/_synapse/state/admin",
        "/_matrix/client/v3/rooms/!r/state/x/..%2F..%2F..%2F..%2F..%2F..%2F..%2F_synapse%2Fadmin",
        "/_matrix/client/v3/pushrules/global/room/%2F..%2F..%2F..%2F..%2F..%2F..%2F_synapse%2Fadmin",
        "/?/_synapse/admin",
    ],
)
def test_what_only_looks_like_it_is_forwarded(target: str) -> None:
    """A closed path inside a parameter or a query is somebody's text."""
    assert asked(CLOSED, "GET", target).action == "forward"


def test_a_network_that_access_names_may_pass() -> None:
    """Each resource has its own networks, and the client address decides."""
    assert asked(OPEN, "GET", "/_synapse/admin/v1/rooms").candidates == ("main",)
    assert asked(OPEN, "GET", "//_synapse/admin/v1/rooms").pool == "main"
    assert asked(OPEN, "GET", "/_synapse/admin/v1/rooms", peer="198.51.100.1").status == 403
    assert asked(OPEN, "GET", "/_synapse/mas/query_user").status == 403
    assert asked(OPEN, "GET", "/_synapse/mas/query_user", peer="::ffff:10.0.0.1").action == "forward"


def test_replication_is_closed_to_everybody() -> None:
    """No network and no route of the operator opens it."""
    everywhere = (ip_network("0.0.0.0/0"),)
    plan = plan_of(
        access=Access(admin=everywhere, mas=everywhere, metrics=everywhere),
        routes=(Route(path="/_synapse/**", pool="main"), Route(path="/**", pool="main")),
    )
    assert asked(plan, "POST", "/_synapse/replication/x").status == 403
    assert asked(plan, "GET", "/_synapse/metrics").action == "forward"


def test_a_peer_without_an_address_may_not_pass() -> None:
    """A UNIX socket or nonsense lies in no network."""
    networks = (ip_network("0.0.0.0/0"), ip_network("::/0"))
    assert is_within("127.0.0.1", networks)
    assert is_within("2001:db8::1", networks)
    for peer in ("", "unix", "127.0.0.1:80", "x" * 100):
        assert not is_within(peer, networks)


@pytest.mark.parametrize(
    ("peer", "network", "inside"),
    [
        ("192.0.2.7", "192.0.2.0/24", True),
        ("192.0.3.7", "192.0.2.0/24", False),
        ("::ffff:192.0.2.7", "192.0.2.0/24", True),
        ("::ffff:192.0.3.7", "192.0.2.0/24", False),
        ("2001:db8::1", "2001:db8::/32", True),
        ("2001:db9::1", "2001:db8::/32", False),
        ("2001:db8::1", "0.0.0.0/0", False),
        ("192.0.2.7", "::/0", False),
        ("::ffff:192.0.2.7", "::/0", False),
    ],
)
def test_where_a_peer_is(peer: str, network: str, inside: bool) -> None:
    """An IPv4 address is one however it is written, and belongs to no network of IPv6."""
    assert is_within(peer, [ip_network("203.0.113.0/24"), ip_network(network)]) is inside


PIECES = st.sampled_from(["", ".", "%2e", "_matrix/..", "a/%2E%2e", "\\", "a/b/../.."])


def spelled(word: str) -> st.SearchStrategy[str]:
    """The word with some of its characters percent-encoded, in any case, some in the other case."""
    return st.tuples(*(st.sampled_from([c, c.upper(), f"%{ord(c):02x}", f"%{ord(c):02X}"]) for c in word)).map("".join)


@given(
    st.lists(PIECES, max_size=3), spelled("_synapse"), PIECES.filter(lambda piece: "a" not in piece), spelled("admin")
)
def test_no_mixture_of_spellings_opens_it(front: list[str], synapse: str, between: str, admin: str) -> None:
    """Encodings, cases, empty and dot segments in any mixture."""
    between = "" if between == "_matrix/.." else between
    path = "/" + "/".join([*front, synapse, between, admin, "v1", "x"])
    assert asked(CLOSED, "GET", path).status == 403


@given(st.binary(max_size=60), st.booleans())
@example(b"/%" + b"25" * 9 + b"5Fsynapse/admin", False)
def test_reading_a_path_never_fails(octets: bytes, known: bool) -> None:
    """Any octets are closed or open."""
    assert closed_resource(octets, known=known) in (None, "admin", "mas", "metrics", "replication", "too deep")


@pytest.mark.parametrize(("known", "found"), [(False, "too deep"), (True, None)])
def test_a_path_that_becomes_deep_when_it_is_decoded(known: bool, found: str | None) -> None:
    """Its segments are not looked through; where an encoded slash is text, they are none."""
    assert closed_resource(b"/_synapse/client/x" + b"%2fa" * 70, known=known) == found
