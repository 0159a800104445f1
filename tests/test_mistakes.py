"""Typical mistakes in sidecar.yaml and in Synapse's files: each gives one message, in its place, with what to write."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import frozen

from sidecar.commands.checking import check_files

WORKERS = 'workers:\n  main: {endpoint: "unix:main.sock"}\n  sync1: {endpoint: "unix:sync1.sock"}\n'
HOMESERVER = """\
server_name: example.org
report_stats: false
listeners:
  - {type: http, path: DIR/main.sock, resources: [{names: [client, federation]}]}
"""
WORKER = """\
worker_app: synapse.app.generic_worker
worker_name: w1
worker_listeners:
  - {type: http, path: DIR/w1.sock, resources: [{names: [client]}]}
"""
INSTANCES = "instance_map: {main: {host: localhost, port: 9093}}\n"
MORE = "\npools: {sync: {workers: [sync1]}}\n"
SYNAPSE = "synapse: {config: homeserver.yaml, workers: [w1.yaml]}\n"


@frozen
class Mistake:
    """What is written into a file, and the only problem that it gives, without the directory in front of it."""

    text: str
    problem: str
    file: str = "sidecar.yaml"

    def __str__(self) -> str:
        return self.problem


def ours(text: str, problem: str) -> Mistake:
    """Below sound `workers`."""
    return Mistake(WORKERS + text, f"sidecar.yaml:{problem}")


def worker(old: str, new: str, problem: str) -> Mistake:
    """In the file of a worker."""
    return Mistake(WORKER.replace(old, new), problem, "w1.yaml")


def homeserver(old: str, new: str, problem: str) -> Mistake:
    """In homeserver.yaml."""
    return Mistake(HOMESERVER.replace(old, new) + INSTANCES, problem, "homeserver.yaml")


MISTAKES = [
    # Keys and structure
    ours("lisen: tcp:1", "4: lisen: unknown key; did you mean `listen`?"),
    ours("Listen: tcp:1", "4: Listen: unknown key; did you mean `listen`?"),
    ours("timeouts: {waits: 10s}", "4: timeouts.waits: unknown key; did you mean `wait`?"),
    ours(
        "forwarded: {proxy-protocol: 10.0.0.1}",
        "4: forwarded.proxy-protocol: unknown key; did you mean `proxy_protocol`?",
    ),
    ours("operator: {password: open}", "4: operator.password: unknown key; did you mean `password_hash`?"),
    ours("on: 1", "4: True: YAML does not read this key as text; put it in quotes"),
    ours(
        "listen: tcp:1\nlisten: tcp:2",
        "5: listen: the key was given before in line 4; the last one counts; remove one of them",
    ),
    ours("pools:\n  - sync", "4: pools: must be a mapping, each entry beginning with `NAME:`, not a list"),
    ours(
        "routes:\n  a: {path: /x, refuse: 403}",
        "4: routes: must be a list, each item beginning with `- `, not a mapping",
    ),
    Mistake(
        'workers:\n  main: "unix:main.sock"',
        "sidecar.yaml:2: workers.main: must be a mapping with keys such as `endpoint: "
        "unix:/run/matrix-synapse/sync1.sock`, not a single value",
    ),
    ours(
        "synapse: /etc/matrix-synapse/homeserver.yaml",
        "4: synapse: must be a mapping with keys such as `config: /etc/matrix-synapse/homeserver.yaml`, "
        "not a single value",
    ),
    Mistake(
        "",
        "sidecar.yaml: there is nothing to forward to; name Synapse's files in `synapse.config`, or workers in "
        "`workers`",
    ),
    # YAML
    Mistake(
        'workers:\n\tmain: {endpoint: "unix:m"}',
        "sidecar.yaml:2: this is no valid YAML: a tab indents this line or the one above; write spaces",
    ),
    Mistake(
        'workers:\n  main: {endpoint: "unix:m"}\n listen: tcp:1',
        "sidecar.yaml:3: this is no valid YAML: the indentation does not fit the lines above, or a `:` is missing",
    ),
    ours("pools: {sync: {workers: [sync1}}", "4: this is no valid YAML: a `,` or the `]` of a list is missing"),
    ours("pools: {sync: {workers: *sync}}", "4: this is no valid YAML: `*` or `!` begins a value; put it in quotes"),
    # Values
    ours("access: {admin: true}", "4: access.admin: must be a network such as `10.0.0.0/8`, not `true`"),
    ours(
        "access: {admin: all}",
        "4: access.admin: `all` is no address or network; write for example `10.0.0.0/8` or `::1`",
    ),
    ours(
        "access: {admin: 10.0.0.1/8}",
        "4: access.admin: `10.0.0.1/8` has bits set behind the prefix length; write `10.0.0.0/8`",
    ),
    ours(
        "timeouts: {wait: 10 sec}",
        "4: timeouts.wait: must be a duration such as `10s`, `5m`, `1h` or `250ms`, not `10 sec`",
    ),
    ours(
        "limits: {request_body: 50MB}",
        "4: limits.request_body: must be a size such as `16K`, `50M` or `1G`, not `50MB`",
    ),
    ours("limits: {waiting: many}", "4: limits.waiting: must be a whole number such as `1000`, not `many`"),
    ours("pools: {sync: {spread: 0}}", "4: pools.sync.spread: must be at least 1, not `0`"),
    ours(
        "synapse: {version: 1.163}",
        "4: synapse.version: must be a version such as `1.163.2`; YAML does not read this as text: put it in quotes",
    ),
    ours(
        "pools: {sync: {affinity: User}}",
        "4: pools.sync.affinity: must be `user`, `room`, `origin`, `source`, `session`, `path` or `none`, not `User`; "
        "did you mean `user`?",
    ),
    ours(
        "log: {level: warning}",
        "4: log.level: must be `info`, `debug`, `warn` or `error`, not `warning`; did you mean `warn`?",
    ),
    ours(
        "operator: {password_hash: open}",
        "4: operator.password_hash: is no password hash; write what `matrix-sidecar password` prints, in quotes",
    ),
    # Endpoints
    ours(
        "listen: 8008",
        "4: listen: must be an endpoint string, not a number; write for example `tcp:8008:interface=127.0.0.1`",
    ),
    ours(
        'listen: "10.0.0.2:8009"',
        "4: listen: `10.0.0.2:8009` is no endpoint string: it must begin with `tcp:`, `tcp6:`, `ssl:`, `unix:` or "
        "`systemd:`; write `tcp:8009:interface=10.0.0.2`",
    ),
    ours(
        'listen: "tcp:8008:interface=::1"',
        "4: listen: `tcp:8008:interface=::1` is no endpoint string: it has too many parts; write each colon inside a "
        "value as `\\:`, in IPv6 for example `interface=\\:\\:1`",
    ),
    Mistake(
        "workers:\n  main: {endpoint: /run/main.sock}",
        "sidecar.yaml:2: workers.main.endpoint: `/run/main.sock` is no endpoint string: it must begin with `unix:` or "
        "`tcp:`; write `unix:/run/main.sock`",
    ),
    Mistake(
        'workers:\n  main: {endpoint: "http://10.0.0.2:8008/"}',
        "sidecar.yaml:2: workers.main.endpoint: `http://10.0.0.2:8008/` is no endpoint string: it must begin with "
        "`unix:` or `tcp:`; write `tcp:10.0.0.2:8008`",
    ),
    ours(
        "listen: tcp:8008:interface=127.0.0.1\nadmin: tcp:8008",
        "5: admin: `listen[0]` has this address already; give the operator's listener a port of its own",
    ),
    ours(
        "listen: [tcp:8008, tcp6:8008]",
        "4: listen[1]: warning: on Linux it takes IPv4 too, unless net.ipv6.bindv6only is 1, so that `tcp:8008` cannot "
        "listen; leave that out",
    ),
    ours(
        "listen: [tcp:8008, tcp:8008:interface=10.0.0.2]",
        "4: listen[1]: `listen[0]` has this address already; remove one of them, or write another port",
    ),
    Mistake(
        'listen: tcp:8008\nworkers:\n  main: {endpoint: "tcp:127.0.0.1:8008"}',
        "sidecar.yaml:3: workers.main.endpoint: tcp:127.0.0.1:8008 is where the sidecar itself listens; write "
        "the address of worker main",
    ),
    ours(
        'listen: "ssl:8448:privateKey=key.pem"',
        "4: listen[0]: key.pem does not exist; give a PEM file that the sidecar's user may read",
    ),
    # Other files, and variables
    ours(
        "include: conf.d/*.yaml",
        "4: include: the directory conf.d does not exist; create it, or remove the pattern",
    ),
    ours(
        "include: nowhere.yaml",
        "4: include: nowhere.yaml does not exist; give the path of an existing file, or a pattern such as "
        "`conf.d/*.yaml`",
    ),
    ours(
        "include: sidecar.yaml",
        "4: include: sidecar.yaml is this file itself; keep the included files in a directory of their own: "
        "`conf.d/*.yaml`",
    ),
    ours(
        "include: [more.yaml, more.yaml]",
        "4: include[1]: more.yaml is included in sidecar.yaml:4 already; remove one of the two",
    ),
    ours(
        "include: 7",
        "4: include: must be a file or pattern such as `conf.d/*.yaml`; YAML does not read this as text: put "
        "it in quotes",
    ),
    Mistake(
        WORKERS + "include: more.yaml\npools: {sync: {workers: [sync1]}}",
        "more.yaml:2: pools.sync.workers: sidecar.yaml:5 sets this too; leave it out here or there",
    ),
    ours(
        "limits:\n  waiting: ${NO_SUCH_VARIABLE}",
        "5: limits.waiting: the environment variable `NO_SUCH_VARIABLE` is not set; set it where this program starts, "
        "or write `${NO_SUCH_VARIABLE:-default}`",
    ),
    # Names
    ours("routes: [{path: /x, pool: snyc}]", "4: routes[0].pool: there is no pool `snyc`; did you mean `sync`?"),
    ours(
        "pools: {snyc: {workers: [sync1]}}",
        "4: pools.snyc: warning: nothing sends requests to this pool; did you mean `sync`?",
    ),
    ours(
        "pools: {sync: {workers: [sync9]}}",
        "4: pools.sync.workers[0]: no worker has the name `sync9`; did you mean `sync1`?",
    ),
    ours("pools: {sync: {fallback: mian}}", "4: pools.sync.fallback[0]: there is no pool `mian`; did you mean `main`?"),
    # Routes
    ours(
        "routes: [{path: /x, method: get, refuse: 403}]", "4: routes[0].method: methods are case-sensitive; write `GET`"
    ),
    ours(
        "routes: [{path: /x}]",
        "4: routes[0]: a route needs exactly one of `pool`, `respond`, `redirect`, `refuse` or `table`, and it has "
        "none",
    ),
    ours(
        'routes: [{path: "^/x/.*$", refuse: 403}]',
        "4: routes[0].path: `^/x/.*$` looks like a regular expression; write `{name}` for one segment and `/**` for "
        "any rest",
    ),
    ours("routes: [{path: /x, refuse: true}]", "4: routes[0].refuse: must be a whole number such as `403`, not `true`"),
    # Synapse's files
    Mistake(
        "synapse: {config: homeserver.yaml, workers: nowhere}\n"
        "pools: {sync: {workers: [sync1]}, client: {workers: [client1, sync1]}}\nworkers: {w9: {weight: 2}}",
        "sidecar.yaml:1: synapse.workers: nowhere does not exist, so that nothing describes w9, sync1, client1; "
        "correct the path, or create what is missing",
    ),
    Mistake(
        "synapse: {config: nowhere.yaml}\npools: {sync: {workers: [sync1]}}",
        "nowhere.yaml: the file does not exist; give the path of an existing one",
    ),
    Mistake(
        SYNAPSE.replace("homeserver.yaml", "[homeserver.yaml, w1.yaml]").replace("[w1.yaml]", "[]"),
        "w1.yaml:1: worker_app: this file describes one worker, but `synapse.config` names it as a file for all "
        "processes; name it in `synapse.workers` of sidecar.yaml instead",
    ),
    homeserver(
        "server_name: example.org\n",
        "",
        "homeserver.yaml: the key `server_name` is missing, and Synapse "
        "refuses to start: write `server_name: example.org`",
    ),
    homeserver(
        "report_stats: false",
        "report_stats: [",
        "homeserver.yaml:4: this is no valid YAML: a `[` or `{` is not closed, or a value is missing",
    ),
    worker("type: http", "type: htp", "w1.yaml:4: worker_listeners[0].type: must be `http`, `metrics` or `manhole`"),
    worker(
        "[client]",
        "[clinet]",
        "w1.yaml:4: worker_listeners[0].resources[0].names: `clinet` is no listener resource, and Synapse refuses to "
        "start; did you mean `client`?",
    ),
    worker(
        "DIR/w1.sock",
        "/nowhere/w1.sock",
        "w1.yaml:4: worker_listeners[0].path: warning: the sidecar finds no directory /nowhere; is Synapse down, or "
        "is the socket elsewhere?",
    ),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=str)
def test_one_cause_gives_one_message(mistake: Mistake, tmp_path: Path) -> None:
    """Nothing that only follows from the first; where it is, what is wrong, and what to write."""
    texts = {"sidecar.yaml": SYNAPSE, "homeserver.yaml": HOMESERVER + INSTANCES, "w1.yaml": WORKER, "more.yaml": MORE}
    for name, text in {**texts, mistake.file: mistake.text}.items():
        (tmp_path / name).write_text(text.replace("DIR", str(tmp_path)))
    problems = check_files(str(tmp_path / "sidecar.yaml"), ask=False).problems
    assert [str(problem).replace(f"{tmp_path}/", "") for problem in problems] == [mistake.problem]


def test_there_is_no_problem_without_a_mistake(tmp_path: Path) -> None:
    """Otherwise the table would prove little."""
    for name, text in {"sidecar.yaml": SYNAPSE, "homeserver.yaml": HOMESERVER + INSTANCES, "w1.yaml": WORKER}.items():
        (tmp_path / name).write_text(text.replace("DIR", str(tmp_path)))
    assert check_files(str(tmp_path / "sidecar.yaml"), ask=False).problems == ()
    (tmp_path / "sidecar.yaml").write_text(WORKERS)
    assert check_files(str(tmp_path / "sidecar.yaml"), ask=False).problems == ()


def test_two_causes_give_two_messages(tmp_path: Path) -> None:
    """All that is wrong is said at once."""
    (tmp_path / "sidecar.yaml").write_text(f"{WORKERS}limits: {{waitng: 1}}\ntimeouts: {{head: x}}\n")
    problems = check_files(str(tmp_path / "sidecar.yaml"), ask=False).problems
    assert [problem.key for problem in problems] == ["limits.waitng", "timeouts.head"]


def test_a_number_that_may_be_a_secret_is_not_repeated(tmp_path: Path) -> None:
    """Only booleans are, and what a duration, a size or a count was to be."""
    text = f"{WORKERS}routes: [{{path: /x, header: {{Authorization: 31337}}, refuse: 403}}]\n"
    (tmp_path / "sidecar.yaml").write_text(text)
    (problem,) = check_files(str(tmp_path / "sidecar.yaml"), ask=False).problems
    assert problem.message == "must be text such as `hello`; YAML does not read this as text: put it in quotes"
