"""The sidecar as the edge, as a process with the files of conf/: HTTP to HTTPS, ACME, renewed certificates, systemd."""

from __future__ import annotations

import os
import re
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from attrs import frozen
from end_to_end.children import ask as ask_operator
from pem import Authority
from processes import PATIENCE, ROOT, TWISTD, Running, environment

from edges.programs import NAMES, Ports, certificates, sidecar_as_the_edge, trusting, workers
from edges.recording import HOLD, RecordingWorker, ask, plain_ask, reply, secure

EXAMPLE, MATRIX = NAMES
VERSIONS = "/_matrix/client/versions"


@frozen
class Edge:
    """The edge, with the workers and a server for ACME behind it."""

    place: Path
    ports: Ports
    context: ssl.SSLContext
    sidecar: Running
    workers: Mapping[str, RecordingWorker]
    acme: RecordingWorker

    def client(self, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        return secure(self.ports.https, MATRIX, context or self.context)


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    place = tmp_path_factory.mktemp("edge")
    acme = RecordingWorker("acme", None)
    with workers(place) as running, sidecar_as_the_edge(place, acme=acme.port) as (ports, context, process):
        yield Edge(place, ports, context, process, running, acme)
        acme.close()
    assert acme.failure is None


@pytest.mark.parametrize(
    ("host", "target"),
    [
        (MATRIX, "/_matrix/client/v3/rooms/%21a%2Fb:x//state?a=b"),
        (f"{EXAMPLE}:80", "/.well-known/matrix/server"),
        ("MATRIX.example.com", "/?"),
    ],
)
def test_http_is_sent_to_https(edge: Edge, host: str, target: str) -> None:
    """For good, with the same name and target and the method that it had (308); pages of any origin may follow."""
    answer = plain_ask(edge.ports.http, host, target)
    assert answer.status == 308
    assert answer.value("location") == f"https://{host.lower().removesuffix(':80')}{target}"
    assert answer.value("access-control-allow-origin") == "*"


def test_challenges_go_to_the_other_server(edge: Edge) -> None:
    """As they came, over HTTP and HTTPS, and to no process of Synapse."""
    target = "/.well-known/acme-challenge/token-%2F_1"
    seen = plain_ask(edge.ports.http, EXAMPLE, target).seen
    assert (seen.worker, seen.target) == ("acme", target)
    with edge.client() as client:
        assert ask(client, MATRIX, target).seen.worker == "acme"
        assert ask(client, MATRIX, "/.well-known/acme").status == 404


def test_bridges_on_this_host_are_not_redirected(edge: Edge) -> None:
    """Who asks 127.0.0.1 without TLS is answered by Synapse, which is told the scheme of `public_baseurl`.

    For all that the sidecar knows it is a proxy that says nothing; who says that it is for `http` is believed.
    """
    (port,) = edge.ports.more
    for lines, told in (((), ["https"]), (("X-Forwarded-Proto: http",), ["http"])):
        seen = plain_ask(port, f"127.0.0.1:{port}", VERSIONS, *lines).seen
        assert seen.values("x-forwarded-proto") == told


def test_nothing_else_is_there(edge: Edge) -> None:
    """Pages of Synapse's own and paths of modules are not for everybody."""
    with edge.client() as client:
        for target in ("/", "/_matrix", "/_synapse", "/health/x"):
            answer = ask(client, MATRIX, target)
            assert (answer.status, b"M_UNRECOGNIZED" in answer.content) == (404, True), target
        assert ask(client, MATRIX, "/_synapse/client/pick_username/x").seen.worker == "main"


def test_the_health_of_synapse(edge: Edge) -> None:
    """/health is answered by Synapse, over TLS and over HTTP without a name of ours, as balancers ask it."""
    with edge.client() as client:
        assert ask(client, MATRIX, "/health").seen.target == "/health"
    assert plain_ask(edge.ports.http, "127.0.0.1", "/health").seen.target == "/health"


def test_a_renewed_certificate(edge: Edge) -> None:
    """SIGHUP shows it to new connections; a long poll and an idle one go on, and a broken file changes nothing."""
    key = edge.place / "tls" / "privkey.pem"
    before = key.read_bytes()
    worker = edge.workers["sync1"]
    with edge.client() as waiting, edge.client() as idle:
        waiting.sendall(f"GET {HOLD} HTTP/1.1\r\nHost: {MATRIX}\r\n\r\n".encode())
        assert worker.held.wait(PATIENCE)
        assert ask(idle, MATRIX, VERSIONS).status == 200
        key.write_bytes(b"broken")
        edge.sidecar.signal(signal.SIGHUP)
        edge.sidecar.says(r"not reloaded, nothing has changed: \S*/tls/privkey\.pem: it holds no private key in PEM")
        with edge.client() as other:
            assert ask(other, MATRIX, VERSIONS).status == 200
        key.write_bytes(before)
        authority = certificates(edge.place / "tls")
        edge.sidecar.signal(signal.SIGHUP)
        edge.sidecar.says(r"reloaded: \S*/tls/fullchain\.pem: another certificate is in use, until 20\d\d-")
        with edge.client(trusting(authority)) as new:
            assert ask(new, MATRIX, VERSIONS).status == 200
        with pytest.raises(ssl.SSLCertVerificationError):
            edge.client()
        worker.go_on.set()
        assert reply(waiting).seen.target == HOLD
        assert ask(idle, MATRIX, VERSIONS).status == 200


def test_a_stop_ends_tls_in_good_order(tmp_path: Path) -> None:
    """An idle client is told that TLS ends, so that it knows that it has everything.

    That nobody answers challenges at that time makes the sidecar no less ready.
    """
    with workers(tmp_path), sidecar_as_the_edge(tmp_path) as (ports, context, process):
        with secure(ports.https, MATRIX, context) as client:
            assert ask(client, MATRIX, VERSIONS).status == 200
            assert plain_ask(ports.http, MATRIX, "/.well-known/acme-challenge/x").status == 503
            assert ask_operator(tmp_path / "admin.sock", "GET", "/ready")[0] == 200
            process.signal(signal.SIGTERM)
            assert client.recv(1) == b""
        assert process.ends() == 0


def test_a_socket_of_systemd_with_tls(tmp_path: Path) -> None:
    """TLS on a port that systemd holds, and for the operator, where memory that is written is never executed.

    So it is in our units (`MemoryDenyWriteExecute=`), where C cannot call Python.
    """
    listen = r'listen: "systemd:domain=INET:name=http:privateKey=privkey.pem:certKey=fullchain.pem"'
    text = f"{listen}\nworkers: {{main: {{endpoint: 'unix:main.sock'}}}}\nsynapse: {{version: '1.163.2'}}\n"
    text += "admin: 'ssl:0:privateKey=privkey.pem:certKey=fullchain.pem:interface=127.0.0.1'\n"
    authority = certificates(tmp_path)
    deny = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", deny, sys.executable, str(TWISTD), "-n", "--pidfile=", "matrix-sidecar"]
    (tmp_path / "sidecar.yaml").write_text(text)
    worker = RecordingWorker("main", tmp_path / "main.sock")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        arguments = ["-c", str(tmp_path / "sidecar.yaml")]
        with Running(arguments, tmp_path, command, listener=listener) as process:
            process.says("listening on")
            with secure(listener.getsockname()[1], MATRIX, trusting(authority)) as client:
                assert ask(client, MATRIX, VERSIONS).seen.values("x-forwarded-proto") == ["https"]
            operator = int(process.says(r"the operator is listened to on 127\.0\.0\.1:(\d+)")[1])
            with secure(operator, MATRIX, trusting(authority)) as client:
                assert ask(client, f"127.0.0.1:{operator}", "/health").status == 200
    worker.close()


def test_without_the_libraries(tmp_path: Path) -> None:
    """A start with TLS where they are not installed says what to install."""
    (tmp_path / "OpenSSL").mkdir()
    (tmp_path / "OpenSSL" / "__init__.py").write_text("raise ImportError('not installed')")
    certificates(tmp_path)
    text = "listen: 'ssl:0:privateKey=privkey.pem:certKey=fullchain.pem:interface=127.0.0.1'\n"
    (tmp_path / "sidecar.yaml").write_text(text + "workers: {main: {endpoint: 'unix:main.sock'}}\n")
    command = [sys.executable, str(TWISTD), "-n", "--pidfile=", "matrix-sidecar", "-c", str(tmp_path / "sidecar.yaml")]
    where = {**environment(), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'matrix-sidecar[tls]'" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# The files beside the configuration.


def test_the_hook_of_certbot(tmp_path: Path) -> None:
    """It puts key and certificate where edge.yaml has them, for the group only, and leaves other names alone."""
    lineage, to = tmp_path / "lineage", tmp_path / "tls"
    lineage.mkdir()
    key, certificate = Authority().issue(*NAMES)
    (lineage / "privkey.pem").write_bytes(key)
    (lineage / "fullchain.pem").write_bytes(certificate)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "systemctl").write_text('#!/bin/sh\necho "systemctl $*"\n')
    (programs / "systemctl").chmod(0o755)
    for domains, expected in (("other.example.com", ""), (" ".join(NAMES), "systemctl try-reload-or-restart")):
        where = {"RENEWED_DOMAINS": domains, "RENEWED_LINEAGE": str(lineage), "MATRIX_SIDECAR_TLS": str(to)}
        where |= {"MATRIX_SIDECAR_GROUP": str(os.getgid()), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        hook = str(ROOT / "conf" / "edges" / "certbot-deploy-hook")
        done = subprocess.run([hook], env=where, capture_output=True, text=True, check=True)
        assert done.stdout.startswith(expected)
        assert to.exists() is bool(expected)
    assert (to / "privkey.pem").read_bytes() == key
    assert [(to / name).stat().st_mode & 0o777 for name in ("privkey.pem", "fullchain.pem")] == [0o640, 0o640]


@pytest.mark.needs("systemd-analyze")
def test_the_drop_in_for_systemd(tmp_path: Path) -> None:
    """systemd takes it, and what a broken sidecar could do is hardly more than without."""
    unit = tmp_path / "matrix-sidecar.service"
    for name in (unit.name, "matrix-sidecar.socket"):
        text = (ROOT / "systemd" / name).read_text()
        (tmp_path / name).write_text(re.sub(r"/opt/venvs/matrix-sidecar/bin/[a-z-]+", sys.executable, text))
    (tmp_path / "matrix-sidecar.service.d").mkdir()
    drop_in = (ROOT / "conf" / "edges" / "systemd-drop-in.conf").read_text()
    drop_in = drop_in.replace("/opt/venvs/matrix-sidecar/bin/twistd", sys.executable)
    # What systemd-analyze reads of a unit that is no file of the system's is the file only.
    unit.write_text(unit.read_text().replace("[Install]", drop_in + "\n[Install]"))
    verify = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True, check=False)
    assert (verify.returncode, verify.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found is not None, said
    assert float(found[1]) <= 2.2


@pytest.mark.parametrize("name", ["behind-a-proxy.yaml", "edge.yaml"])
def test_nothing_is_wrong_with_a_preset(name: str, tmp_path: Path) -> None:
    """`check` finds nothing to say about it, with Synapse's files beside it."""
    (tmp_path / "tls").mkdir()
    certificates(tmp_path / "tls")
    with workers(tmp_path):
        (tmp_path / "sidecar.yaml").write_text((ROOT / "conf" / name).read_text())
        for old, new in (("/etc/matrix-synapse/homeserver.yaml, /etc/matrix-synapse/conf.d", "homeserver.yaml"),):
            (tmp_path / "sidecar.yaml").write_text((tmp_path / "sidecar.yaml").read_text().replace(old, new))
        text = (tmp_path / "sidecar.yaml").read_text().replace("/etc/matrix-synapse/workers", "workers")
        (tmp_path / "sidecar.yaml").write_text(text)
        command = [sys.executable, "-m", "sidecar.cli", "check", "--no-ask", "-c", str(tmp_path / "sidecar.yaml")]
        done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1), done.stdout
