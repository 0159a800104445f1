"""`mode tcp` of HAProxy as `balancers`: a published file with its backend balancers, and words that mean more."""

from __future__ import annotations

import pytest
import yaml

from sidecar.config.load import settle
from sidecar.document import parse_document
from sidecar.importing.haproxy_lines import haproxy_foreign
from sidecar.importing.haproxy_words import sections

FILE = """\
defaults
    timeout connect 30s
    timeout client 15m
frontend web
    bind :8448
    mode http
    default_backend synapse
backend synapse
    mode http
    server main 127.0.0.1:8008
frontend ldap
    bind :::389 v4v6
    maxconn 1000
    mode tcp
    option tcpka
    default_backend ldap
frontend pgsql
    bind 127.0.0.1:5432
    maxconn 900
    mode tcp
    default_backend pgsql
backend ldap
    mode tcp
    option tcpka
    balance leastconn
    server mld1 10.0.0.8:389 check inter 2000 maxconn 64
    server mld2 10.0.0.9:389 check inter 2000 maxconn 64
backend pgsql
    mode tcp
    option httpchk OPTIONS /master
    http-check expect status 200
    server mpg1 10.0.0.5:5432 maxconn 1000 check agent-check agent-port 5555 inter 1s fall 2 rise 2 \
on-marked-down shutdown-sessions port 8008
    server mpg2 10.0.0.6:5432 maxconn 1000 check agent-check agent-port 5555 inter 1s fall 2 rise 2 \
on-marked-down shutdown-sessions port 8008
"""


def test_the_published_backends() -> None:
    """As conf/backend-balancers.yaml has them; the file is read, and HTTP goes where it went."""
    foreign = haproxy_foreign(sections(FILE, "haproxy.cfg"))
    assert foreign.draft.balancers["ldap"] == {
        "listen": r"tcp:389:interface=\:\:",
        "servers": {
            "mld1": {"endpoint": "tcp:10.0.0.8:389", "connections": 64},
            "mld2": {"endpoint": "tcp:10.0.0.9:389", "connections": 64},
        },
        "connections": 1000,
        "check": {"interval": "2000ms"},
        "connect": "30s",
        "idle": "15m",
    }
    assert foreign.draft.balancers["pgsql"]["check"] == {
        "http": "OPTIONS /master",
        "expect": 200,
        "port": 8008,
        "agent": 5555,
        "interval": "1s",
        "fall": 2,
        "rise": 2,
    }
    assert foreign.draft.balancers["pgsql"]["on_down"] == "close"
    written = yaml.safe_dump({"workers": {"main": {"endpoint": "unix:a"}}, "balancers": dict(foreign.draft.balancers)})
    settings = settle(parse_document(written.encode(), "sidecar.yaml"))
    assert set(settings.balancers) == {"ldap", "pgsql"}
    assert "balancers:\n  ldap: {listen:" in foreign.draft.text("haproxy.cfg")
    remarks = {line.text: line.remark for line in foreign.lines}
    taken = remarks["server mld1 10.0.0.8:389 check inter 2000 maxconn 64"]
    assert taken is not None
    assert (taken.kind, taken.sentence) == ("taken", "balancers.ldap")


@pytest.mark.parametrize(
    ("said", "instead"),
    [
        ("balance leastconn", "balance source"),
        ("mld1 10.0.0.8:389", "mld1 10.0.0.8:389 send-proxy"),
        ("mld2 10.0.0.9:389 check", "mld2 10.0.0.9:389 backup check"),
        ("bind :::389 v4v6", "bind :::389 ssl crt /x.pem"),
        ("maxconn 1000", "tcp-request connection reject"),
        ("mld2 10.0.0.9:389 check inter 2000", "mld2 10.0.0.9:389 check inter 3000"),
        ("mld2 10.0.0.9:389", "mld2 unknown@x"),
    ],
)
def test_what_means_something_else_is_left_to_the_reader(said: str, instead: str) -> None:
    """And told."""
    assert said in FILE
    foreign = haproxy_foreign(sections(FILE.replace(said, instead, 1), "haproxy.cfg"))
    assert set(foreign.draft.balancers) == {"pgsql"}
    lost = [line.remark for line in foreign.lines if line.text.startswith("bind :::389")]
    assert all(remark is not None and "write it as `balancers.NAME`" in str(remark) for remark in lost)


def test_turns_by_connections_are_told() -> None:
    """HAProxy's `roundrobin` counts the connections that come, and `least_connections` those that are open."""
    foreign = haproxy_foreign(sections(FILE.replace("balance leastconn", "balance roundrobin"), "haproxy.cfg"))
    (line,) = (line for line in foreign.lines if line.text == "balance roundrobin")
    assert line.remark is not None
    assert "`least_connections`" in line.remark.sentence
