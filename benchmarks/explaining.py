"""Lines a second of `matrix-sidecar explain --from`, from its start to its end, on one processor.

Run as `python benchmarks/explaining.py`. JSON lines as a homeserver's requests would be, each user with a token, a
device and an address of their own; and the same as access logs of nginx and HAProxy.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

LINES = 200_000
USERS = 5_000
ROUNDS = 3
GOAL = 20_000
"""Lines a second, with reading the configuration and starting Python in it."""

CONFIGURATION = """\
workers:
  main: {endpoint: "unix:/run/main.sock"}
  sync1: {endpoint: "unix:/run/sync1.sock", serves: client}
  sync2: {endpoint: "unix:/run/sync2.sock", serves: client}
  sync3: {endpoint: "unix:/run/sync3.sock", serves: client}
  client1: {endpoint: "unix:/run/client1.sock", serves: client}
  fed1: {endpoint: "unix:/run/fed1.sock", serves: federation}
  media1: {endpoint: "unix:/run/media1.sock", serves: media}
  typing1: {endpoint: "unix:/run/typing1.sock", serves: client, writes: [typing]}
  event1: {endpoint: "unix:/run/event1.sock", serves: client, writes: [events]}
  event2: {endpoint: "unix:/run/event2.sock", serves: client, writes: [events]}
pools:
  sync: {workers: "sync*"}
"""
TARGETS = (
    ("GET", "/_matrix/client/v3/sync?filter=0&timeout=30000&since=s{n}_4483_1934"),
    ("GET", "/_matrix/client/v3/sync?filter=0&timeout=30000&since=s{n}_4483_1934"),
    ("POST", "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync?pos={n}&timeout=30000"),
    ("PUT", "/_matrix/client/v3/rooms/%21room{r}%3Aexample.org/send/m.room.message/m{n}.1"),
    ("PUT", "/_matrix/client/v3/rooms/%21room{r}%3Aexample.org/typing/@u{u}:example.org"),
    ("GET", "/_matrix/client/v3/rooms/%21room{r}%3Aexample.org/messages?dir=b&from=t{n}&limit=30"),
    ("POST", "/_matrix/client/v3/keys/query"),
    ("GET", "/_matrix/client/v1/media/thumbnail/example.org/media{n}?width=64&height=64"),
)


def requests(dice: random.Random, *, distinct: bool = False) -> Iterator[tuple[str, str, int, str]]:
    """Method, target, user and the user's address; `distinct`: no user, room or address is there twice."""
    for number in range(LINES):
        user = number if distinct else dice.randrange(USERS)
        room = number if distinct else dice.randrange(2000)
        method, target = TARGETS[number % len(TARGETS)]
        address = f"198.{user // 65536}.{user // 256 % 256}.{user % 256}"
        yield method, target.format(n=number, r=room, u=user), user, address


def json_line(method: str, target: str, user: int, address: str) -> str:
    """A line as the contract has it."""
    localpart = b64encode(f"u{user}".encode()).decode().rstrip("=")
    headers = {
        "Host": "matrix.example.org",
        "User-Agent": f"Element/1.12.{user % 7} (Linux; build {user % 40})",
        "Accept": "application/json",
        "Authorization": f"Bearer syt_{localpart}_abcdefghijklmnopqrst_0abcde",
        "X-Forwarded-For": address,
    }
    return json.dumps({"method": method, "target": target, "headers": headers, "peer": "127.0.0.1"})


def nginx_line(method: str, target: str, _user: int, address: str) -> str:
    """nginx, `combined`."""
    return f'{address} - - [20/Nov/2026:12:50:14 +0000] "{method} {target} HTTP/2.0" 200 512 "-" "Element/1.12"'


def haproxy_line(method: str, target: str, _user: int, address: str) -> str:
    """HAProxy, `httplog`, through syslog."""
    return (
        f"Nov 20 12:50:14 host haproxy[143]: {address}:33317 [20/Nov/2026:12:50:14.655] in~ out/s1 "
        f'10/0/30/69/109 200 2750 - - ---- 1/1/1/1/0 0/0 "{method} {target} HTTP/1.1"'
    )


def measured(configuration: Path, lines: Path) -> tuple[float, float]:
    """Best of several runs: lines a second of time that passed, and of processor time."""
    command = [sys.executable, "-m", "sidecar.cli", "explain", "-c", str(configuration), "--no-ask", "--json"]
    best = [0.0, 0.0]
    for _ in range(ROUNDS):
        before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
        with tempfile.TemporaryFile() as output:
            subprocess.run([*command, "--from", str(lines)], stdout=output, check=True)
            took = perf_counter() - begin
            output.seek(0)
            assert sum(1 for _ in output) == LINES
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        best = [max(best[0], LINES / took), max(best[1], LINES / used)]
    return best[0], best[1]


def main() -> int:
    """Print lines a second for each kind of line; 1 when the goal is missed."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    slowest = float("inf")
    print(f"{'lines':<10}{'per second':>12}{'per second of processor time':>32}")
    with tempfile.TemporaryDirectory() as place:
        configuration = Path(place) / "sidecar.yaml"
        configuration.write_text(CONFIGURATION)
        for kind, line in (
            ("JSON", json_line),
            ("distinct", json_line),
            ("nginx", nginx_line),
            ("HAProxy", haproxy_line),
        ):
            lines = Path(place) / kind
            asked = requests(random.Random(1), distinct=kind == "distinct")
            lines.write_text("".join(f"{line(*request)}\n" for request in asked))
            passed, used = measured(configuration, lines)
            slowest = min(slowest, used)
            print(f"{kind:<10}{passed:>12,.0f}{used:>32,.0f}")
    return 0 if slowest >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
