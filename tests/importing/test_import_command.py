"""`matrix-sidecar import` on the configurations of the parity tests, on small ones, and on what is no configuration."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from click.testing import Result
from parity import haproxy_file, nginx_files
from runners import runner

from sidecar.cli import main
from sidecar.config.load import load_settings
from sidecar.importing import report
from sidecar.importing.assessment import Examined, Foreign, examine
from sidecar.importing.haproxy_lines import haproxy_foreign
from sidecar.importing.haproxy_words import sections
from sidecar.importing.nginx_lines import nginx_foreign
from sidecar.importing.nginx_tree import tree
from sidecar.synapse.endpoint_rows import load_endpoints

DOCUMENTS = ("docker-nginx", "nginx-workers", "two-hosts")
PLACES = {
    "HTTP": ":::80 v4v6",
    "HTTPS": ":::443 v4v6 ssl crt /etc/ssl/private/",
    "MA1SD": ":::8090",
    "MAXCONN": "10000",
    "ACME": "acme.example.org:80",
    "LOG": "127.0.0.1:514",
    "PLACE": "/run/haproxy",
    "PEER1": "mlb1:1023",
    "PEER2": "mlb2:1023",
    "STATS": ":::5555 v4v6",
    "SORRY": "/etc/haproxy/sorry.http",
}
TABLE = load_endpoints("1.163")

EXPECTED_DIFFERENCES = {
    "a worker can serve it, so it does not go to main",
    "the sidecar denies it unless `access` lists networks; your proxy lets it through",
    "a regular expression matches other text in the path by accident; the sidecar routes it by its endpoint",
    "the writer of account_data can answer without another process",
}
"""Why requests that are served there may go elsewhere here."""


def written(name: str, directory: Path) -> Path:
    """The files of a document, as an administrator has them; the one to begin with."""
    if name == "two-hosts":
        (directory / "haproxy.cfg").write_text(haproxy_file.haproxy(PLACES, observed=False))
        return directory / "haproxy.cfg"
    make = {"docker-nginx": nginx_files.docker_nginx, "nginx-workers": nginx_files.nginx_workers}[name]
    return make("8008").write(directory, observed=False)


def foreign(path: Path) -> Foreign:
    if path.suffix == ".cfg":
        return haproxy_foreign(sections(path.read_text(), str(path)))
    import crossplane

    return nginx_foreign(tree(crossplane.parse(str(path), comments=False)["config"]))


def run(*arguments: object) -> Result:
    return runner().invoke(main, ["import", *map(str, arguments)])


@pytest.fixture(scope="module", params=DOCUMENTS)
def examined(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Examined:
    path = written(request.param, tmp_path_factory.mktemp(request.param))
    return examine(foreign(path), TABLE)


def test_what_differs_differs_for_a_known_reason(examined: Examined) -> None:
    """Most go to the same workers; the rest fails there, is left on main, is closed here, or was taken for a room."""
    same = [each for each in examined.compared if not each.difference]
    assert len(same) > len(examined.compared) / 2
    others = {each.difference for each in examined.compared if each.difference and not each.faulty}
    assert others <= EXPECTED_DIFFERENCES
    assert all(each.ours for each in examined.compared)


def test_nothing_that_is_converted_goes_where_it_cannot_be_served(examined: Examined) -> None:
    """By the same judgement that finds faults there."""
    wrong = [
        each.answered.probe.shown
        for each in examined.compared
        for name in each.ours
        if name in examined.roles.processes
        and not examined.roles.processes[name].foreign
        and not examined.roles.process_serves(examined.roles.processes[name], each.answered.probe.row)
    ]
    assert wrong == []


def test_every_line_is_told(examined: Examined) -> None:
    """No directive is passed over in silence, but those that only hold others, or stand in what was told."""
    lines = {(str(each.place), each.text) for each in report.told(examined)}
    silent = [
        line.text
        for line in examined.foreign.lines
        if (str(line.place), line.text) not in lines
        and not re.match(r"(http|events|server|geo) \{|(proxy_pass|return)\b", line.text)
    ]
    assert silent == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_file_is_one_that_check_takes(name: str, tmp_path: Path) -> None:
    """Written with -o or to standard output, it is the same, and check finds nothing to say."""
    path, target = written(name, tmp_path), tmp_path / "sidecar.yaml"
    kind = "haproxy" if path.suffix == ".cfg" else "nginx"
    result = run(kind, path, "-o", target, "--synapse", "1.163.2")
    assert (result.exit_code, result.stdout) == (0, "")
    printed = run(kind, path)
    assert printed.stdout == target.read_text()
    checked = runner().invoke(main, ["check", "--no-ask", "-c", str(target)])
    assert checked.exit_code == 0, checked.output
    assert "converted: " in result.stderr
    assert "not converted: " in result.stderr
    assert "not needed: " in result.stderr
    assert re.search(
        r"Of \d+ kinds of requests for endpoints of Synapse 1\.163, \d+ go to the same workers\.", result.stderr
    )


KNOWN_FAULTS = {
    "docker-nginx": (
        "only a writer of typing can answer this",
        "PUT /_matrix/client/{r0|v3|unstable}/rooms/{room_id}/typing/{user_id}",
        "only the main process can answer this",
        "GET /_matrix/media/{r0|v3|v1}/config",
        "with a room ID without a domain",
    ),
    "nginx-workers": ("it has no media repository", "with text that a user wrote", "POST /_matrix/media/v1/create"),
    "two-hosts": ("it has no media repository", "GET /_matrix/client/v1/media/config"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_diff_prints_what_goes_where_it_cannot_be_served(name: str, tmp_path: Path) -> None:
    """The faults that the parity tests see on the real proxies; exit status 1."""
    path = written(name, tmp_path)
    result = run("haproxy" if path.suffix == ".cfg" else "nginx", path, "--diff")
    assert result.exit_code == 1
    for sentence in KNOWN_FAULTS[name]:
        assert sentence in result.stdout
    assert result.stderr == ""
    place = re.search(r"^(\S+):(\d+): sent to (\S+): ", result.stdout)
    assert place is not None
    line = Path(place[1]).read_text().splitlines()[int(place[2]) - 1]
    assert line.split()[0] in ("location", "use_backend")


SMALL = """\
server {
    listen 443 ssl; listen 127.0.0.1:8080; listen [::1]:8081; listen unix:/run/edge.sock; listen 8082;
    server_name matrix.example.com;
    location ~ ^(/_matrix|/_synapse/client) {
        proxy_pass http://localhost:8008; client_max_body_size 0; proxy_read_timeout 0; proxy_set_header X-Own yes;
    }
    location = /.well-known/matrix/server { return 200 '{"m.server": "matrix.example.com:443"}'; }
    location /hookshot/ { proxy_pass http://127.0.0.1:9000/; }
    location /jitsi { proxy_pass http://127.0.0.1:9001; }
    location ^~ /outer { location /outer/inner { return 204; } }
    location ~ "^/odd/[a-z]+" { return 204; }
    location ~ ^/plain/ { return 204; }
    location /old { return 301 https://$host/new$request_uri; }
    location /no { return 404; }
    location @named { return 404; }
    location / { root /var/www/element; }
}
"""


def test_a_monolith_needs_no_pools(tmp_path: Path) -> None:
    """One process, some routes, and what stands for files or other paths is told to be lost."""
    (tmp_path / "site.conf").write_text(SMALL)
    result = run("nginx", tmp_path / "site.conf", "-o", tmp_path / "sidecar.yaml")
    assert result.exit_code == 0, result.output
    settings = load_settings(str(tmp_path / "sidecar.yaml"))
    assert settings.listen == (
        *("tcp:8080:interface=127.0.0.1", r"tcp:8081:interface=\:\:1", "unix:/run/edge.sock", "tcp:8082"),
    )
    assert settings.workers["main"].endpoint == "tcp:localhost:8008"
    assert {name for name in settings.pools if name != "main"} == {"127.0.0.1:9000", "127.0.0.1:9001"}
    routes = {route.path: route for route in settings.routes}
    answer = routes["/.well-known/matrix/server"].respond
    assert answer is not None
    assert answer.headers == {"Content-Type": "application/json"}
    assert routes["/jitsi/**"].pool == "127.0.0.1:9001"
    assert routes["/hookshot/**"].pool == "127.0.0.1:9000"
    assert settings.pools["127.0.0.1:9000"].strip_prefix == "/hookshot"
    assert routes["/old"].redirect is not None
    assert routes["/old"].redirect.to == "https://{host}/new{target}"
    assert routes["/no/**"].refuse == 404
    assert routes["/plain/**"].respond is not None
    said = " ".join(result.stderr.split())
    for sentence in (
        "it serves files",
        "the sidecar always has a limit",
        "see `timeouts.answer`",
        "the sidecar changes no header except X-Forwarded-For",
        'listen: "ssl:443',
    ):
        assert sentence in said


SYNC_ALONE = """\
upstream main { server 127.0.0.1:8008; }
upstream sync { server unix:/run/sync1.sock; server unix:/run/sync2.sock; }
upstream login { server unix:/run/login1.sock; }
server {
    listen 8448;
    location ~ ^/_matrix/client/(r0|v3)/sync$ { proxy_pass http://sync; }
    location ~ ^/_matrix/client/(api/v1|r0|v3|unstable)/login$ { proxy_pass http://login; }
    location / { proxy_pass http://main; }
}
"""


def test_a_file_that_knows_two_paths(tmp_path: Path) -> None:
    """Workers for `/sync` are the pool of syncs, however much of its kind is left on main; logins have a route."""
    (tmp_path / "site.conf").write_text(SYNC_ALONE)
    result = run("nginx", tmp_path / "site.conf", "-o", tmp_path / "sidecar.yaml")
    assert result.exit_code == 0, result.output
    settings = load_settings(str(tmp_path / "sidecar.yaml"))
    assert settings.pools["sync"].workers == ("sync1", "sync2")
    assert settings.pools["client"].workers == ("main",)
    assert {route.pool for route in settings.routes} == {"login"}
    assert settings.pools["login"].workers == ("login1",)


PORTS = """\
upstream main { server 127.0.0.1:8008; }
upstream sync { server 127.0.0.1:8083; server 127.0.0.1:8084; }
server {
    listen 8448;
    location = /.well-known/matrix/client { return 200 '{}'; add_header Access-Control-Allow-Origin *; add_header A b; }
    location ~ ^/_matrix/client/v3/sync$ { proxy_pass http://sync; }
    location / { proxy_pass http://main; }
}
"""


def test_ports_and_fields_of_answers(tmp_path: Path) -> None:
    """Workers that only ports tell apart are called by them; what lets browsers read an answer needs no line."""
    (tmp_path / "site.conf").write_text(PORTS)
    result = run("nginx", tmp_path / "site.conf", "-o", tmp_path / "sidecar.yaml")
    assert result.exit_code == 0, result.output
    settings = load_settings(str(tmp_path / "sidecar.yaml"))
    assert settings.pools["sync"].workers == ("worker8083", "worker8084")
    told = re.findall(r": add_header (\S+) .*\n    ([\w ]+):", result.stderr)
    assert told == [("Access-Control-Allow-Origin", "not needed"), ("A", "not converted")]


REST = """\
defaults
    mode http
frontend f
    bind *:80
    use_backend fed_in if { path_beg /_matrix/federation/v1/send/ }
    use_backend main if { path_beg /_matrix /_synapse/client }
    default_backend {rest}
backend main
    server synapse 127.0.0.1:8008
backend fed_in
    server f1 127.0.0.1:8091
backend {rest}
    server {rest}1 127.0.0.1:8090
"""


@pytest.mark.parametrize("rest", ["element", "static"])
def test_who_gets_the_rest_is_no_synapse(rest: str, tmp_path: Path) -> None:
    """Whatever its name: it gets the admin API as well, because nobody thought of it, and none of Matrix."""
    (tmp_path / "haproxy.cfg").write_text(REST.replace("{rest}", rest))
    result = run("haproxy", tmp_path / "haproxy.cfg", "-o", tmp_path / "sidecar.yaml")
    assert result.exit_code == 0, result.output
    settings = load_settings(str(tmp_path / "sidecar.yaml"))
    foreign = settings.workers[f"{rest}1"]
    assert (foreign.serves, foreign.writes) == ((), None)
    assert [(route.path, route.pool) for route in settings.routes if not route.table] == [(None, rest)]
    checked = runner().invoke(main, ["check", "-c", str(tmp_path / "sidecar.yaml")])
    assert checked.exit_code == 0, checked.output


def test_what_is_not_understood_is_told(tmp_path: Path) -> None:
    """A verdict that rests on something unknown is given all the same, with how many it concerns."""
    (tmp_path / "haproxy.cfg").write_text(
        "frontend f\n use_backend %[path,map_reg(/etc/haproxy/routes.map)] if { path_beg /_matrix/client/ }\n"
        " default_backend main\nbackend main\n server main 127.0.0.1:8008\n"
    )
    for option in ("--diff", "--host=x.example.org"):
        result = run("haproxy", tmp_path / "haproxy.cfg", option)
        assert re.search(
            r"not understood: import does not know the converter `map_reg`.*; "
            r"the report may be wrong about [0-9,]+ kinds of requests",
            result.stderr,
        )


def test_the_host_may_be_said(tmp_path: Path) -> None:
    """Where several servers forward, the one with most pools is taken, unless told otherwise."""
    (tmp_path / "a.conf").write_text(
        "upstream main { server unix:/run/main.sock; } upstream sync { server unix:/run/sync.sock weight=2; }\n"
        "server { server_name one.example.org; location / { proxy_pass http://main; }\n"
        "location ~ /sync$ { proxy_pass http://sync; } }\n"
        "server { server_name two.example.org; location / { proxy_pass http://main; } }\n"
    )
    assert "sync" in run("nginx", tmp_path / "a.conf").stdout
    assert "weight: 2.0" in run("nginx", tmp_path / "a.conf").stdout
    told = run("nginx", tmp_path / "a.conf", "--host", "two.example.org").stdout
    assert "# sync: {" in told
    clean = run("nginx", tmp_path / "a.conf", "--host", "two.example.org", "--diff")
    assert (clean.exit_code, clean.stdout) == (
        0,
        f"every request for an endpoint of Synapse {load_endpoints().release} goes to a process that can serve it\n",
    )


def test_parts_of_a_configuration_count_as_if_they_were_included(tmp_path: Path) -> None:
    """Upstreams in one file, locations without a server in another."""
    (tmp_path / "upstreams.conf").write_text("upstream main { server 10.0.0.1:8008; }\n")
    (tmp_path / "locations.conf").write_text("location / { proxy_pass http://main; }\n")
    result = run("nginx", tmp_path / "upstreams.conf", tmp_path / "locations.conf")
    assert result.exit_code == 0
    assert "tcp:10.0.0.1:8008" in result.stdout
    assert result.stdout.startswith("# matrix-sidecar, made from upstreams.conf, locations.conf.\n")


HAPROXY = """\
frontend public
    bind 10.0.0.1:80,10.0.0.2:81
    bind :8009 accept-proxy
    bind /run/x.sock
    timeout client 0
    tcp-request connection reject if { src 192.0.2.0/24 }
    http-request auth realm x if { path /x }
    http-request return status 200 content-type application/json string "{}" if { path /.well-known/matrix/server }
    http-request deny if { path_beg /secret }
    acl matrix hdr(host) -i matrix.example.org
    acl listed path -f @FILE@
    acl missing path -f /nowhere/at/all
    use_backend hook if { path_beg /hook/ } { method POST } { src 10.0.0.0/8 }
    use_backend hook if { path_beg /hook2 } !{ method POST }
    use_backend hook if { path,lower /hook3 }
    use_backend hook unless matrix
    use_backend hook if listed || missing
    redirect location https://x.example.org/ code 301 if { path /away }
    redirect prefix https://y.example.org if { path -m end .away }
    use_backend unsaid if matrix { path_end .unsaid }
    default_backend synapse
backend synapse
    server one tcp4@10.0.0.3:8008 weight 5
    server two ipv6@[2001:db8::1]:8008 weight 5
    server three $ENVIRONMENT
    server four
backend hook
    server hook 127.0.0.1:9000
cache none
    total-max-size 4
"""


def test_lines_of_haproxy_that_have_no_counterpart(tmp_path: Path) -> None:
    """Each is told with what to do instead, and the rest is carried over."""
    (tmp_path / "values").write_text("# none\n/hook4\n")
    (tmp_path / "haproxy.cfg").write_text(HAPROXY.replace("@FILE@", str(tmp_path / "values")))
    result = run("haproxy", tmp_path / "haproxy.cfg", "--host", "matrix.example.org")
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert "- tcp:80:interface=10.0.0.1\n  - tcp:81:interface=10.0.0.2\n  - unix:/run/x.sock" in text
    assert "{path: /hook/**, method: [POST], source: [10.0.0.0/8], pool: hook}" in text
    assert "{path: /away, redirect: {to: 'https://x.example.org/', status: 301}}" in text
    assert "{path: /.well-known/matrix/server, respond: {status: 200, body: '{}'" in text
    assert r"tcp:2001\:db8\:\:1:8008" in text
    said = " ".join(result.stderr.split())
    for sentence in (
        "the conditions of a route cannot express this one",
        'write `listen: "haproxy:tcp:8009"`, and list the balancers',
        "let the kernel's firewall",
        "see `timeouts.stall`",
        "the sidecar does not cache",
    ):
        assert sentence in said


@pytest.mark.parametrize("kind", ["nginx", "haproxy"])
def test_what_is_no_configuration_is_one_sentence(kind: str, tmp_path: Path) -> None:
    """Exit status 2, nothing on standard output."""
    empty, large = tmp_path / "empty", tmp_path / "large"
    empty.write_text("")
    large.write_bytes(b"#" * (5 << 20))
    for path, sentence in (
        (tmp_path / "absent", "No such file"),
        (empty, "no upstream or backend"),
        (large, "larger than 4 MiB"),
    ):
        result = run(kind, path)
        assert (result.exit_code, result.stdout) == (2, "")
        assert sentence in result.stderr
    assert run(kind).exit_code == 2
    directory = run("haproxy", tmp_path)
    assert directory.exit_code == 2


def test_faults_of_the_file_are_told_with_their_line(tmp_path: Path) -> None:
    """A missing include and a broken block do not keep the rest from being read."""
    (tmp_path / "a.conf").write_text(
        "include absent.conf;\nupstream main { server unix:/run/main.sock; }\nlocation / { proxy_pass http://main; }\n"
    )
    result = run("nginx", tmp_path / "a.conf")
    assert result.exit_code == 0
    assert "absent.conf" in result.stderr
    wrong = run("nginx", tmp_path / "a.conf", "--synapse", "new")
    assert wrong.exit_code == 2


HOMESERVER = """\
server_name: example.org
report_stats: false
enable_media_repo: false
media_instance_running_background_jobs: media1
listeners:
  - {path: /sockets/synapse_inbound_main.sock, type: http, resources: [{names: [client, federation]}]}
  - {path: /sockets/replication_main.sock, type: http, resources: [{names: [replication]}]}
redis: {enabled: true}
instance_map: {main: {path: /run/main}, client_sync1: {path: /run/sync1}, media1: {path: /run/media1}}
stream_writers: {typing: [client_sync1], to_device: [client_sync1], account_data: [client_sync1],
  receipts: [client_sync1], presence: [client_sync1], quarantined_media_changes: [media1]}
"""
SERVES = {
    **dict.fromkeys(("client_reader1", "client_sync1"), "client"),
    **{f"rooms{number}": "client, federation" for number in range(1, 5)},
    "federation_reader1": "federation",
    "media1": "client, federation, media",
}


def synapse_files(directory: Path) -> list[str]:
    """The options that name Synapse's own files, which are written."""
    (directory / "homeserver.yaml").write_text(HOMESERVER)
    (directory / "workers").mkdir()
    for name, resources in SERVES.items():
        (directory / "workers" / f"{name}.yaml").write_text(
            f"worker_app: synapse.app.generic_worker\nworker_name: {name}\n"
            f"enable_media_repo: {str(name == 'media1').lower()}\nworker_listeners:\n"
            f"  - {{type: http, path: /sockets/synapse_inbound_{name}.sock, resources: [{{names: [{resources}]}}]}}\n"
        )
    return ["--synapse-config", str(directory / "homeserver.yaml"), "--synapse-workers", str(directory / "workers")]


def test_synapses_own_files_say_who_serves_what(tmp_path: Path) -> None:
    """Then nothing is concluded: the receipts that go to the room workers are known to fail there."""
    path, options = written("docker-nginx", tmp_path), synapse_files(tmp_path)
    result = run("nginx", path, *options, "-o", tmp_path / "sidecar.yaml")
    assert result.exit_code == 0, result.output
    text = (tmp_path / "sidecar.yaml").read_text()
    assert f"synapse:\n  config: [{tmp_path}/homeserver.yaml]\n  workers: [{tmp_path}/workers]\n" in text
    assert not re.search("^ [^#]*serves", text, re.MULTILINE)
    checked = runner().invoke(main, ["check", "--no-ask", "-c", str(tmp_path / "sidecar.yaml")])
    assert checked.exit_code < 2, checked.output
    told = run("nginx", path, *options, "--diff").stdout
    assert "only a writer of receipts can answer this (client_sync1)" in told
    concluded = run("nginx", path, "--diff").stdout
    assert "only a writer of receipts can answer this (rooms1" in concluded


def test_processes_on_other_hosts_are_known_by_their_ports(tmp_path: Path) -> None:
    """Where the files say where a process listens, and the proxy how it is reached; the rest is no Synapse."""
    (tmp_path / "homeserver.yaml").write_text(
        "server_name: example.org\nreport_stats: false\nredis: {enabled: true}\n"
        "instance_map: {main: {host: hs, port: 9093}}\n"
        "listeners:\n  - {port: 8008, bind_addresses: ['::'], type: http, resources: [{names: [client, federation]}]}\n"
    )
    (tmp_path / "workers").mkdir()
    (tmp_path / "workers" / "generic1.yaml").write_text(
        "worker_app: synapse.app.generic_worker\nworker_name: generic1\n"
        "worker_listeners: [{type: http, port: 8030, resources: [{names: [client]}]}]\n"
    )
    (tmp_path / "haproxy.cfg").write_text(
        "frontend f\n bind :80\n use_backend other if { path_beg /other }\n"
        " use_backend readers if { path_reg /(versions|joined_rooms)$ }\n default_backend hs\n"
        "backend hs\n server main hs.example.org:8008\nbackend readers\n server r1 127.0.0.1:8030\n"
        "backend other\n server main 10.0.0.9:9000\n"
    )
    options = ["--synapse-config", tmp_path / "homeserver.yaml", "--synapse-workers", tmp_path / "workers"]
    result = run("haproxy", tmp_path / "haproxy.cfg", *options)
    assert result.exit_code == 0, result.output
    assert "\n  main: {endpoint: 'tcp:hs.example.org:8008'}\n" in result.stdout
    assert "generic1: {endpoint" not in result.stdout
    assert "{path: /_matrix/client/versions, pool: readers}" in result.stdout
    assert "serves: []" in result.stdout


def test_files_of_synapse_without_a_process_are_a_fault(tmp_path: Path) -> None:
    """Each problem is told as `check` tells it."""
    path = written("docker-nginx", tmp_path)
    result = run("nginx", path, "--synapse-config", tmp_path / "absent.yaml")
    assert result.exit_code == 2
    assert "absent.yaml" in result.stderr


def test_without_the_reader_of_nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """crossplane is an extra: without it one sentence says what to type, and HAProxy's files are read all the same."""
    monkeypatch.setitem(sys.modules, "crossplane", None)  # what Python does for a module that is not there
    (tmp_path / "nginx.conf").write_text("events {}\n")
    result = run("nginx", tmp_path / "nginx.conf")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "Reading nginx.conf needs crossplane, which is not installed. "
        f"Install it: {sys.executable} -m pip install crossplane\n"
    )
    lines = "frontend f\n  bind :80\n  default_backend b\nbackend b\n  server s 127.0.0.1:8008\n"
    (tmp_path / "haproxy.cfg").write_text(lines)
    done = run("haproxy", tmp_path / "haproxy.cfg")
    assert done.exit_code == 0, done.output
