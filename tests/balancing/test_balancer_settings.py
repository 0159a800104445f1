"""`balancers:` in the file: what it means, and what it is told where it means nothing."""

from __future__ import annotations

import pytest

from sidecar.config.balancers import Balancer
from sidecar.config.load import settle
from sidecar.document import parse_document
from sidecar.errors import ConfigError

START = "workers: {main: {endpoint: 'tcp:127.0.0.1:9'}}\nadmin: 'tcp:9000:interface=127.0.0.1'\nbalancers:\n  pg:\n"
SERVER = "    servers: {one: {endpoint: 'tcp:10.0.0.2:5432'}}\n"
LISTEN = "    listen: 'tcp:5432:interface=127.0.0.1'\n"


def balancer(text: str) -> Balancer:
    return settle(parse_document((START + text).encode(), "sidecar.yaml")).balancers["pg"]


def test_little_is_enough() -> None:
    """HAProxy's defaults, where it has one."""
    read = balancer(LISTEN + SERVER)
    assert (read.balance, read.on_down, read.retries) == ("least_connections", "keep", 3)
    assert (read.check.interval, read.check.rise, read.check.fall, read.check.http) == (2.0, 2, 3, None)


@pytest.mark.parametrize(("word", "off"), [("tcp", False), ("none", True)])
def test_a_word_for_a_check(word: str, off: bool) -> None:
    assert balancer(f"{LISTEN}{SERVER}    check: {word}\n").check.off is off


@pytest.mark.parametrize(
    ("text", "key", "told"),
    [
        (SERVER, "balancers.pg.listen", "the key is missing"),
        (LISTEN, "balancers.pg.servers", "the key is missing"),
        (LISTEN + "    servers: {}\n", "balancers.pg.servers", "there is no server; write for example `one:"),
        ("    listen: []\n" + SERVER, "balancers.pg.listen", "the list is empty; write for example `tcp:5432"),
        (LISTEN + SERVER + "    chek: tcp\n", "balancers.pg.chek", "unknown key; did you mean `check`?"),
        (LISTEN + SERVER + "    check: udp\n", "balancers.pg.check", "must be `tcp` or `none`, or a mapping with keys"),
        (LISTEN + SERVER + "    check: {expect: 200}\n", "balancers.pg.check.expect", "is about the answer to `http`"),
        (LISTEN + SERVER + "    check: {http: /x}\n", "balancers.pg.check.http", "is no method with a path; write"),
        (LISTEN + SERVER + "    check: {http: 'GET /a b'}\n", "balancers.pg.check.http", "holds more than a path"),
        (
            LISTEN + SERVER + "    balance: leastconn\n",
            "balancers.pg.balance",
            "must be `least_connections` or `first`",
        ),
        ("    listen: 'tcp:9000:interface=127.0.0.1'\n" + SERVER, "balancers.pg.listen", "admin listens there too"),
        ("    listen: 'haproxy:tcp:1'\n" + SERVER, "balancers.pg.listen", "leave `haproxy:` out"),
        ("    listen: 'ssl:1:privateKey=k'\n" + SERVER, "balancers.pg.listen", "passes TLS on as it is"),
        ("    listen: 'onion:1'\n" + SERVER, "balancers.pg.listen", "listens on plain sockets only"),
        (
            LISTEN + "    servers: {one: {endpoint: 'tcp:127.0.0.1:5432'}}\n",
            "balancers.pg.servers.one.endpoint",
            "a balancer listens there itself",
        ),
        (
            LISTEN + "    servers: {one: {endpoint: 'unix:/run/x'}}\n    check: {port: 8008}\n",
            "balancers.pg.check.port",
            "is a UNIX socket and has no ports",
        ),
    ],
)
def test_faults(text: str, key: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        balancer(text)
    problem = caught.value.problems[0]
    assert (problem.key, problem.file) == (key, "sidecar.yaml")
    assert told in problem.message
    assert problem.line >= 4


def test_what_never_happens_is_a_warning() -> None:
    text = f"{START}{LISTEN}{SERVER}    check: none\n    on_down: close\n"
    (warning,) = settle(parse_document(text.encode(), "sidecar.yaml")).warnings
    assert (warning.key, warning.line) == ("balancers.pg.on_down", 8)
