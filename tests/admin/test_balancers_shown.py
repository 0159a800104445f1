"""Balancers on the operator's listener: what is told of them, and how a server is drained."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

from net.turns import reactor, spin, turns
from pictures import told
from twisted.internet.protocol import Factory, Protocol

from sidecar.admin.page.balancer_table import balancers as section
from sidecar.admin.snapshot import snapshot
from sidecar.admin.verdict import clauses_of
from sidecar.top.balancer_lines import balancers as lines

from .operated import Operated

FACTS: dict[str, Any] = {
    "pg": {
        "listening": ["127.0.0.1:5432"],
        "balance": "first",
        "connections": 3,
        "most": 1000,
        "waiting": 1,
        "servers": {
            "one": {"state": "up", "connections": 3, "most": 64, "bytes_up": 2048, "changed": 60.0},
            "two": {"state": "down", "reason": "it answers 503", "changed": 5.0},
            "three": {"state": "draining"},
        },
    }
}


def test_the_table_on_the_page() -> None:
    """A row for each server, with the button that is of use; nothing without balancers."""
    assert section(snapshot(told(balancers={}))) is None
    text = str(section(snapshot(told(balancers=FACTS, actions="page"))))
    assert "3 of 1" in text
    assert "it answers 503" in text
    assert 'href="balancers/pg/one/drain"' in text
    assert 'href="balancers/pg/three/undrain"' in text
    assert "button" not in str(section(snapshot(told(balancers=FACTS, actions="none"))))


def test_the_screen_of_top() -> None:
    shown = ["".join(piece.text for piece in line).rstrip() for line in lines(snapshot(told(balancers=FACTS)), 100)]
    assert [line.split()[:3] for line in shown] == [
        ["BALANCER", "STATE", "CONNS"],
        ["pg", "3", "of"],
        ["one", "up", "3"],
        ["two", "down", "0"],
        ["three", "draining", "0"],
    ]
    assert shown[3].endswith("it answers 503")
    (none,) = lines(snapshot(told(balancers={})), 80)
    assert none[0].text.startswith("There are no balancers.")


def test_nobody_is_up() -> None:
    """The verdict says so."""
    facts = {"pg": {**FACTS["pg"], "servers": {"two": FACTS["pg"]["servers"]["two"]}}}
    assert "balancer pg has no server that is up" in clauses_of(snapshot(told(balancers=facts)))


class Silent(Factory):
    """A server that keeps its connections."""

    protocol = Protocol
    noisy = False


def test_a_server_is_drained_over_http_and_on_the_page(tmp_path: Path) -> None:
    """And told in the status and the metrics."""

    async def play() -> None:
        port = reactor.listenTCP(0, Silent(), interface="127.0.0.1")
        endpoint = f"tcp:127.0.0.1:{port.getHost().port}"
        more = (
            "operator: {actions: page}\nbalancers:\n  pg:\n    listen: 'tcp:0:interface=127.0.0.1'\n"
            f"    servers: {{one: {{endpoint: '{endpoint}'}}}}\n    drain: 0\n    check: {{interval: 20ms, agent: 1}}\n"
        )
        scene = Operated(tmp_path, more)
        try:
            server = scene.sidecar.fleet.running["pg"].servers["one"]
            while not server.takes:
                await turns(1)
            address = next(iter(scene.sidecar.fleet.listening("pg"))).rpartition(":")[2]
            with socket.create_connection(("127.0.0.1", int(address))):
                while not server.pairs:
                    await turns(1)
                status, answer, _ = await scene.ask("POST", "/api/balancers/pg/one/drain")
                assert (status, answer["state"], answer["connections"]) == (200, "draining", 1)
                assert answer["told"] == "The server one of pg gets no new connections; it has 1 still."
                assert (await scene.ask("GET", "/api/status"))[1]["balancers"]["pg"]["servers"]["one"][
                    "connections"
                ] == 1
                _, _, metrics = await scene.say("GET", "/metrics")
                assert 'matrix_sidecar_balancer_server_draining{balancer="pg",server="one"} 1.0' in metrics
                _, _, page = await scene.say("GET", "/balancers/pg/one/undrain")
                assert "Resume pg/one?" in page
                token = page.partition('name="token" value="')[2].partition('"')[0]
                status, head, _ = await scene.say("POST", "/balancers/pg/one/undrain", body=f"token={token}")
                assert (status, "Location: ../../../" in head, server.draining) == (303, True, False)
            for path in ("/api/balancers/other/one/drain", "/api/balancers/pg/other/drain"):
                assert (await scene.ask("POST", path))[0] == 404
            assert (await scene.say("GET", "/balancers/pg/other/drain"))[0] == 404
        finally:
            await scene.strike()
            await port.stopListening()

    spin(play())
