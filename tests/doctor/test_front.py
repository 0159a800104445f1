"""`doctor --public`: what it finds of the proxy in front, by a proxy that does everything that proxies do wrong."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner
from pem import Authority
from processes import PlainWorker, connect

from doctor.installation import Installation, Proxy, forwarded, look_at_nothing_else, say_goodbye, target_changed
from sidecar.cli import main
from sidecar.doctor import examination, front
from sidecar.doctor.public import Public, examine_plain
from sidecar.doctor.raw_request import ServerAddress

SPOOF = b"198.51.100.77"
VERSIONS = b'{"versions": []}'


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Everything behind the proxy is as it should be."""
    with Installation(tmp_path_factory.mktemp("d")) as installation:
        yield installation.start()


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What else runs on this host is not looked at, and nothing is waited for long."""
    look_at_nothing_else(monkeypatch)
    monkeypatch.setattr(front, "BODY_PATIENCE", 0.3)


def found(installation: Installation, proxy: Proxy, *more: str, url: str = "") -> list[str]:
    """Everything of the proxy in front that is not fine."""
    arguments = ["doctor", "-c", installation.file, "--json", "--public", url or proxy.url, "--well-known", proxy.url]
    result = CliRunner().invoke(main, [*arguments, *more])
    assert not isinstance(result.exception, Exception), result.exc_info
    return [
        f"{finding['level']}: {finding['sentence']}"
        for finding in json.loads(result.stdout)["findings"]
        if finding["area"] == "The proxy in front" and finding["level"] != "fine"
    ]


def answered(status: int, *fields: bytes, content: bytes = b"") -> bytes:
    lines = [b"HTTP/1.1 %d Whatever" % status, *fields, b"Content-Length: %d" % len(content), b"", content]
    return b"\r\n".join(lines)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"%2F", b"/", "a slash within an id (%2F): `/a%2Fb` arrives as `/a/b`; escapes in the query: "),
        (
            b"//",
            b"/",
            "two slashes in a row: `/a//b` arrives as `/a/b`. Federation signs them as they were sent",
        ),
        (b"%21", b"!", "an encoded exclamation mark (%21): `/%21a` arrives as `/!a`."),
        (b"!", b"%21", "a bare exclamation mark: `/!a` arrives as `/%21a`."),
        (b"%2f", b"%2F", "a lowercase escape (%2f): `/a%2fb%c3%bc` arrives as `/a%2Fb%c3%bc`."),
        (b"? HTTP", b" HTTP", "a question mark with nothing after it: `/a?` arrives as `/a`."),
        (b";b=c", b"", "a semicolon: `/a;b=c` arrives as `/a`."),
    ],
)
def test_a_path_that_is_changed_is_shown_as_it_came(running: Installation, old: bytes, new: bytes, told: str) -> None:
    """One error with everything that was changed, and what it breaks."""
    with Proxy(running.port, target_changed(old, new)) as proxy:
        (sentence,) = found(running, proxy)
    assert sentence.startswith(f"error: The proxy in front changes paths or queries: {told}")


@pytest.mark.parametrize(
    ("server", "part"),
    [
        ("nginx/1.22.1", "write `proxy_pass"),
        ("Apache/2.4.57 (Debian)", "`nocanon` on each ProxyPass"),
        ("Caddy", "no `uri`, `rewrite` or `handle_path`"),
        ("", "no `normalize-uri` (HAProxy)"),
    ],
)
def test_what_to_write_depends_on_who_it_is(running: Installation, server: str, part: str) -> None:
    """By what the proxy calls itself."""
    with Proxy(running.port, target_changed(b"%2F", b"/"), server=server) as proxy:
        arguments = ["doctor", "-c", running.file, "--public", proxy.url, "--well-known", proxy.url]
        assert part in CliRunner().invoke(main, arguments).output


def test_paths_that_are_stopped_are_named(running: Installation) -> None:
    """With who stopped them, and how."""

    def change(head: bytes) -> bytes | None:
        target = head.split(b" ")[1]
        if b"%2F" in target or b"%2f" in target:
            return answered(400, b"Server: Traefik")
        return None if b"%5C" in target else forwarded(head)

    with Proxy(running.port, change) as proxy:
        one, other = found(running, proxy)
    assert one == (
        "error: The proxy in front does not forward paths with a slash within an id (%2F), or a lowercase escape "
        "(%2f), or escapes in the query: 400 by Traefik."
    )
    assert "an encoded backslash (%5C): the connection closed without an HTTP response." in other


def test_what_is_not_forwarded_is_named(running: Installation) -> None:
    """All that is answered alike in one sentence; what goes to Synapse itself in another."""

    def change(head: bytes) -> bytes | None:
        target = head.split(b" ")[1]
        if target.startswith(b"/_matrix/federation"):
            return answered(404, b"Server: Synapse/1.163.2", content=b'{"errcode": "M_UNRECOGNIZED"}')
        if target.startswith(b"/_synapse/client"):
            return None
        if target.startswith((b"/_matrix/key", b"/_matrix/media")):
            return answered(404, b"Server: nginx")
        return forwarded(head)

    with Proxy(running.port, change) as proxy:
        told = found(running, proxy)
    assert told == [
        f"error: 127.0.0.1:{proxy.port} does not answer /_synapse/client: the connection closed without an HTTP "
        "response.",
        "error: Requests below /_matrix/federation bypass this sidecar: Synapse itself answered (404 M_UNRECOGNIZED).",
        "error: Requests below /_matrix/key, /_matrix/media do not reach the sidecar: nginx answered 404.",
    ]


def test_another_instance_may_answer_first(running: Installation) -> None:
    """The port is shared; the next request may come to the one that knows the canary."""
    turns = iter(range(1000))

    def change(head: bytes) -> bytes | None:
        if re.search(rb"/[0-9a-f]{32}", head) and next(turns) % 3:
            return answered(404, b"Server: Synapse/1.163.2", content=b'{"errcode": "M_UNRECOGNIZED"}')
        return forwarded(head)

    with Proxy(running.port, change) as proxy:
        assert found(running, proxy) == []


def test_nothing_that_comes_at_all(running: Installation) -> None:
    """Not forwarded, not answered as Matrix, or not there."""
    with Proxy(running.port, lambda _: answered(404, b"Server: nginx")) as proxy:
        versions, lost = found(running, proxy)
    assert versions.startswith("error: /_matrix/client/versions answers 404 by nginx instead of Matrix's versions.")
    assert lost.startswith(
        "error: Requests below /_matrix/client, /_matrix/federation, /_matrix/key, /_matrix/media, /_syn"
    )
    (silent,) = found(running, proxy)
    assert silent.startswith(
        f"error: 127.0.0.1:{proxy.port} does not answer /_matrix/client/versions: connection refused."
    )


# Fields.


def passed_on(head: bytes) -> bytes:
    """As a proxy that sets nothing."""
    return head


def added(head: bytes) -> bytes:
    """As one that adds its peer to what the client said."""
    return re.sub(rb"(\r\nX-Forwarded-For: [^\r]*)", rb"\1, 127.0.0.1", head)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            passed_on,
            "error: Every client can pretend to have any address: the proxy in front forwards the client's X-Forwarded",
        ),
        (
            added,
            "warning: The proxy in front extends X-Forwarded-For instead of replacing it",
        ),
        (
            lambda head: re.sub(rb"\r\nX-Forwarded-For: [^\r]*", b"", forwarded(head)),
            "error: The proxy in front sends no X-Forwarded-For, so all clients appear with its address, 127.0.0.1:",
        ),
        (
            lambda head: forwarded(head).replace(b"X-Forwarded-Proto: http", b"X-Forwarded-Proto: https"),
            "warning: The proxy in front does not set X-Forwarded-Proto: the sidecar sees what a client claims",
        ),
        (
            lambda head: re.sub(rb"\r\nHost: [^\r]*", b"\r\nHost: backend:8008", forwarded(head)),
            "error: Host arrives as `backend:8008` instead of `127.0.0.1:",
        ),
    ],
)
def test_fields_that_say_something_else(running: Installation, change: Callable[[bytes], bytes], sentence: str) -> None:
    """Whether a client can pretend, and what is lost."""

    def only_canaries(head: bytes) -> bytes:
        return change(head) if SPOOF in head else forwarded(head)

    with Proxy(running.port, only_canaries) as proxy:
        told = [each for each in found(running, proxy) if each.startswith(sentence)]
    assert len(told) == 1


def test_a_chain_that_ends_with_a_stranger_is_believed_rightly(running: Installation) -> None:
    """The sidecar goes by the last address that may not speak for others; that the claim comes along is harmless."""
    with Proxy(running.port, lambda head: added(head).replace(b", 127.0.0.1", b", 203.0.113.9")) as proxy:
        told = found(running, proxy)
    assert not [each for each in told if "pretend" in each]


# Bodies and time.


def test_a_body_that_is_refused_for_its_size(running: Installation) -> None:
    """By its announcement; Synapse takes 20M."""

    def change(head: bytes) -> bytes | None:
        return answered(413, b"Server: nginx") if b"Content-Length: 20971520" in head else forwarded(head)

    with Proxy(running.port, change) as proxy:
        assert found(running, proxy) == [
            "error: The proxy in front refuses uploads of 20M, which Synapse accepts: 413 by nginx."
        ]
    with Proxy(running.port, lambda head: None if b"POST" in head else forwarded(head)) as proxy:
        (told,) = found(running, proxy)
    assert told == "error: An upload of 20M failed: the connection closed without an HTTP response."


def test_a_body_that_is_kept_until_it_is_complete_is_let_in(running: Installation) -> None:
    """There is no answer before, and no refusal."""
    hold = threading.Event()

    def change(head: bytes) -> bytes | None:
        if head.startswith(b"POST"):
            hold.wait(30)
            return None
        return forwarded(head)

    with Proxy(running.port, change) as proxy:
        assert found(running, proxy) == []
        hold.set()


def test_a_proxy_that_does_not_wait(running: Installation) -> None:
    """For an answer that takes longer than its timeout: an error where every long poll does."""
    with Proxy(running.port, forwarded, patience=0.5) as proxy:
        (told,) = found(running, proxy, "--slow", "1")
    assert told == "error: The proxy in front does not wait 1 s for a response: 504 by slow/1."


def test_a_proxy_that_cuts_a_slow_answer(running: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning where it waits long enough for polls."""
    monkeypatch.setattr(front, "USUAL_POLL", 0.5)
    asked = iter(range(1000))

    def change(head: bytes) -> bytes | None:
        canary = re.search(rb"/_matrix/client/[0-9a-f]{32} ", head)
        return None if canary and b"Forwarded-For" not in head and next(asked) else forwarded(head)

    with Proxy(running.port, change) as proxy:
        (told,) = found(running, proxy, "--slow", "1")
    assert told.startswith("warning: The proxy in front does not wait 1 s for a response: the connection closed")


def test_many_canaries_leave_no_room(running: Installation) -> None:
    """Somebody else examines, too."""
    operator = ServerAddress(socket=f"{running.directory}/admin.sock")
    from sidecar.doctor.operators import Operators

    operators = Operators((operator,))
    names = [f"{number:032x}" for number in range(4)]
    assert [operators.canary(name, "open") for name in names] == [1, 1, 1, 1]
    try:
        with Proxy(running.port, forwarded) as proxy:
            (told,) = found(running, proxy, "--slow", "1")
    finally:
        for name in names:
            operators.canary(name, "close")
    assert told == "unknown: doctor could not test what the proxy in front changes: no sidecar reports it."


# What is open.


def test_what_should_not_be_reached(running: Installation) -> None:
    """Synapse answers where the proxy lets administration through."""

    def change(head: bytes) -> bytes | None:
        path = head.split(b" ")[1]
        if path.startswith(b"/_synapse/metrics"):
            return None
        if path.startswith(b"/_synapse/admin"):
            return answered(401, b"Server: Synapse/1.163.2", content=b'{"errcode": "M_MISSING_TOKEN"}')
        return forwarded(head)

    with Proxy(running.port, change) as proxy:
        (told,) = found(running, proxy)
    assert told == (
        "warning: These paths of Synapse can be reached from here: "
        "/_synapse/admin/v1/server_version (401 M_MISSING_TOKEN)."
    )


def test_web_clients_need_the_field_once(running: Installation) -> None:
    """A proxy that adds it as well breaks them."""
    both = [b"Access-Control-Allow-Origin: *"] * 2

    def change(head: bytes) -> bytes | None:
        return answered(200, *both, content=VERSIONS) if b"/client/versions" in head else forwarded(head)

    with Proxy(running.port, change) as proxy:
        (told,) = found(running, proxy)
    assert told.startswith("error: Access-Control-Allow-Origin arrives 2 times, but browsers accept it only once")


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (answered(301, b"Location: https://example.org/"), "http redirects to https."),
        (answered(301, b"Location: http://example.org/"), "does not serve Matrix without TLS (301)."),
        (answered(200, content=VERSIONS), "serves Matrix without TLS: others can read tokens on the way."),
    ],
)
def test_http_beside_https(answer: bytes, sentence: str) -> None:
    """It leads to https, or is not there."""
    with Proxy(0, lambda _: answer) as proxy:
        assert sentence in examine_plain("127.0.0.1", proxy.port).sentence
    assert "No server answers plain HTTP" in examine_plain("127.0.0.1", proxy.port).sentence


# TLS.


class Secured(PlainWorker):
    """TLS in front of a proxy that has none."""

    def __init__(self, directory: Path, port: int) -> None:
        self.authority = Authority()
        key, certificate = self.authority.issue("matrix.example.org")
        (directory / "pair.pem").write_bytes(key + certificate)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(directory / "pair.pem")
        self._to = ("127.0.0.1", port)
        super().__init__(None, self._pass_on)

    def _pass_on(self, connection: socket.socket) -> None:
        # Who does not trust it leaves in the middle of anything.
        with suppress(OSError), self.context.wrap_socket(connection, server_side=True) as secured:
            head = secured.recv(65536)
            with connect(self._to) as proxy:
                proxy.sendall(head)
                while piece := proxy.recv(65536):
                    secured.sendall(piece)
                say_goodbye(secured)


def test_over_tls(running: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the name of the URL wherever --connect-to leads; a certificate that nobody signed is told."""
    monkeypatch.setattr(examination, "PLAIN_PORT", 1)
    with Proxy(running.port, lambda head: forwarded(head, scheme="https")) as proxy:
        secured = Secured(tmp_path, proxy.port)
        url, to = "https://matrix.example.org", f"127.0.0.1:{secured.port}"
        authority = str(secured.authority.write(tmp_path))
        try:
            assert found(running, proxy, "--connect-to", to, "--ca", authority, url=url) == []
            (told, *_) = found(running, proxy, "--connect-to", to, url=url)
            assert "does not answer /_matrix/client/versions: its certificate is not valid: " in told
            (told, *_) = found(running, proxy, "--connect-to", to, "--ca", authority, url="https://other.example.org")
            assert "Hostname mismatch" in told
        finally:
            secured.close()


def test_a_scheme_that_does_not_come(running: Installation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody knows it then, even if what is assumed happens to be right."""
    monkeypatch.setattr(examination, "PLAIN_PORT", 1)

    def without(head: bytes) -> bytes:
        return re.sub(rb"\r\nX-Forwarded-Proto: [^\r]*", b"", forwarded(head))

    with Proxy(running.port, without) as proxy:
        secured = Secured(tmp_path, proxy.port)
        url, to = "https://matrix.example.org", f"127.0.0.1:{secured.port}"
        try:
            authority = str(secured.authority.write(tmp_path))
            (told,) = found(running, proxy, "--connect-to", to, "--ca", authority, url=url)
        finally:
            secured.close()
    assert told.startswith(
        "warning: The proxy in front sends no X-Forwarded-Proto, so the scheme of a client is unknown."
    )


def test_public_addresses() -> None:
    """With and without a scheme and a port; Host has the port where it is not the usual one."""
    assert Public.of("matrix.example.org").place.port == 443
    assert Public.of("https://matrix.example.org/").url == "https://matrix.example.org"
    assert Public.of("http://[::1]:8008").place.named == "[::1]:8008"
    assert Public.of("https://a.example").place.named == "a.example"
    other = Public.of("https://a.example:8448", "127.0.0.1:9").place
    assert (other.named, str(other), Public.of("https://a.example", "[::1]").place.port) == (
        "a.example:8448",
        "127.0.0.1:9",
        443,
    )
