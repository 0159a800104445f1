"""Endpoint strings: Twisted reads what we accept in the same way, and paths in them become absolute."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path, PurePosixPath
from socket import AF_INET, AF_INET6, socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.testing import MemoryReactor

from sidecar.config.endpoint_strings import (
    CLIENT,
    SERVER,
    EndpointError,
    KeyFiles,
    ListenAddress,
    any_of,
    client_endpoint,
    entrance,
    is_foreign,
    overlap,
    server_endpoint,
    takes_ipv4_of,
)
from sidecar.synapse.listeners import escape

PATHS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=20)


@pytest.mark.parametrize(
    ("text", "absolute"),
    [
        ("tcp:8008", "tcp:8008"),
        ("tcp:port=8008:interface=127.0.0.1", "tcp:8008:interface=127.0.0.1"),
        ("tcp:8008:127.0.0.1", "tcp:8008:interface=127.0.0.1"),
        (r"tcp:8008:interface=\:\:1", r"tcp:8008:interface=\:\:1"),
        ("tcp6:0", "tcp6:0"),
        ("unix:run/http.sock:mode=660", "unix:/etc/s/run/http.sock:mode=660"),
        ("unix:/run/http.sock:lockfile=0", "unix:/run/http.sock:lockfile=0"),
        ("unix:address=/run/http.sock", "unix:/run/http.sock"),
        ("systemd:domain=INET:name=http", "systemd:domain=INET:name=http"),
        ("systemd:INET6:index=0", "systemd:domain=INET6:index=0"),
        ("haproxy:unix:http.sock", "haproxy:unix:/etc/s/http.sock"),
        (
            "ssl:8448:privateKey=key.pem:certKey=/c.pem",
            "ssl:8448:/etc/s/key.pem:certKey=/c.pem",
        ),
        (
            "haproxy:systemd:domain=INET:name=https:privateKey=k.pem:certKey=c.pem",
            "haproxy:systemd:domain=INET:name=https:privateKey=/etc/s/k.pem:certKey=/etc/s/c.pem",
        ),
        ("onion:8008:anything", "onion:8008:anything"),
    ],
)
def test_server_endpoints_are_read(text: str, absolute: str) -> None:
    """Every form of a server endpoint is accepted, and its paths are seen from the directory of the file."""
    assert server_endpoint(text, "/etc/s") == absolute


@pytest.mark.parametrize(
    "text",
    [
        "tcp:8008:interface=127.0.0.1:backlog=9",
        r"tcp:8008:interface=\:\:1",
        "unix:a b.sock:mode=660:lockfile=0",
    ],
)
def test_twisted_takes_the_server_endpoints_that_we_write(text: str) -> None:
    """What comes out is an endpoint string for Twisted."""
    assert serverFromString(MemoryReactor(), server_endpoint(text, "/etc/s"))


@given(PATHS)
def test_any_socket_path_arrives_at_twisted(path: str) -> None:
    """Colons, equal signs and backslashes in a path survive."""
    text = client_endpoint(f"unix:{escape(path)}", "/base")
    endpoint = clientFromString(MemoryReactor(), text)
    assert PurePosixPath(endpoint._path) == PurePosixPath("/base", path)
    assert client_endpoint(text, "/elsewhere") == text


@pytest.mark.parametrize(
    ("text", "absolute"),
    [
        ("unix:/run/a.sock", "unix:/run/a.sock"),
        ("unix:path=a.sock:timeout=3", "unix:/etc/s/a.sock:timeout=3"),
        ("tcp:10.0.0.2:8083", "tcp:10.0.0.2:8083"),
        ("tcp:host=h:port=1:timeout=9", "tcp:h:1:timeout=9"),
        (r"tcp:\:\:1:8083", r"tcp:\:\:1:8083"),
    ],
)
def test_client_endpoints_are_read(text: str, absolute: str) -> None:
    """Both forms of a client endpoint are accepted, and Twisted takes what comes out."""
    assert client_endpoint(text, "/etc/s") == absolute
    assert clientFromString(MemoryReactor(), absolute)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "it must begin with `tcp:`"),
        ("8008", "it must begin with `tcp:`"),
        ("tpc:8008", "`tcp:8008:interface=127.0.0.1`"),
        ("haproxy:tpc:8008", "it must begin with"),
        ("haproxy:", "it must begin with"),
        ("tcp", "lacks the port"),
        ("tcp:", "lacks the port"),
        ("tcp:http", "its port must be a port number"),
        ("tcp:65536", "its port must be a port number"),
        ("tcp:8008:::1", "each colon inside a value as"),
        ("tcp:8008:interface=::1", "each colon inside a value as"),
        ("tcp:8008:127.0.0.1:50:1", "each colon inside a value as"),
        ("tcp:8008:interfaces=1", "no parameter `interfaces`; did you mean `interface`?"),
        ("tcp:8008:x=1", "no parameter `x`"),
        ("tcp:8008:port=8009", "`port` is given twice"),
        ("tcp:8008:backlog=many", "its backlog must be a number"),
        ("unix:a:mode=999", "octal"),
        ("unix:a:lockfile=yes", "`0` or `1`"),
        ("unix:a\0", "control character"),
        ("unix:a\\", "lone backslash"),
        ("systemd:domain=INET", "either `index` or `name`"),
        ("systemd:domain=INET:index=0:name=http", "either `index` or `name`"),
        ("systemd:domain=IP:index=0", "`INET`, `INET6` or `UNIX`"),
        ("systemd:index=0", "lacks the domain"),
        ("ssl:8448", "lacks the privateKey"),
        ("ssl:8448:privateKey=/k:sslmethod=TLSv1_METHOD", "TLS 1.2 and 1.3 are spoken"),
        ("ssl:8448:privateKey=/k:dhParameters=/d", "leave `dhParameters` out"),
        ("systemd:domain=INET:index=0:certKey=/c", "add `privateKey=`"),
        ("haproxy:haproxy:tcp:1", "stand before it once each"),
    ],
)
def test_faulty_server_endpoints_are_sentences(text: str, sentence: str) -> None:
    """Each fault of a server endpoint is told with what to write instead."""
    with pytest.raises(EndpointError) as caught:
        server_endpoint(text, "/")
    assert sentence in caught.value.message


@pytest.mark.parametrize("text", ["systemd:domain=INET:index=0", "tls:a:1", "/run/a.sock", "unix:", "tcp:a", "tcp:a:b"])
def test_faulty_client_endpoints_are_sentences(text: str) -> None:
    """A worker is reached over `unix:` or `tcp:` only."""
    with pytest.raises(EndpointError):
        client_endpoint(text, "/")


@given(
    st.text(max_size=20)
    | st.lists(st.sampled_from(["tcp", "unix", ":", "=", "\\", "1", "port", "::", "haproxy:"])).map("".join)
)
def test_any_text_is_an_endpoint_or_a_fault(text: str) -> None:
    """No text raises anything but EndpointError, and what is accepted stays accepted."""
    for read in (server_endpoint, client_endpoint):
        try:
            absolute = read(text, "/base")
        except EndpointError:
            continue
        assert read(absolute, "/elsewhere") == absolute
        if read is server_endpoint:
            entrance(absolute)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp:8008:interface=127.0.0.1", ListenAddress("tcp:8008:interface=127.0.0.1")),
        ("haproxy:tcp:8008", ListenAddress("tcp:8008", announced=True)),
        ("haproxy:unix:/a.sock:mode=660", ListenAddress("unix:/a.sock:mode=660", announced=True)),
        ("onion:8008:x", ListenAddress("onion:8008:x")),
        ("haproxy:onion:8008:x", ListenAddress("onion:8008:x", announced=True)),
        ("ssl:443:privateKey=/both.pem", ListenAddress("tcp:443", tls=KeyFiles("/both.pem", "/both.pem"))),
        (
            r"haproxy:ssl:443:/k.pem:certKey=/c.pem:extraCertChain=/x.pem:interface=\:\::backlog=9",
            ListenAddress(r"tcp:443:interface=\:\::backlog=9", True, KeyFiles("/k.pem", "/c.pem", "/x.pem")),
        ),
        (
            r"systemd:domain=INET6:name=https:privateKey=/a\:b.pem",
            ListenAddress("systemd:domain=INET6:name=https", tls=KeyFiles("/a:b.pem", "/a:b.pem")),
        ),
    ],
)
def test_what_stands_before_http_is_taken_apart(text: str, expected: ListenAddress) -> None:
    """The PROXY protocol, TLS with its files, and what is left for Twisted, which takes it."""
    found = entrance(server_endpoint(text, "/"))
    assert found == expected
    if not found.address.startswith(("onion", "systemd")):
        assert serverFromString(MemoryReactor(), found.address)


def test_kinds_of_plugins_are_told_apart_from_slips() -> None:
    """A kind that looks like none of ours may be a plugin's; one that does is a slip."""
    assert is_foreign("onion:8008")
    assert not is_foreign("tcpp:8008")
    assert not is_foreign("tcp:8008")
    assert not is_foreign("onion")


@pytest.mark.parametrize("form", [*SERVER.values(), *CLIENT.values()])
def test_examples_are_right(form: Any) -> None:
    """What an error proposes is accepted."""
    example = form.example
    read = client_endpoint if form in CLIENT.values() else server_endpoint
    assert read(example, "/")


def test_words_are_joined_for_a_sentence() -> None:
    """One word stands alone, several are joined by commas and `or`."""
    assert any_of(["a"]) == "`a`"
    assert any_of(["a", "b", "c"]) == "`a`, `b` or `c`"


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("tcp:8008", "tcp:8008", True),
        ("tcp:8008", "tcp:8008:interface=10.0.0.2", True),
        ("tcp:8008:interface=0.0.0.0", "ssl:8008:privateKey=/k:interface=127.0.0.1", True),
        ("http2:haproxy:tcp:8008", "tcp:8008:interface=127.0.0.1", True),
        ("tcp6:8008", "tcp:8008:interface=\\:\\:1", True),
        ("unix:/run/a.sock", "unix:/run/a.sock:mode=660", True),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=0", True),
        ("tcp:8008", "tcp:8009", False),
        ("tcp:0", "tcp:0", False),
        ("tcp:8008", "tcp6:8008", False),
        ("tcp:8008", "tcp:8008:interface=\\:\\:1", False),
        ("tcp:8008:interface=127.0.0.1", "tcp:8008:interface=10.0.0.2", False),
        ("unix:/run/a.sock", "unix:/run/b.sock", False),
        ("systemd:domain=INET:index=0", "systemd:domain=INET:index=1", False),
        ("onion:80", "onion:80", False),
    ],
)
def test_which_endpoints_cannot_both_be_listened_on(one: str, other: str, together: bool) -> None:
    """The same port at the same address, or at every address of the family; the same path."""
    one, other = (server_endpoint(each, "/") for each in (one, other))
    assert overlap(one, other) is overlap(other, one) is together


@pytest.mark.parametrize(
    ("family", "host", "written"),
    [(AF_INET, "0.0.0.0", "0.0.0.0"), (AF_INET, "127.0.0.1", "127.0.0.1"), (AF_INET6, "::1", "\\:\\:1")],
)
def test_what_overlaps_the_kernel_refuses(family: int, host: str, written: str) -> None:
    """And what does not, it takes."""
    with socket(family) as first, socket(AF_INET) as second:
        first.bind((host, 0))
        first.listen()
        port = first.getsockname()[1]
        if overlap(f"tcp:{port}:interface={written}", f"tcp:{port}:interface=127.0.0.1"):
            with pytest.raises(OSError, match="in use"):
                second.bind(("127.0.0.1", port))
        else:
            second.bind(("127.0.0.1", port))


@pytest.mark.parametrize(
    ("six", "four", "taken"),
    [
        ("tcp6:8008", "tcp:8008", True),
        ("tcp6:8008", "tcp:8008:interface=127.0.0.1", True),
        ("tcp:8008:interface=\\:\\:", "tcp:8008", True),
        ("tcp6:8008:interface=\\:\\:1", "tcp:8008", False),
        ("tcp6:8008", "tcp:8009", False),
        ("tcp6:0", "tcp:0", False),
        ("tcp6:8008", "tcp:8008:interface=\\:\\:1", False),
        ("tcp:8008", "tcp:8008", False),
        ("tcp6:8008", "unix:/run/8008", False),
        ("tcp6:8008", "onion:8008", False),
    ],
)
def test_every_ipv6_address_takes_ipv4_too(six: str, four: str, taken: bool) -> None:
    assert takes_ipv4_of(server_endpoint(six, "/"), server_endpoint(four, "/")) is taken


def test_what_takes_ipv4_too_the_kernel_refuses() -> None:
    """Unless its administrator has changed that."""
    apart = Path("/proc/sys/net/ipv6/bindv6only").read_text().strip() == "1"
    with socket(AF_INET6) as first, socket(AF_INET) as second:
        first.bind(("::", 0))
        first.listen()
        with nullcontext() if apart else pytest.raises(OSError, match="in use"):
            second.bind(("0.0.0.0", first.getsockname()[1]))
