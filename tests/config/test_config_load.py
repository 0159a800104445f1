"""`sidecar.yaml`: what is right becomes Settings, what is wrong becomes sentences with lines, all at once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, get_args, get_origin
from urllib.parse import urljoin, urlsplit

import attrs
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.config import kinds
from sidecar.config.balancers import BalancedServer, Balancer
from sidecar.config.compression import Compress
from sidecar.config.endpoint_strings import overlap
from sidecar.config.load import keys_of, kind_of, load_settings, settle
from sidecar.config.operator import Operator
from sidecar.config.passwords import UNKNOWN
from sidecar.config.schema import Access, Forwarded, Limits, Log, Pool, Redirect, Respond, Route, Settings, Timeouts
from sidecar.document import Document, parse_document
from sidecar.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
WORKERS = "workers: {main: {endpoint: unix:/run/main.sock}}\n"


def read(text: str) -> Settings:
    return settle(parse_document(text.encode(), "/etc/s/sidecar.yaml"))


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(text)
    return [str(problem).removeprefix("/etc/s/sidecar.yaml:") for problem in caught.value.problems]


def fault(text: str) -> str:
    """The only fault of a text, which is made complete where it names no worker."""
    (message,) = faults(text if "workers" in text or "synapse" in text else f"{text}\n{WORKERS}")
    return message


# -- what is right


def test_three_lines_are_a_complete_file() -> None:
    """The file of three lines gives the defaults and Synapse's files."""
    settings = load_settings(str(CONF / "minimal.yaml"))
    assert settings.synapse.config == ("/etc/matrix-synapse/homeserver.yaml", "/etc/matrix-synapse/conf.d")
    assert settings.synapse.workers == ("/etc/matrix-synapse/workers",)
    assert attrs.evolve(settings, synapse=Settings().synapse) == Settings()
    assert settings.path == str(CONF / "minimal.yaml")
    assert settings.warnings == ()


def test_the_complete_example_says_what_the_minimal_one_says() -> None:
    """The commented example shows defaults only."""
    assert load_settings(str(CONF / "sidecar.yaml")) == load_settings(str(CONF / "minimal.yaml"))


def test_the_illustrations_in_the_complete_example_are_right() -> None:
    """Every example in a comment is accepted as soon as its hash is removed, and no key is missing."""
    text = re.sub(r"(?m)^( +|)# (?=[- ]|\w+: [\"\d]|\w+:$)", r"\1", (CONF / "sidecar.yaml").read_text())
    settings = settle(parse_document(text.encode(), "/etc/s/sidecar.yaml"))
    assert settings.warnings == ()
    assert len(settings.routes) == 9
    assert settings.pools["bridges"] == Pool(
        workers=("bridge1",), affinity="user", bounded=1.25, request_body=10 * 2**20
    )
    for section in (Settings, Compress, Limits, Timeouts, Forwarded, Access, Log, Operator, type(settings.synapse)):
        assert all(re.search(rf"\b{key}:", text) for key in keys_of(section))


def test_the_explicit_example_is_right() -> None:
    """Workers can be stated without any file of Synapse."""
    settings = load_settings(str(CONF / "explicit.yaml"))
    assert settings.workers["typing1"].writes == ("typing", "to_device", "receipts")
    assert settings.workers["sync2"].weight == 2
    assert settings.warnings == ()


def test_one_value_stands_for_a_list() -> None:
    """Where a list of single values is meant, one value will do."""
    settings = read(
        'listen: "tcp:1"\nsynapse: {config: hs.yaml, workers: w}\naccess: {admin: 10.0.0.1}\n'
        'pools: {sync: {workers: sync*, fallback: main}}\nroutes: [{method: GET, source: "::1", host: X.org, pool: a}]'
    )
    assert settings.listen == ("tcp:1",)
    assert settings.access.admin == (ip_network("10.0.0.1/32"),)
    assert settings.pools["sync"].fallback == ("main",)
    assert settings.routes[0].host == ("x.org",)


def test_relative_paths_are_seen_from_the_file() -> None:
    """Paths are relative to the directory of the file, in endpoint strings too."""
    settings = read(
        "listen: unix:run/http.sock\nsynapse: {config: [hs.yaml, /abs.yaml]}\nworkers: {a: {endpoint: unix:../a.sock}}"
    )
    assert settings.listen == ("unix:/etc/s/run/http.sock",)
    assert settings.synapse.config == ("/etc/s/hs.yaml", "/abs.yaml")
    assert settings.workers["a"].endpoint == "unix:/etc/s/../a.sock"


def test_keys_without_value_count_as_absent() -> None:
    """A section whose lines are all comments is no fault."""
    settings = read(f"listen:\nadmin:\nlimits:\ntimeouts:\n  idle:\npools:\n  sync:\n{WORKERS}")
    assert settings.listen == Settings().listen
    assert settings.timeouts == Timeouts()
    assert settings.pools == {"sync": Pool()}


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("10s", 10), ("5m", 300), ("1h", 3600), ("250ms", 0.25), ("1.5s", 1.5), ("2d", 172800), ("7", 7), ("0.5", 0.5)],
)
def test_durations_are_seconds(written: str, seconds: float) -> None:
    """Durations have a unit or are seconds."""
    assert read(f"timeouts: {{idle: {written}}}\n{WORKERS}").timeouts.idle == seconds


@pytest.mark.parametrize(
    ("written", "size"), [("50M", 50 << 20), ("16K", 16 << 10), ("1G", 1 << 30), ("9", 9), ("'9'", 9)]
)
def test_sizes_are_octets(written: str, size: int) -> None:
    """Sizes have a unit of 1024 or are octets."""
    assert read(f"limits: {{linger: {written}}}\n{WORKERS}").limits.linger == size


def test_null_in_a_condition_means_present() -> None:
    """A query parameter or a field without a value only has to be there."""
    (route,) = read(f"routes: [{{query: {{a: null, b: c}}, header: {{X-A: }}, refuse: 403}}]\n{WORKERS}").routes
    assert route.query == {"a": None, "b": "c"}
    assert route.header == {"X-A": None}


# -- what is wrong


def test_all_faults_are_told_at_once_in_the_order_of_their_lines() -> None:
    """One reading of the file shows everything that has to be changed."""
    messages = faults(
        """\
lisen: 8008
listen: [8008, "tpc:1"]
limits: {request_head: 5X, waitng: 3}
timeouts: [1]
workers:
  "a b": {endpoint: "unix:"}
  c: {serves: [clint], weight: -1}
routes:
  - path: x
    method: [GET, get]
  - {pool: a, redirect: {status: 9}, source: [10.0.0.1/8, foo]}
log: {level: warning, access: yes please}
"""
    )
    assert [message.partition(": ")[0] + " " + message.split(": ")[1] for message in messages] == [
        "1 lisen",
        "2 listen[0]",
        "2 listen[1]",
        "3 limits.request_head",
        "3 limits.waitng",
        "4 timeouts",
        "6 workers.a b",
        "6 workers.a b.endpoint",
        "7 workers.c.serves[0]",
        "7 workers.c.weight",
        "9 routes[0].path",
        "10 routes[0].method[1]",
        "11 routes[1].redirect.status",
        "11 routes[1].redirect.to",
        "11 routes[1].source[0]",
        "11 routes[1].source[1]",
        "12 log.level",
        "12 log.access",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lisen: tcp:1", "1: lisen: unknown key; did you mean `listen`?"),
        ("zzz: 1", "known are `listen`, `admin`,"),
        ("limits: {waitng: 1}", "limits.waitng: unknown key; did you mean `waiting`?"),
        ("on: 1", "YAML does not read this key as text; put it in quotes"),
        ("limits: 5", "limits: must be a mapping with keys such as `request_target: 16K`, not a single value"),
        ("limits: []", "not a list"),
        ("routes: {path: /a}", "must be a list, each item beginning with `- `, not a mapping"),
        ("routes: [null]", "needs exactly one of `pool`, `respond`, `redirect`, `refuse` or `table`, and it has none"),
        ("routes: [{path: /a, table: false}]", "routes[0].table: a route that does not go on with the table needs"),
        ("routes: [{path: /a, table: true, pool: sync}]", "not both `pool` and `table`"),
        ("pools: [a]", "must be a mapping, each entry beginning with `NAME:`, not a list"),
        ("pools: {sync: 5}", "pools.sync: must be a mapping with keys such as `workers:`, not a single value"),
        ("pools: {'a b': {}}", "`a b` is no name"),
        ("pools: {sync: {workers: 'a b'}}", "no worker name or glob"),
        ("pools: {sync: {affinity: users}}", "not `users`; did you mean `user`?"),
        ("pools: {sync: {bounded: 0.5}}", "must be from 1 to 1000000, not `0.5`"),
        ("pools: {sync: {bounded: much}}", "must be a number such as `1.5`, not `much`"),
        ("listen: []", "the list is empty"),
        ("listen: [[tcp:1]]", "such as `tcp:8008:interface=127.0.0.1`, not a list"),
        ("listen: {a: b}", "such as `tcp:8008:interface=127.0.0.1`, not a mapping"),
        ("listen: true", "must be a server endpoint such as `tcp:8008:interface=127.0.0.1`, not `true`"),
        ("listen: [null]", "such as `tcp:8008:interface=127.0.0.1`, and is empty"),
        ('admin: "a\\0"', "NUL"),
        ("admin: 9600", "must be an endpoint string, not a number"),
        ("listen: tcp:1\nadmin: tcp:1", "2: admin: `listen[0]` has this address already"),
        (
            'admin: "haproxy:tcp:2:interface=127.0.0.1"',
            "admin: the operator's listener does not know",
        ),
        ('listen: [tcp:1, "haproxy:tcp:2"]', "1: listen[1]: no peer may send the PROXY protocol here; name the"),
        ("timeouts: {idle: 10 s}", "must be a duration such as `10s`, `5m`, `1h` or `250ms`, not"),
        ("timeouts: {idle: true}", "must be a duration"),
        ("timeouts: {idle: 0}", "must be from 1ms to 365d, not `0`"),
        ("timeouts: {drain: -1}", "must be from 0s to 365d"),
        ("timeouts: {idle: 366d}", "must be from 1ms to 365d"),
        ("timeouts: {idle: .nan}", "must be from 1ms to 365d"),
        ("timeouts: {idle: .inf}", "must be from 1ms to 365d"),
        ("limits: {linger: 1.5M}", "must be a size such as `16K`, `50M` or `1G`, not"),
        ("limits: {linger: true}", "must be a size"),
        ("limits: {request_head: 0}", "must be at least 1"),
        ("limits: {waiting: 1.5}", "must be a whole number such as `1000`, not"),
        ("limits: {waiting: -1}", "must be at least 0, not `-1`"),
        ("access: {admin: localhost}", "`localhost` is no address or network; write for example `10.0.0.0/8`"),
        ("access: {admin: 10.1.0.0/8}", "write `10.0.0.0/8`"),
        ("access: {admin: 10}", "must be a network such as `10.0.0.0/8`, not a number"),
        ("log: {access: 'yes'}", "must be `true` or `false`, not `yes`"),
        ("synapse: {config: ''}", "is empty"),
        ("synapse: {config: a, version: 1.163}", "put it in quotes"),
        ("synapse: {config: a, version: new}", "`new` is no Synapse release; write `1.163.2`"),
        ("synapse: {workers: a}", "worker files merge over homeserver.yaml"),
        ("workers: {main: {}}", "workers.main: the key `endpoint` is missing"),
        ("workers: {master: {endpoint: unix:/a}}", "here its name is `main`"),
        ("workers: {a: {endpoint: unix:/a, writes: typo}}", "not `typo`"),
        ("routes: [{path: /a, pool: a, refuse: 403}]", "not both `pool` and `refuse`"),
        ("routes: [{path: a, refuse: 403}]", "`a` is no path; it begins with `/`"),
        ("routes: [{path: /a?b, refuse: 403}]", "conditions on the query go under `query`"),
        ("routes: [{path: /**/a, refuse: 403}]", "`**` is the last segment"),
        ("routes: [{path: /a*, refuse: 403}]", "`**` is the last segment"),
        ("routes: [{path: '/a{b}', refuse: 403}]", "stands for a whole segment"),
        ("routes: [{method: get, refuse: 403}]", "methods are case-sensitive; write `GET`"),
        ("routes: [{method: 'G T', refuse: 403}]", "is no method"),
        ("routes: [{host: 'a:443', refuse: 403}]", "is no host name; write it without port"),
        ("routes: [{header: {'a b': c}, refuse: 403}]", "is no field name"),
        ('routes: [{header: {a: "b\\r\\nc"}, refuse: 403}]', "must be one line"),
        ("routes: [{query: {v: 1}, refuse: 403}]", "put it in quotes"),
        ("routes: [{path: /a, refuse: 200}]", "must be from 400 to 599"),
        ("routes: [{path: /a, redirect: {}}]", "redirect.to: the key is missing"),
        *(
            (f"routes: [{{path: /a, redirect: {{to: '{to}'}}}}]", f"redirect.to: `{to}` lets the client choose")
            for to in ("{target}", "/{target}", "//{target}", "https:{target}", "https://{target}", "{host}{target}")
        ),
        *(
            (f"routes: [{{path: /a, redirect: {{to: '{to}'}}}}]", "is no URL; write `{target}` and `{host}`, and all")
            for to in ("https://münchen.example/", "/a b", "/☃", "/{path}", "/a\tb", "/{", "")
        ),
        ("routes: [{path: /a, respond: {headers: {X: ☃}}}]", "respond.headers.X: `☃` cannot stand in a header"),
        ("routes: [{path: /a, respond: {headers: {X: é}}}]", "holds ASCII only; write it in ASCII"),
        ("pools: {client: {sorry: {body: x, type: 'text/☃'}}}", "sorry.type: `text/☃` cannot stand in a header"),
        ("routes: [{path: /a, redirect: {to: /b, status: 305}}]", "must be 301, 302, 303, 307 or 308"),
        ("routes: [{path: /a, respond: {headers: {Content-Length: '3'}}}]", "the sidecar sets this field itself"),
        ("routes: [{path: /a, respond: {status: 204, body: x}}]", "a response with status 204 has no body"),
        ("limits: {waiting: 1, waiting: 2}", "the key was given before in line 1"),
    ],
)
def test_a_fault_is_a_sentence(text: str, sentence: str) -> None:
    """Each fault says what is wrong and what to write instead."""
    assert sentence in fault(text)


@pytest.mark.parametrize(
    "text",
    [
        'listen: "haproxy:tcp:1"\nforwarded: {proxy_protocol: 10.0.0.9}',
        'listen: "haproxy:unix:/a.sock"',
        'listen: "haproxy:systemd:domain=UNIX:index=0"',
    ],
)
def test_a_balancer_that_is_named_may_announce(text: str) -> None:
    """The PROXY protocol needs peers that are believed; those of a UNIX socket are."""
    assert read(f"{text}\n{WORKERS}").warnings == ()


def test_a_file_without_any_worker_is_a_fault() -> None:
    """An empty file forwards to nobody."""
    assert "there is nothing to forward to" in faults("")[0]
    assert "must be a mapping" in faults("- a")[0]


def test_a_file_that_is_no_yaml_is_one_sentence(tmp_path: Path) -> None:
    """Syntax errors and absent files come as ConfigError too."""
    assert faults("a: 1\nb: - c")[0].startswith("2: this is no valid YAML")
    with pytest.raises(ConfigError, match="does not exist"):
        load_settings(str(tmp_path / "absent.yaml"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("limits: {worker_connecting: 50}", "limits.worker_connecting: warning: Synapse's queue holds 50"),
        ("limits: {request_head: 17K}", "at more than 16384 bytes of head"),
        ("tokens: {deadline: 20s}", "tokens.deadline: warning: is longer than tokens.patience"),
        ("limits: {request_target: 20K}", "limits.request_target: warning: is larger than limits.request_head"),
        ("listen: [tcp:1, onion:2]", "listen[1]: warning: Twisted itself has no such kind of endpoint"),
        ("admin: onion:2", "admin: warning: Twisted itself"),
        ("admin: tcp:2", "admin: warning: anyone who can connect can drain workers"),
        ("admin: 'tcp6:2:interface=10.0.0.1'", "admin: warning: anyone who can connect"),
        (f"admin: tcp:2\noperator: {{password_hash: '{UNKNOWN}'}}", "the password crosses the network unencrypted"),
        (
            "admin: unix:/run/a.sock",
            "admin: warning: every user on this host can drain workers through this socket",
        ),
        ("admin: unix:/run/a.sock:mode=666", "write `:mode=660` after it"),
        (
            "forwarded: {trust: ['::1', 0.0.0.0/0]}\naccess: {mas: 10.0.0.1}",
            "forwarded.trust[1]: warning: any client can",
        ),
        ("forwarded: {trust: ['::/0']}\naccess: {admin: 10.0.0.1}", "claim an address of access.admin"),
        ("operator: {allow: '::1'}", "operator: warning: says who may use the operator's listener, but there is none"),
        ("routes: [{refuse: 403}, {path: /a, refuse: 403}]", "the ones below are never reached"),
    ],
)
def test_what_is_odd_is_a_warning(text: str, sentence: str) -> None:
    """A file that works, but hardly as meant, is loaded with a warning."""
    (warning,) = read(f"{text}\n{WORKERS}").warnings
    assert sentence in str(warning)


@pytest.mark.parametrize(
    "text",
    [
        "admin: 'tcp:2:interface=127.0.0.1'",
        "admin: 'tcp6:2:interface=\\:\\:1'",
        "admin: unix:/run/a.sock:mode=660",
        "admin: unix:/run/a.sock\noperator: {actions: none}",
        "admin: unix:/run/a.sock\noperator: {password_file: p}",
        "forwarded: {trust: [0.0.0.0/0]}",
        "forwarded: {trust: [10.0.0.0/8]}\naccess: {admin: 10.0.0.1}",
        "admin: tcp:2\noperator: {allow: 10.0.0.0/8}",
        f"admin: ssl:2:privateKey=/k\noperator: {{password_hash: '{UNKNOWN}'}}",
    ],
)
def test_listeners_of_the_operator_that_are_guarded(text: str) -> None:
    """Loopback, a UNIX socket, an allow list, and a password under TLS are nothing to warn of."""
    assert read(f"{text}\n{WORKERS}").warnings == ()


def test_a_password_is_not_repeated() -> None:
    """Who writes the password where its hash belongs does not find it in the log."""
    message = fault("operator: {password_hash: hunter2}")
    assert message.startswith("1: operator.password_hash: is no password hash; write what `matrix-sidecar password`")
    assert "hunter2" not in message
    both = fault(f"admin: unix:a\noperator: {{password_hash: '{UNKNOWN}', password_file: p}}")
    assert "there is a password_hash as well" in both


# -- properties

LEAVES = {
    "duration": st.floats(0.001, 1e6),
    "size": st.integers(1, 2**40),
    "number": st.integers(1, 10**6),
    "status": st.integers(400, 599),
    "weight": st.floats(0, 100),
    "factor": st.floats(1, 100),
    "network": st.ip_addresses().map(lambda address: ip_network(address)),
    "flag": st.booleans(),
    "text": st.text("abc: #-1", max_size=5),
    "name or glob": st.sampled_from(["sync*", "a", "b?"]),
}


def leaf(kind: kinds.Kind) -> st.SearchStrategy[Any]:
    words = kind.json.get("enum") or [kind.read(yaml.safe_load(kind.example), "/etc/s")]
    return LEAVES.get(kind.name, st.sampled_from(words))


def sections(section: type) -> st.SearchStrategy[Any]:
    """Values of a section, as the schema's annotations describe them."""
    return st.builds(section, **{name: values(key.type) for name, key in keys_of(section).items()})


def values(annotation: Any) -> st.SearchStrategy[Any]:
    kind = kind_of(annotation)
    if kind is not None:
        return leaf(kind)
    if attrs.has(annotation):
        return sections(annotation)
    parts = get_args(annotation)
    if get_origin(annotation) is tuple:
        return st.lists(values(parts[0]), max_size=2).map(tuple)
    if get_origin(annotation) is get_origin(Mapping[str, str]):
        return st.dictionaries(values(parts[0]), values(parts[1]), max_size=2)
    return st.one_of([st.none() if part is type(None) else values(part) for part in parts])


ROUTES = st.builds(
    Route,
    **{
        name: values(key.type)
        for name, key in keys_of(Route).items()
        if name not in ("pool", "respond", "redirect", "refuse", "table")
    },
    pool=st.just("main"),
) | st.builds(
    Route,
    path=st.just("/a"),
    respond=st.none() | st.builds(Respond, headers=st.just({"A": "b"}), body=values(kinds.Text)),
    redirect=st.builds(Redirect, to=st.just("https://{host}{target}"), status=st.sampled_from([301, 308])),
).map(lambda route: attrs.evolve(route, redirect=None) if route.respond else route)


def sound(name: str, balancer: Balancer) -> Balancer:
    """The same without contradictions."""
    check = attrs.evolve(
        balancer.check, port=None, agent=None, expect=balancer.check.expect if balancer.check.http else ()
    )
    servers = balancer.servers or {"one": BalancedServer(endpoint="tcp:10.0.0.1:1")}
    return attrs.evolve(balancer, listen=(f"unix:/run/{name}",), servers=servers, check=check)


def _apart(endpoints: tuple[str, ...]) -> tuple[str, ...]:
    """Those that can all be listened on."""
    kept: list[str] = []
    for each in endpoints:
        if not any(overlap(each, other) for other in kept):
            kept.append(each)
    return tuple(kept)


SETTINGS = sections(Settings).flatmap(
    lambda settings: st.lists(ROUTES, max_size=2).map(
        lambda routes: attrs.evolve(
            settings,
            routes=tuple(routes),
            balancers={name: sound(name, balancer) for name, balancer in settings.balancers.items()},
            listen=_apart(settings.listen) or ("tcp:1",),
            admin=None,
            operator=attrs.evolve(settings.operator, password_file=None),
            synapse=attrs.evolve(settings.synapse, config=("/hs.yaml",)),
            compress=settings.compress or Compress(),
        )
    )
)


def plain(value: Any) -> Any:
    """Settings as a person would write them into the file."""
    if attrs.has(type(value)):
        written = {name: plain(getattr(value, name)) for name in keys_of(type(value))}
        return {name: part for name, part in written.items() if part is not None}
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, tuple):
        return [plain(part) for part in value]
    return value if isinstance(value, (str, int, float)) or value is None else str(value)


@given(SETTINGS)
def test_settings_survive_being_written_and_read(settings: Settings) -> None:
    """Whatever the schema can hold can be written into a file and is read back the same."""
    assert read(yaml.safe_dump(plain(settings), allow_unicode=True)) == settings


def every_section(
    section: type = Settings, path: tuple[str | int, ...] = ()
) -> list[tuple[tuple[str | int, ...], type]]:
    found = [(path, section)]
    for name, key in keys_of(section).items():
        for part in (key.type, *get_args(key.type)):
            inner = {tuple: (0,), get_origin(Mapping[str, str]): ("x",)}.get(get_origin(key.type), ())
            if isinstance(part, type) and attrs.has(part):
                found += every_section(part, (*path, name, *inner))
    return found


@given(st.sampled_from(every_section()), st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12))
def test_every_unknown_key_is_named(where: tuple[tuple[str | int, ...], type], key: str) -> None:
    """A key that the schema does not have is named in the error, wherever it stands."""
    path, section = where
    if key in keys_of(section):
        return
    value: Any = {f"{key}": 1}
    for part in reversed(path):
        value = [value] if part == 0 else {part: value}
    found = [message for message in faults(yaml.safe_dump(value)) if "unknown key" in message]
    assert len(found) == 1
    assert re.search(rf"[ .]{key}: unknown key; (did you mean|known are)", found[0])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.dates() | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def near_misses(draw: st.DrawFn, section: type = Settings) -> Any:
    """Files with the right keys and anything for values."""
    made: dict[Any, Any] = {}
    for name, key in keys_of(section).items():
        if draw(st.booleans()):
            inner = next(
                (part for part in (key.type, *get_args(key.type)) if isinstance(part, type) and attrs.has(part)), None
            )
            value = draw(near_misses(inner) | JSON) if inner else draw(JSON)
            wrapped = {tuple: [value], None: value}.get(get_origin(key.type), {"x": value})
            made[name] = draw(st.sampled_from([wrapped, value]))
    return made


def outcome(document: Document) -> Settings | str:
    try:
        return settle(document)
    except ConfigError as error:
        return str(error)


@given(st.one_of(JSON, near_misses()))
@example({"routes": [[]]})
@example({"workers": {None: None}})
def test_any_value_is_settings_or_sentences(value: Any) -> None:
    """Whatever a file holds, the answer is Settings or ConfigError."""
    document = attrs.evolve(parse_document(b"a: 1", "/etc/s/sidecar.yaml"), value=value)
    assert outcome(document)


@given(st.binary(max_size=80))
def test_any_octets_are_settings_or_sentences(content: bytes) -> None:
    """Whatever octets a file holds, the answer is Settings or ConfigError."""
    assert outcome(parse_document(content, "/etc/s/sidecar.yaml"))


@pytest.mark.parametrize(
    "to", ["https://{host}{target}", "//h{target}", "/b", "/b{target}", "https://h/?{target}#x", "b"]
)
def test_redirects_that_lead_where_they_say(to: str) -> None:
    """Another host only where one is written."""
    (route,) = read(f"routes: [{{path: /a, redirect: {{to: '{to}'}}}}]\n{WORKERS}").routes
    assert route.redirect is not None
    assert route.redirect.to == to


_TARGETS = st.text("/\\%?a.:@", max_size=6).map(lambda text: "/" + text)


@given(st.text("/:?#@ha{}", max_size=6), _TARGETS)
@example("/a", "//evil")
def test_no_target_chooses_the_host(before: str, target: str) -> None:
    """Whatever is let in before `{target}`, a browser finds the same host with any target behind it."""
    try:
        to = fault_free(before + "{target}")
    except ConfigError:
        return
    page = "https://here.example/x/y"
    hosts = {
        urlsplit(urljoin(page, to.replace("{host}", "h").replace("{target}", each))).netloc for each in ("/", target)
    }
    assert len(hosts) == 1


def fault_free(to: str) -> str:
    (route,) = settle(
        Document(
            "/s.yaml",
            {"routes": [{"path": "/a", "redirect": {"to": to}}], "workers": {"main": {"endpoint": "unix:/m"}}},
            {},
        )
    ).routes
    assert route.redirect is not None
    return route.redirect.to
