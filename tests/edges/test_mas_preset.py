"""conf/mas.yaml: the sidecar as the edge of a homeserver with MAS, with stand-ins that tell what came to them."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
from attrs import frozen
from click.testing import CliRunner
from pem import Authority
from processes import ROOT

from edges.programs import EDGE, NAMES, file, sidecar, trusting, workers
from edges.recording import RecordingWorker, ask, plain_ask, secure
from sidecar.cli import main

EXAMPLE, MATRIX = NAMES
AUTH = "auth.example.com"
STRANGER = "X-Forwarded-For: 198.51.100.7"


@frozen
class Edge:
    https: int
    http: int
    local: int
    context: ssl.SSLContext

    def client(self, name: str) -> ssl.SSLSocket:
        return secure(self.https, name, self.context)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    place = tmp_path_factory.mktemp("edge")
    (place / "tls").mkdir()
    authority = Authority()
    key, certificate = authority.issue(EXAMPLE, MATRIX, AUTH)
    (place / "tls/privkey.pem").write_bytes(key)
    (place / "tls/fullchain.pem").write_bytes(certificate)
    mas = RecordingWorker("mas", None)
    text = file("mas.yaml", place, *EDGE, (r"127\.0\.0\.1:8080", f"127.0.0.1:{mas.port}"))
    with workers(place), sidecar(place, text) as running:
        https, http, local = (
            int(running.says(r"(?s)" + r"listening on \S+?:(\d+).*?" * number)[number]) for number in (1, 3, 4)
        )
        yield Edge(https, http, local, trusting(authority))
    mas.close()
    assert mas.failure is None


def test_check_misses_nothing_but_that_synapse_uses_mas() -> None:
    """As it is shipped; whose homeserver.yaml enables MAS is told nothing."""
    result = CliRunner().invoke(main, ["check", "--no-ask", "-c", str(ROOT / "conf/mas.yaml")])
    assert "access.mas" not in result.output
    assert "synapse.mas" not in result.output or "do not enable" in result.output


@pytest.mark.parametrize("target", ["/", "/account/?a=%2F", "/oauth2/token", "/.well-known/openid-configuration"])
def test_the_name_of_mas(edge: Edge, target: str) -> None:
    """Everything there is its own."""
    with edge.client(AUTH) as client:
        seen = ask(client, AUTH, target).seen
    assert (seen.worker, seen.target, seen.values("host")) == ("mas", target, [AUTH])
    assert seen.values("x-forwarded-proto") == ["https"]
    assert plain_ask(edge.http, AUTH, target).value("location") == f"https://{AUTH}{target}"


def test_the_name_of_the_homeserver(edge: Edge) -> None:
    """Logging in is MAS's, the rest is Synapse's, and neither has pages there."""
    with edge.client(MATRIX) as client:
        for path in ("login", "logout", "logout/all", "refresh"):
            seen = ask(client, MATRIX, f"/_matrix/client/v3/{path}", method="POST").seen
            assert (seen.worker, seen.target) == ("mas", f"/_matrix/client/v3/{path}")
        assert ask(client, MATRIX, "/_matrix/client/versions").seen.worker != "mas"
        assert ask(client, MATRIX, "/account/").status == 404


def test_who_may_call_synapse(edge: Edge) -> None:
    """MAS on this host, by the local port; nobody from elsewhere."""
    target = "/_synapse/mas/query_user?localpart=a"
    assert plain_ask(edge.local, "127.0.0.1:8008", target).seen.worker != "mas"
    with edge.client(MATRIX) as client:
        refused = ask(client, MATRIX, target, STRANGER)
        assert (refused.status, b"access.mas" in refused.content) == (403, True)
        assert ask(client, MATRIX, "/_synapse/admin/v1/rooms").status == 403
