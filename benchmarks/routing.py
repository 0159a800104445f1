"""Microseconds of one routing decision, with the whole endpoint table and with two thousand routes on top.

Run as `python benchmarks/routing.py [--json FILE]`. Each figure is the best of several rounds over the same mixed
requests, asked as the proxy asks: octets of the request-line and an object that finds field values.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time

from sidecar.config.schema import Route, Settings, Worker
from sidecar.routing.compile import compile_plan
from sidecar.routing.decide import decide
from sidecar.routing.plan import Plan
from sidecar.routing.workers import Facts, planned_workers
from sidecar.synapse.endpoint_rows import load_endpoints
from sidecar.wire.fields import FieldSection

USERS = 504
ROUNDS = 60
GOAL = 3.0
"""Microseconds for one decision."""
FLAT = 1.3
"""Most that two thousand routes may add, as a factor."""

Request = tuple[bytes, bytes, FieldSection, str]

WORKERS: dict[str, tuple[tuple[str, ...] | None, tuple[str, ...] | None]] = {
    "main": (None, None),
    **{f"sync{number}": (("client",), None) for number in range(1, 5)},
    "client1": (("client",), None),
    "client2": (("client",), None),
    "fed1": (("federation",), None),
    "fed2": (("federation",), None),
    "media1": (("media",), None),
    "typing1": (("client",), ("typing",)),
    "receipts1": (("client",), ("receipts",)),
    "todevice1": (("client",), ("to_device",)),
    "event1": (("client",), ("events",)),
    "event2": (("client",), ("events",)),
}


def plan_with(routes: int) -> Plan:
    """A plan of fifteen processes with this many routes of the operator's."""
    shapes = ("/_matrix/client/v3/org.example.{}/do", "/custom/{}/{{id}}/edit", "/_matrix/app/v1/{}/**", "/x{}")
    own = tuple(Route(path=shapes[number % 4].format(number), pool="client") for number in range(routes))
    workers = {
        name: Worker(endpoint=f"unix:/run/{name}.sock", serves=serves, writes=writes)
        for name, (serves, writes) in WORKERS.items()
    }
    settings = Settings(workers=workers, routes=own)
    return compile_plan(settings, planned_workers(settings), load_endpoints().endpoints, Facts())


def fields(*lines: bytes) -> FieldSection:
    """The field section of a request as a client sends it."""
    usual = (b"Host: example.org", b"User-Agent: Element/1.12", b"Accept: application/json", b"Accept-Encoding: gzip")
    return FieldSection(b"".join(b"\r\n" + line for line in (*usual, *lines)) + b"\r\n\r\n")


def client(number: int) -> FieldSection:
    """The fields of one of the users."""
    token = f"syt_{number:06d}AA_abcdefghijklmnopqrst_0abcde"
    return fields(b"Authorization: Bearer " + token.encode())


def mixed(dice: random.Random) -> list[Request]:
    """Requests as a homeserver sees them, mostly syncs."""
    kinds: list[Callable[[str], tuple[bytes, bytes]]] = [
        lambda _room: (b"GET", b"/_matrix/client/v3/sync?filter=0&timeout=30000&since=s72595_4483_1934"),
        lambda _room: (b"GET", b"/_matrix/client/v3/sync?filter=0&timeout=30000&since=s72595_4483_1934"),
        lambda _room: (b"POST", b"/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?pos=5&timeout=30000"),
        lambda room: (b"PUT", f"/_matrix/client/v3/rooms/{room}/send/m.room.message/m17634.1".encode()),
        lambda room: (b"PUT", f"/_matrix/client/v3/rooms/{room}/typing/@alice:example.org".encode()),
        lambda room: (b"POST", f"/_matrix/client/v3/rooms/{room}/receipt/m.read/$143273582443PhrSn".encode()),
        lambda room: (b"GET", f"/_matrix/client/v3/rooms/{room}/messages?dir=b&from=t47&limit=30".encode()),
        lambda _room: (b"POST", b"/_matrix/client/v3/keys/query"),
        lambda _room: (b"GET", b"/_matrix/client/v1/media/thumbnail/example.org/SEsfnsuifSDFSSEF?width=64&height=64"),
    ]
    requests: list[Request] = []
    for number in range(USERS):
        room = f"%21room{dice.randrange(500)}%3Aexample.org"
        method, target = kinds[number % len(kinds)](room)
        requests.append((method, target, client(number), "192.0.2.7"))
    return requests


def only(method: bytes, target: bytes, section: FieldSection) -> list[Request]:
    """One request again and again."""
    return [(method, target, section, "192.0.2.7")] * USERS


def cases() -> dict[str, list[Request]]:
    """The requests that are measured, by what is to be printed."""
    dice = random.Random(1)
    signed = b'Authorization: X-Matrix origin="remote.example",key="ed25519:a",sig="c2ln",destination="example.org"'
    return {
        "mixed": mixed(dice),
        "sync": only(b"GET", b"/_matrix/client/v3/sync?since=s7&timeout=30000", client(1)),
        "send": only(b"PUT", b"/_matrix/client/v3/rooms/%21room%3Aexample.org/send/m.room.message/m1", client(1)),
        "federation": only(b"PUT", b"/_matrix/federation/v1/send/1763400000000", fields(signed)),
        "versions": only(b"GET", b"/_matrix/client/versions", fields()),
        "own route": only(b"GET", b"/custom/1/thing/edit", client(1)),
        "unknown": only(b"GET", b"/_matrix/client/v3/org.example.unknown/thing", client(1)),
    }


def microseconds(plans: Sequence[Plan], requests: Sequence[Request]) -> list[float]:
    """The best round's processor time for one decision, for each plan; rounds take turns, to suffer alike."""
    best = [float("inf")] * len(plans)
    for _ in range(ROUNDS):
        for number, plan in enumerate(plans):
            begin = process_time()
            for method, target, section, peer in requests:
                decide(method, target, section, peer, plan)
            best[number] = min(best[number], (process_time() - begin) / len(requests))
    return [seconds * 1e6 for seconds in best]


def main(arguments: Sequence[str]) -> int:
    """Print the table; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the figures to this file as well")
    options = parser.parse_args(arguments)
    plain, crowded = plan_with(10), plan_with(2_000)
    print(f"{'requests':<12}{'10':>8}{'2000':>8}{'factor':>8}   us per decision with the table and so many routes")
    figures = {}
    for name, requests in cases().items():
        few, many = microseconds((plain, crowded), requests)
        figures[name] = {"table": round(few, 3), "with_routes": round(many, 3)}
        print(f"{name:<12}{few:>8.2f}{many:>8.2f}{many / few:>8.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    few, many = figures["mixed"]["table"], figures["mixed"]["with_routes"]
    return 0 if few <= GOAL and many <= FLAT * few else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
