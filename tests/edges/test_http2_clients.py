"""HTTP/2 as real programs speak it: curl, nghttp, h2load, Node, Chromium, and HAProxy and nginx in front."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen
from browser import Browser, needs_chromium
from processes import PATIENCE, ROOT, TWISTD, Running, environment, free_ports

from edges.programs import NAMES, certificates, haproxy, nginx, program, sidecar, workers
from edges.recording import HOLD, RecordingWorker, Seen, plain_ask

MATRIX = NAMES[1]
ODD = "/_matrix/client/v3/rooms/%21a%2Fb:x//state?a=b&&%20"
VERSIONS = "/_matrix/client/versions"
CONFIGURATION = """\
listen:
  - "http2:ssl:0:privateKey=privkey.pem:certKey=fullchain.pem:interface=127.0.0.1"
  - "http2:tcp:0:interface=127.0.0.1"
synapse: {config: homeserver.yaml, workers: workers}
forwarded: {trust: 127.0.0.1}
"""


@frozen
class Http2Edge:
    """A sidecar that takes HTTP/2 with and without TLS, and who works for it."""

    place: Path
    https: int
    http: int
    running: Running
    main: RecordingWorker
    sync: RecordingWorker

    @property
    def secure(self) -> str:
        return f"https://{MATRIX}:{self.https}"

    @property
    def plain(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def curl(self, *arguments: str) -> str:
        """What curl prints for a request over TLS."""
        resolved = ("--resolve", f"{MATRIX}:{self.https}:127.0.0.1", "--cacert", str(self.place / "ca.pem"))
        return output("curl", "-sS", "-m", str(int(PATIENCE)), *resolved, *arguments)


def output(name: str, *arguments: str, cwd: Path | None = None) -> str:
    command = [program(name), *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=2 * PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http2Edge]:
    place = tmp_path_factory.mktemp("http2")
    authority = certificates(place)
    (place / "ca.pem").write_bytes(authority.certificate)
    with workers(place) as working, sidecar(place, CONFIGURATION) as running:
        found = running.says(r"(?s)listening on \S+?:(\d+).*?listening on \S+?:(\d+)")
        yield Http2Edge(place, int(found[1]), int(found[2]), running, working["main"], working["sync1"])


def seen(text: str) -> Seen:
    told = json.loads(text)
    return Seen(**{**told, "fields": tuple(map(tuple, told["fields"]))})


@pytest.mark.needs("curl")
def test_curl(edge: Http2Edge) -> None:
    """Inside TLS as it likes, without as it is told; targets arrive octet for octet, and so do bodies."""
    version = ("-w", "\n%{http_version}")
    for expected, more in (("2", ()), ("1.1", ("--http1.1",)), ("2", ("--http2",))):
        text, _, spoken = edge.curl(*version, *more, "--path-as-is", edge.secure + ODD).rpartition("\n")
        assert spoken == expected
        assert seen(text).target == ODD
        assert seen(text).values("x-forwarded-proto") == ["https"]
        assert seen(text).values("host") == [f"{MATRIX}:{edge.https}"]
    text = output("curl", "-sS", *version, "--http2-prior-knowledge", edge.plain + VERSIONS)
    assert text.endswith("\n2")
    large = edge.place / "large"
    large.write_bytes(bytes(5 << 20))
    text = edge.curl("-T", str(large), edge.secure + "/_matrix/media/v3/upload")
    assert (seen(text).method, seen(text).body) == ("PUT", 5 << 20)
    text = edge.curl("-T", str(large), "-H", "Content-Length:", edge.secure + "/_matrix/media/v3/upload")
    assert (seen(text).values("transfer-encoding"), seen(text).body) == (["chunked"], 5 << 20)
    assert plain_ask(edge.http, MATRIX, VERSIONS).seen.target == VERSIONS


@pytest.mark.needs("nghttp", "h2load")
def test_nghttp2(edge: Http2Edge) -> None:
    """Many at once on one connection, with trailers, paddings and small windows; thousands without one that fails."""
    told = output("nghttp", "-v", "-m", "20", "--trailer", "x-t: 1", "-d", __file__, "-b", "60", edge.plain + VERSIONS)
    assert told.count(":status: 200") == 20
    told = output("nghttp", "-n", "-s", "-w", "16", edge.secure.replace(MATRIX, "127.0.0.1") + VERSIONS)
    assert re.search(r" 200 +\S+ " + VERSIONS, told), told
    told = output("h2load", "-n", "2000", "-c", "5", "-m", "50", edge.plain + VERSIONS)
    assert "2000 succeeded, 0 failed, 0 errored" in told


NODE = """
const http2 = require("http2"), fs = require("fs");
const [origin, name, ca, held, quick] = process.argv.slice(2);
const session = http2.connect(origin, {ca: fs.readFileSync(ca), servername: name});
const ask = (path, body) => new Promise((resolve, reject) => {
  const stream = session.request({":path": path, ":authority": name, ":method": body ? "POST" : "GET"});
  let text = "";
  stream.on("data", (piece) => text += piece).on("end", () => resolve(JSON.parse(text))).on("error", reject);
  if (body) stream.end(body);
});
(async () => {
  const cancelled = session.request({":path": held, ":authority": name});
  cancelled.on("error", () => {});
  const all = await Promise.all([...Array(50).keys()].map((n) => ask(quick + "?n=" + n, n % 2 ? "x".repeat(n) : "")));
  cancelled.close(http2.constants.NGHTTP2_CANCEL);
  console.log(JSON.stringify(all.map((each) => [each.target, each.body])));
  session.close();
})();
"""


@pytest.mark.needs("node")
def test_node(edge: Http2Edge) -> None:
    """Fifty requests at once beside a long poll, which is cancelled."""
    (edge.place / "client.js").write_text(NODE)
    arguments = (f"https://127.0.0.1:{edge.https}", MATRIX, "ca.pem", HOLD, VERSIONS)
    told = json.loads(output("node", "client.js", *arguments, cwd=edge.place))
    assert told == [[f"{VERSIONS}?n={n}", n if n % 2 else 0] for n in range(50)]


CROWD = """
const held = Array.from({length: 12}, () => fetch(HELD).then((answer) => answer.json()));
window.held = 0;
for (const each of held) each.then(() => window.held += 1);
fetch(QUICK).then((answer) => answer.json()).then((told) => {
  window.quick = [told.target, window.held];
});
"""


@needs_chromium
def test_chromium(edge: Http2Edge, tmp_path: Path) -> None:
    """A page with twelve long polls is answered at once: one connection carries all. Of HTTP/1.1 it has six."""
    edge.sync.go_on.clear()
    try:
        with Browser(tmp_path) as browser:
            browser.devtools("Security.setIgnoreCertificateErrors", ignore=True)
            browser.open(f"https://127.0.0.1:{edge.https}{VERSIONS}")
            browser.script(CROWD.replace("HELD", json.dumps(HOLD)).replace("QUICK", json.dumps(VERSIONS + "?quick")))
            browser.until("window.quick")
            assert browser.script("return window.quick") == [VERSIONS + "?quick", 0]
            edge.sync.go_on.set()
            browser.until("window.held === 12")
            spoken = "return [...new Set(performance.getEntriesByType('resource').map((e) => e.nextHopProtocol))]"
            assert browser.script(spoken) == ["h2"]
    finally:
        edge.sync.go_on.set()


@pytest.mark.needs("haproxy")
def test_behind_haproxy(edge: Http2Edge, tmp_path: Path) -> None:
    """`proto h2`: clients of HTTP/1.1 share its connections of HTTP/2, and each is told of as itself."""
    (port,) = free_ports(1)
    text = (
        "defaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
        f"frontend f\n  bind 127.0.0.1:{port}\n  option forwardfor\n  default_backend b\n"
        f"backend b\n  http-reuse always\n  server s 127.0.0.1:{edge.http} proto h2\n"
    )
    with haproxy(tmp_path, text, (port,)):
        for target in (ODD, VERSIONS, ODD):
            found = plain_ask(port, MATRIX, target).seen
            assert (found.target, found.values("host")) == (target, [MATRIX])
            assert found.values("x-forwarded-for") == ["127.0.0.1"]
        told = output("curl", "-sS", "-T", __file__, f"http://127.0.0.1:{port}/_matrix/media/v3/upload")
        assert seen(told).body == Path(__file__).stat().st_size


@pytest.mark.needs("nginx")
def test_behind_nginx(edge: Http2Edge, tmp_path: Path) -> None:
    """Its `grpc_pass` is the way in which this nginx speaks HTTP/2 to what stands behind it."""
    (port,) = free_ports(1)
    text = (
        f"http {{ access_log off; client_body_temp_path {tmp_path}/body; server {{ listen 127.0.0.1:{port};"
        f" location / {{ grpc_pass grpc://127.0.0.1:{edge.http}; grpc_set_header Host $host; }} }} }}\n"
    )
    with nginx(tmp_path, "", text, (port,)):
        for target in (VERSIONS, VERSIONS + "?a=%2F"):
            found = plain_ask(port, MATRIX, target).seen
            assert (found.target, found.values("host"), found.values("te")) == (target, [MATRIX], [])


@pytest.mark.needs("curl")
def test_a_stop(tmp_path: Path) -> None:
    """A request that runs is finished, and the process ends at once behind it."""
    certificates(tmp_path)
    with workers(tmp_path) as working, sidecar(tmp_path, CONFIGURATION) as running:
        port = running.says(r"(?s)listening on \S+?:\d+.*?listening on \S+?:(\d+)")[1]
        command = ["curl", "-sS", "--http2-prior-knowledge", f"http://127.0.0.1:{port}{HOLD}"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as client:
            assert working["sync1"].held.wait(PATIENCE)
            running.signal(signal.SIGTERM)
            running.says("waiting for 1 connection to end")
            working["sync1"].go_on.set()
            assert client.stdout is not None
            assert json.loads(client.stdout.read())["target"] == HOLD
        assert running.ends() == 0


# What is said.


def test_without_the_library(tmp_path: Path) -> None:
    """A start says what to install, and so does `check`."""
    (tmp_path / "h2").mkdir()
    (tmp_path / "h2" / "__init__.py").write_text("raise ImportError('not installed')")
    text = "listen: 'http2:tcp:0:interface=127.0.0.1'\nworkers: {main: {endpoint: 'unix:main.sock'}}\n"
    (tmp_path / "sidecar.yaml").write_text(text)
    where = {**environment(), "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    start = [sys.executable, str(TWISTD), "-n", "--pidfile=", "matrix-sidecar", "-c", "sidecar.yaml"]
    check = [sys.executable, "-m", "sidecar.cli", "check", "-c", "sidecar.yaml"]
    for command in (start, check):
        done = subprocess.run(command, cwd=tmp_path, env=where, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "pip install 'matrix-sidecar[http2]'" in done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr


def test_where_openssl_cannot_ask(tmp_path: Path) -> None:
    """With MemoryDenyWriteExecute= in force the log says why clients get HTTP/1.1, and how to change that."""
    certificates(tmp_path)
    (tmp_path / "sidecar.yaml").write_text(
        "listen: 'http2:ssl:0:privateKey=privkey.pem:certKey=fullchain.pem:interface=127.0.0.1'\n"
        "workers: {main: {endpoint: 'unix:main.sock'}}\nsynapse: {version: '1.163.2'}\n"
    )
    deny = "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
    command = [sys.executable, "-c", deny, sys.executable, str(TWISTD), "-n", "--pidfile=", "matrix-sidecar"]
    with Running(["-c", str(tmp_path / "sidecar.yaml")], tmp_path, command) as process:
        process.says(r"HTTP/1\.1 only: .*MemoryDenyWriteExecute=no")
        process.says("listening on")
