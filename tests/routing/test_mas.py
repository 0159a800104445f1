"""The Matrix Authentication Service: which requests are its own, who may call Synapse for it, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from sidecar.errors import ConfigError, Severity
from sidecar.loading.deployment import Deployment, read_deployment
from sidecar.routing.decide import decide
from sidecar.routing.decision import Decision
from sidecar.routing.explain import explain

from .plans import NOTHING, Headers

ENABLED = "matrix_authentication_service: {enabled: true, secret: s, endpoint: %s}\n"
LOCAL = ENABLED % '"http://localhost:8080/"'
MAIN = """\
server_name: a.test
report_stats: false
listeners:
  - {path: /run/main.sock, type: http, resources: [{names: [client, federation]}]}
  - {path: /run/replication.sock, type: http, resources: [{names: [replication]}]}
instance_map: {main: {path: /run/replication.sock}}
"""
WORKER = (
    "worker_app: synapse.app.generic_worker\nworker_name: {name}\n"
    "worker_listeners: [{{path: /run/{name}.sock, type: http, resources: [{{names: [client]}}]}}]\n"
)
VERSIONS = ("r0", "v1", "v3", "unstable", "api/v1")
COMPATIBILITY = [
    *(("GET", "login"), ("HEAD", "login"), ("POST", "login"), ("OPTIONS", "login")),
    *(("GET", "login/sso/redirect"), ("GET", "login/sso/redirect/"), ("GET", "login/sso/redirect/01J0")),
    *(("POST", "logout"), ("OPTIONS", "logout"), ("POST", "logout/all"), ("POST", "refresh"), ("OPTIONS", "refresh")),
]


def deployed(
    place: Path, synapse: str = LOCAL, ours: str = "", workers: Mapping[str, str] | None = None, **parts: str | None
) -> Deployment:
    """With these lines in homeserver.yaml and sidecar.yaml; `parts` are keys below `synapse:`."""
    (place / "homeserver.yaml").write_text(MAIN + synapse)
    (place / "workers").mkdir(exist_ok=True)
    for name, text in (workers or {"sync1": WORKER.format(name="sync1")}).items():
        (place / "workers" / f"{name}.yaml").write_text(text)
    more = "".join(f", {key}: {value}" for key, value in parts.items() if value is not None)
    (place / "sidecar.yaml").write_text(
        f"synapse: {{config: homeserver.yaml, workers: workers, version: '1.163'{more}}}\n{ours}"
    )
    return read_deployment(str(place / "sidecar.yaml"))


def told(deployment: Deployment) -> list[str]:
    return [str(problem) for problem in deployment.problems]


def asked(deployment: Deployment, method: str, target: str, peer: str = "192.0.2.7") -> Decision:
    return decide(method.encode(), target.encode(), NOTHING, peer, deployment.plan)


@pytest.mark.parametrize(("method", "path"), COMPATIBILITY)
def test_the_compatibility_endpoints_go_to_mas(tmp_path: Path, method: str, path: str) -> None:
    """In every version prefix; only a preflight, which every process answers alike, has a substitute."""
    deployment = deployed(tmp_path)
    for version in VERSIONS:
        decision = asked(deployment, method, f"/_matrix/client/{version}/{path}?a=b")
        assert (decision.action, decision.pool, decision.candidates) == ("forward", "mas", ("mas",)), version
        assert decision.fallback == (("main",) if method == "OPTIONS" else ())
        assert not decision.main_knows
    assert deployment.plan.workers["mas"].endpoint == "tcp:localhost:8080"
    assert told(deployment) == []


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/_matrix/client/v3/register"),
        ("POST", "/_matrix/client/v3/account/deactivate"),
        ("GET", "/_matrix/client/v1/auth_metadata"),
        ("POST", "/_matrix/client/v1/login/get_token"),
        ("GET", "/_matrix/client/v3/login/cas/redirect"),
        ("POST", "/_matrix/client/v3/login/x"),
        ("GET", "/_matrix/client/v3/rooms/login"),
        ("PUT", "/_matrix/client/v3/login"),
    ],
)
def test_everything_else_is_synapses(tmp_path: Path, method: str, target: str) -> None:
    """Also what is spelled alike."""
    assert "mas" not in asked(deployed(tmp_path), method, target).candidates


def test_login_is_never_sent_twice(tmp_path: Path) -> None:
    """Each POST may make a device."""
    deployment = deployed(tmp_path)
    assert asked(deployment, "POST", "/_matrix/client/v3/login").replayable is False
    assert asked(deployment, "GET", "/_matrix/client/v3/login").replayable is True


@pytest.mark.parametrize(
    ("peer", "open_"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("192.0.2.7", False), ("", False), ("10.0.0.1", False)],
)
def test_mas_on_this_host_may_call_synapse(tmp_path: Path, peer: str, open_: bool) -> None:
    """By default; nobody else, and nothing but /_synapse/mas. It goes to a worker, as the endpoint table has it."""
    deployment = deployed(tmp_path)
    decision = asked(deployment, "GET", "/_synapse/mas/query_user", peer)
    assert decision.action == ("forward" if open_ else "refuse")
    assert decision.candidates == (("sync1",) if open_ else ())
    assert asked(deployment, "GET", "/_synapse/admin/v1/rooms", peer).status == 403
    assert asked(deployed(tmp_path, ours="access: {mas: []}\n"), "GET", "/_synapse/mas/query_user", peer).status == 403
    other = deployed(tmp_path, ours="access: {mas: 10.0.0.1}\n")
    assert (asked(other, "GET", "/_synapse/mas/query_user", peer).action == "forward") == (peer == "10.0.0.1")


@pytest.mark.parametrize(
    ("synapse", "mas", "endpoint"),
    [
        (LOCAL, None, "tcp:localhost:8080"),
        ("matrix_authentication_service: {enabled: true, secret: s}\n", None, "tcp:localhost:8080"),
        (ENABLED % '"http://[::1]:81"', None, "tcp:\\:\\:1:81"),
        (LOCAL, "unix:/run/mas.sock", "unix:/run/mas.sock"),
        (ENABLED % '"https://auth.a.test/"', "http://127.0.0.1", "tcp:127.0.0.1:80"),
        ("experimental_features: {msc3861: {enabled: true}}\n", "http://127.0.0.1:8080", "tcp:127.0.0.1:8080"),
    ],
)
def test_where_it_is(tmp_path: Path, synapse: str, mas: str | None, endpoint: str) -> None:
    """In Synapse's files, unless ours say otherwise."""
    deployment = deployed(tmp_path, synapse, mas=None if mas is None else f'"{mas}"')
    assert deployment.plan.workers["mas"].endpoint == endpoint
    assert asked(deployment, "GET", "/_synapse/mas/query_user", "127.0.0.1").action == "forward"
    assert [each for each in told(deployment) if "mas" in each.lower() and "msc3861: is gone" not in each] == []


@pytest.mark.parametrize(
    ("synapse", "mas"),
    [
        (LOCAL, "false"),
        ("", None),
        ("matrix_authentication_service: {enabled: false, endpoint: 'http://localhost:8080'}\n", None),
        ("matrix_authentication_service: 3\n", None),
    ],
)
def test_where_there_is_none(tmp_path: Path, synapse: str, mas: str | None) -> None:
    """Nothing goes to it, and nobody may call Synapse for it."""
    deployment = deployed(tmp_path, synapse, mas=mas)
    assert "mas" not in deployment.plan.workers
    assert asked(deployment, "POST", "/_matrix/client/v3/login").pool != "mas"
    assert asked(deployment, "GET", "/_synapse/mas/query_user", "127.0.0.1").status == 403


@pytest.mark.parametrize(
    ("synapse", "part"),
    [
        (ENABLED % '"https://auth.a.test/"', "the sidecar speaks no TLS to it"),
        (ENABLED % '"http://localhost:8080/auth/"', "leave out what is behind the port: `http://localhost:8080`"),
        (ENABLED % '"ftp://localhost"', "must be an `http:` URL"),
        (ENABLED % '"http://localhost:x"', "it is no URL"),
        ("experimental_features: {msc3861: {enabled: true}}\n", "these files do not say where it is"),
    ],
)
def test_an_address_that_cannot_be_used_is_told(tmp_path: Path, synapse: str, part: str) -> None:
    """With the file and what to write instead. It is no error: the proxy in front may do it."""
    deployment = deployed(tmp_path, synapse)
    assert "mas" not in deployment.plan.workers
    (problem,) = [each for each in deployment.problems if "/login" in each.message]
    assert (problem.severity, problem.key) == (Severity.WARNING, "matrix_authentication_service.endpoint")
    assert part in problem.message
    assert "write `synapse: {mas: http://HOST:PORT}` into sidecar.yaml" in problem.message
    assert problem.file == str(tmp_path / "homeserver.yaml")


@pytest.mark.parametrize(
    ("url", "written"),
    [
        ("http://10.0.0.7:8080/", '{mas: "10.0.0.7"}'),
        ("http://[fd00::7]:8080/", '{mas: "fd00::7"}'),
        ("http://10.0.0.7", '{mas: "10.0.0.7"}'),
        ("http://mas:8080", '{mas: "ADDRESS"}'),
    ],
)
def test_mas_on_another_host_has_to_be_let_in(tmp_path: Path, url: str, written: str) -> None:
    """Its endpoints go there; who may call Synapse, only the operator can say."""
    deployment = deployed(tmp_path, ENABLED % f'"{url}"')
    assert asked(deployment, "POST", "/_matrix/client/v3/login").candidates == ("mas",)
    assert asked(deployment, "GET", "/_synapse/mas/query_user", "127.0.0.1").status == 403
    (problem,) = deployment.problems
    assert (problem.key, problem.severity) == ("access.mas", Severity.WARNING)
    assert written in problem.message
    assert told(deployed(tmp_path, ENABLED % f'"{url}"', ours="access: {mas: []}\n")) == []


def test_mas_without_synapse_knowing_of_it(tmp_path: Path) -> None:
    """Synapse would not accept its tokens."""
    (problem,) = deployed(tmp_path, "", mas="http://localhost:8080").problems
    assert problem.message.startswith("Synapse's files do not enable `matrix_authentication_service`")


@pytest.mark.parametrize(
    "value", ["true", "3", '"https://auth.a.test"', '"localhost:8080"', '"http://u:p@h"', '"http://h/x"', "[]"]
)
def test_what_is_no_address_is_refused(tmp_path: Path, value: str) -> None:
    """As any other key, with an example."""
    with pytest.raises(ConfigError, match=r"synapse\.mas: .*(http://|unix:)"):
        deployed(tmp_path, mas=value)


def test_a_topology_that_is_stated(tmp_path: Path) -> None:
    """Without Synapse's files everything of the table may exist; what is MAS's is MAS's all the same."""
    (tmp_path / "sidecar.yaml").write_text(
        "synapse: {mas: 'http://localhost:8080'}\nworkers: {main: {endpoint: 'unix:main.sock'}}\n"
    )
    deployment = read_deployment(str(tmp_path / "sidecar.yaml"))
    for method, path in COMPATIBILITY:
        for version in VERSIONS:
            assert asked(deployment, method, f"/_matrix/client/{version}/{path}").candidates == ("mas",)
    assert deployment.plan.resolving
    assert deployment.plan.main == "main"


def test_one_worker_alone_is_main_all_the_same(tmp_path: Path) -> None:
    """MAS beside it is no second process of Synapse."""
    (tmp_path / "sidecar.yaml").write_text(
        "synapse: {mas: 'http://localhost:8080'}\nworkers: {all: {endpoint: 'unix:main.sock'}}\n"
    )
    assert read_deployment(str(tmp_path / "sidecar.yaml")).plan.main == "all"


def test_several_of_them(tmp_path: Path) -> None:
    """The pool may be given others, of no Synapse process; routes of one's own come first."""
    ours = (
        "workers: {mas1: {endpoint: 'tcp:a:80', serves: [], health: false}, "
        "mas2: {endpoint: 'tcp:b:80', serves: [], health: false}}\n"
        "pools: {mas: {workers: ['mas*'], request_body: 1M}}\n"
        "routes: [{path: '/_matrix/client/{version}/refresh', refuse: 403}, {path: /account, pool: mas}]\n"
    )
    deployment = deployed(tmp_path, ours=ours)
    login = asked(deployment, "POST", "/_matrix/client/v3/login")
    assert (set(login.candidates), login.body_limit) == ({"mas1", "mas2", "mas"}, 2**20)
    assert asked(deployment, "POST", "/_matrix/client/v3/refresh").status == 403
    assert set(asked(deployment, "GET", "/account").candidates) == {"mas1", "mas2", "mas"}
    assert told(deployment) == []


def test_its_own_pages_by_a_route(tmp_path: Path) -> None:
    """`pool: mas` needs no pool in the file."""
    deployment = deployed(tmp_path, ours="routes: [{host: auth.a.test, pool: mas}]\n")
    host = Headers([(b"host", b"auth.a.test")])
    assert decide(b"GET", b"/account/", host, "192.0.2.7", deployment.plan).candidates == ("mas",)
    with pytest.raises(ConfigError, match="there is no pool `mas`"):
        deployed(tmp_path, "", ours="routes: [{host: auth.a.test, pool: mas}]\n")


def test_an_address_given_as_a_workers(tmp_path: Path) -> None:
    """`workers.mas` stands above what Synapse's files say."""
    ours = "workers: {mas: {endpoint: 'unix:/run/mas.sock', serves: [], health: /health}}\n"
    deployment = deployed(tmp_path, ours=ours)
    assert deployment.plan.workers["mas"].endpoint == "unix:/run/mas.sock"
    assert asked(deployment, "POST", "/_matrix/client/v3/login").candidates == ("mas",)


def test_a_worker_of_synapses_with_the_same_name(tmp_path: Path) -> None:
    """It stays what it is."""
    deployment = deployed(tmp_path, workers={"mas": WORKER.format(name="mas")})
    assert asked(deployment, "POST", "/_matrix/client/v3/login").candidates == ("matrix-authentication-service",)
    assert asked(deployment, "GET", "/_synapse/mas/query_user", "127.0.0.1").candidates == ("mas",)


def test_why(tmp_path: Path) -> None:
    """In one sentence, and of the others why not."""
    plan = deployed(tmp_path).plan
    explanation = explain(b"POST", b"/_matrix/client/v3/login", NOTHING, "192.0.2.7", plan)
    assert explanation.decision.reason == "only the Matrix Authentication Service answers it"
    assert set(explanation.others.values()) == {"it is not the Matrix Authentication Service"}
    row = next(row for row in plan.rows if row.endpoint.name == "logout_all")
    assert (row.pool, row.workers, row.fallback) == ("mas", ("mas",), ())


def test_the_sidecar_itself_is_not_mas(tmp_path: Path) -> None:
    """A loop is refused, with the key that makes it."""
    with pytest.raises(ConfigError, match=r"synapse\.mas: tcp:localhost:8008 is where the sidecar itself listens"):
        deployed(tmp_path, mas="http://localhost:8008")
