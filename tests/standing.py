"""What a sidecar says of itself, against what requests get: who is served, who takes over, which alerts fire.

The requests are written by hand, one or more for each part of each pool of a fully split Synapse, not taken from the
sidecar's own table. None carries a token or a signature: Synapse refuses them, and does nothing.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from attrs import define, field, frozen
from end_to_end.topology import Topology
from pictures import parsed

from sidecar.admin.consequences import consequences
from sidecar.admin.snapshot import snapshot

ALERTS = Path(__file__).parent.parent / "conf" / "alerts.yaml"
TELLING = ("pool_endpoints", "ready", "stopping")
"""The metrics on which the alerts depend that are looked at."""
CLIENT = "/_matrix/client/v3"
ROOM = f"{CLIENT}/rooms/!r"
THREAD = "/_matrix/client/unstable/io.element.msc4306/rooms/!r/thread/$e/subscription"

REQUESTS: Mapping[str, tuple[str, ...]] = {
    "main": (f"GET {CLIENT}/thirdparty/protocols", f"POST {CLIENT}/logout", "GET /_synapse/some/module"),
    "sync": (f"GET {CLIENT}/sync?since=s1", f"GET {CLIENT}/events"),
    "initial_sync": (f"GET {CLIENT}/sync", f"GET {ROOM}/initialSync"),
    "sliding_sync": ("POST /_matrix/client/unstable/org.matrix.simplified_msc3575/sync?pos=1",),
    "client": (f"GET {CLIENT}/account/whoami", f"POST {CLIENT}/keys/query", f"GET {CLIENT}/capabilities"),
    "rooms": (f"GET {ROOM}/messages", f"GET {ROOM}/state"),
    "federation": ("GET /_matrix/federation/v1/event/$e", "GET /_matrix/federation/v1/backfill/!r"),
    "federation_send": ("PUT /_matrix/federation/v1/send/1",),
    "media": ("GET /_matrix/client/v1/media/download/h/m", "POST /_matrix/media/v3/upload"),
    "user_directory": (f"POST {CLIENT}/user_directory/search",),
    "sso": ("GET /_synapse/client/pick_idp",),
    "typing": (f"PUT {ROOM}/typing/@a:h",),
    "to_device": (f"PUT {CLIENT}/sendToDevice/m.x/1",),
    "receipts": (f"POST {ROOM}/receipt/m.read/$e", f"POST {ROOM}/read_markers"),
    "account_data (reading)": (f"GET {CLIENT}/user/@a:h/account_data/x", f"GET {CLIENT}/user/@a:h/rooms/!r/tags"),
    "account_data (writing)": (f"PUT {CLIENT}/user/@a:h/account_data/x", f"PUT {CLIENT}/user/@a:h/rooms/!r/tags/x"),
    "presence (reading)": (f"GET {CLIENT}/presence/@a:h/status",),
    "presence (writing)": (f"PUT {CLIENT}/presence/@a:h/status",),
    "push_rules (reading)": (f"GET {CLIENT}/pushrules/global/override/x",),
    "push_rules (writing)": (f"PUT {CLIENT}/pushrules/global/override/x",),
    "device_lists (reading)": (f"GET {CLIENT}/devices", f"GET {CLIENT}/devices/x"),
    "device_lists (writing)": (f"POST {CLIENT}/keys/upload", f"PUT {CLIENT}/devices/x"),
    "thread_subscriptions (reading)": (f"GET {THREAD}",),
    "thread_subscriptions (writing)": (f"PUT {THREAD}",),
}
"""By the name of the part to which they belong; a pool that has but one part has none of the names in parentheses.

Those of the event persisters are in `requests_of`."""


def requests_of(persisters: tuple[str, ...], absent: Iterable[str] = ()) -> dict[str, tuple[str, ...]]:
    """All requests. `persisters` are those of `stream_writers.events`, in its order, with those that are `absent`."""
    found = dict(REQUESTS)
    for number, name in enumerate(persisters):
        room = next(room for room in (f"!{count}" for count in range(1000)) if _owner(room, len(persisters)) == number)
        part = f"rooms of {name}" if name not in absent else "other rooms"
        found[f"events ({part})"] = (f"PUT {CLIENT}/rooms/{room}/send/m.x/1", f"POST {CLIENT}/rooms/{room}/join")
    return found


def _owner(room: str, persisters: int) -> int:
    """As Synapse finds it (config/_base.py, ShardedWorkerHandlingConfig)."""
    return int.from_bytes(sha256(room.encode()).digest(), "little") % persisters


@frozen
class Told:
    """Everything that a sidecar says at one moment."""

    status: dict[str, Any]
    ready: tuple[int, dict[str, Any]]
    page: str
    metrics: str
    pools: dict[str, int]
    """Status of `/ready?pool=NAME`, by name."""

    @property
    def verdict(self) -> str:
        return parsed(self.page).one(id="verdict").text

    def parts(self) -> Iterator[dict[str, Any]]:
        for pool in self.status["pools"].values():
            yield from pool["parts"]


Ask = Callable[[str], tuple[int, bytes]]
"""Asks the operator's listener for a path."""
Send = Callable[[Iterable[str]], list[str | None]]
"""Sends requests, all at once; of each the worker that answered it, None for a 503 of the sidecar."""


@define
class Standing:
    """A sidecar, how to ask its operator's listener, and how to go through it."""

    ask: Ask
    send: Send
    requests: Mapping[str, tuple[str, ...]]
    directory: Path
    compared: int = field(default=0, init=False)
    """Requests so far."""

    def status(self) -> dict[str, Any]:
        return dict(self._json("/api/status")[1])

    def _json(self, path: str) -> tuple[int, dict[str, Any]]:
        status, content = self.ask(path)
        return status, json.loads(content)

    def told(self) -> Told:
        status = self.status()
        return Told(
            status,
            self._json("/ready"),
            self.ask("/")[1].decode(),
            self.ask("/metrics")[1].decode(),
            {name: self.ask(f"/ready?pool={name}")[0] for name in status["pools"]},
        )

    def got(self) -> dict[str, set[str | None]]:
        """Who answers the requests of each part."""
        names = {part["name"] for pool in self.status()["pools"].values() for part in pool["parts"]}
        lines = [(_named(part, names), line) for part, lines in self.requests.items() for line in lines]
        answers = self.send(line for _, line in lines)
        self.compared += len(lines)
        found: dict[str, set[str | None]] = {}
        for (part, _), worker in zip(lines, answers, strict=True):
            found.setdefault(part, set()).add(worker)
        return found

    def compare(self) -> dict[str, set[str | None]]:
        """Hold all that is said against all that happens; who answered what."""
        got, told = self.got(), self.told()
        deserted = {part for part, workers in got.items() if None in workers}
        assert all(got[part] == {None} for part in deserted), f"one part, two outcomes: {got}"
        _judge_words(told, deserted)
        _judge_parts(told, got)
        self._judge_alerts(told, deserted, got)
        return got

    def foresee(self, name: str) -> dict[str, str]:
        """What the drain of a worker is said to cost, by part."""
        found = {}
        for sentence in list(consequences(snapshot(self.status()), name))[1:]:
            names, _, outcome = sentence.partition(": ")
            found.update(dict.fromkeys(names.split(", "), outcome))
        return found

    def _judge_alerts(self, told: Told, deserted: set[str], got: Mapping[str, set[str | None]]) -> None:
        own = {part["name"]: set(part["workers"]) for part in told.parts()}
        stand_in = {part for part, workers in got.items() if part not in deserted and not workers <= own[part]}
        expected = {("MatrixSidecarPoolEmpty", _pool(part)) for part in deserted}
        expected |= {("MatrixSidecarPoolFallback", _pool(part)) for part in stand_in}
        expected |= {("MatrixSidecarNotReady", "")} if deserted else set()
        fire(told.metrics, expected, self.directory)


def _named(part: str, names: Collection[str]) -> str:
    """What a part is called here: sends belong to `rooms` where no event persister is known."""
    return next((name for name in (part, _pool(part)) if name in names), "rooms")


def _pool(part: str) -> str:
    return part.partition(" (")[0]


def _judge_words(told: Told, deserted: set[str]) -> None:
    """`/ready`, its limited form, and the first line of the page."""
    status, content = told.ready
    named = {name for reason in content["reasons"] for name in _names(r"Nobody serves (.+?): ", reason)}
    assert named == deserted, (named ^ deserted, content)
    assert (status == 200) is content["ready"] is told.status["ready"] is (not deserted)
    pools = {_pool(part) for part in deserted}
    closed = {"quarantined_media_changes"}
    assert {name for name, answer in told.pools.items() if answer != 200} - closed == pools
    assert told.verdict.startswith("Not ready" if deserted else "Ready")
    assert _names(r"Nobody serves (.+?): ", told.verdict) == deserted


def _judge_parts(told: Told, got: Mapping[str, set[str | None]]) -> None:
    """`/api/status`, and what the page says of substitutes."""
    parts = {part["name"]: part for part in told.parts() if part["pool"] != "quarantined_media_changes"}
    assert set(parts) == set(got)
    stand_in = {}
    for name, workers in got.items():
        part = parts[name]
        assert (part["served_by"] == "nobody") is (None in workers), (part, workers)
        if part["served_by"] != "nobody":
            assert workers <= set(part["now"]), (part, workers)
            assert (part["served_by"] == "workers") is (workers <= set(part["workers"])), (part, workers)
        if part["served_by"] == "fallback":
            stand_in[name] = part["now"]
    if told.status["ready"]:
        assert _names(r"takes? over (.+?)(?:;|\.$)", told.verdict) == set(stand_in)
        ailing = any(worker["state"] in ("down", "stuck") for worker in told.status["workers"].values())
        assert ("all pools are still served" in told.verdict) is (ailing and not stand_in)


def _names(pattern: str, text: str) -> set[str]:
    return {name for names in re.findall(pattern, text) for name in names.split(", ")}


def fire(metrics: str, expected: set[tuple[str, str]], directory: Path) -> None:
    """Let Prometheus' own tool say which of the alerts fire if the metrics stay as they are: exactly these."""
    lines = re.findall(rf"^(matrix_sidecar_(?:{'|'.join(TELLING)})(?:\{{.*\}})?) (\S+)$", metrics, re.MULTILINE)
    assert len(lines) > len(TELLING)
    series = [{"series": name, "values": f"{float(value):g}x10"} for name, value in lines]
    samples = [
        {"labels": f'{{alertname="{alert}"' + (f', pool="{pool}"}}' if pool else "}"), "value": 1}
        for alert, pool in sorted(expected)
    ]
    alerts = "MatrixSidecar(PoolEmpty|PoolFallback|NotReady)"
    test = {
        "expr": f'count by (alertname, pool) (ALERTS{{alertstate="firing", alertname=~"{alerts}"}})',
        "eval_time": "8m",
        "exp_samples": samples,
    }
    content = {
        "rule_files": [str(ALERTS)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [test]}],
    }
    file = directory / "standing.yaml"
    file.write_text(yaml.safe_dump(content))
    done = subprocess.run(
        ["promtool", "test", "rules", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def drain_all(standing: Standing, sets: Iterable[Sequence[str]], act: Callable[[str, str], None]) -> None:
    """Drain each set of workers, one after another, and take them back; `act` drains a worker, or ends that."""
    untouched = standing.compare()
    for workers in sets:
        before = untouched
        for name in workers:
            foreseen = standing.foresee(name)
            # Where few share the keys, a drain concerns those of one worker, and the others keep theirs.
            others = {part["name"]: {*part["now"]} - {name} for part in standing.told().parts() if part["seats"]}
            act(name, "drain")
            after = standing.compare()
            for part, outcome in foreseen.items():
                nobody = outcome.startswith("nobody")
                allowed = {None} if nobody else set(re.sub(r" takes? its requests\.$", "", outcome).split(", "))
                allowed |= set() if nobody else others.get(part, set())
                assert after[part] <= allowed, (name, part, outcome, after[part])
            changed = {part for part, answered in after.items() if None in answered and None not in before[part]}
            assert changed <= set(foreseen), (name, changed)
            before = after
        for name in workers:
            act(name, "undrain")
    assert not any(None in answered for answered in standing.compare().values())


def kill_all(
    standing: Standing,
    sets: Iterable[Sequence[str]],
    kill: Callable[[str], None],
    gone: Callable[[Sequence[str]], None],
) -> None:
    """Kill one set of workers after another; `gone` waits until the sidecar has noticed."""
    for workers in sets:
        for name in workers:
            kill(name)
        gone(workers)
        standing.compare()


def sets_of(topology: Topology) -> list[tuple[str, ...]]:
    """Workers that are in the same pools; those whose absence costs others most come last, main at the end."""
    writers = [(process.name,) for process in topology.workers if process.writes and "events" not in process.writes]
    free = tuple(process.name for process in topology.workers if not process.writes and "client" in process.resources)
    other = [(process.name,) for process in topology.workers if not process.writes and process.name not in free]
    return [*writers, topology.event_writers, *other, free, ("main",)]


def at_once(one: Callable[[str], str | None]) -> Send:
    """Sends each request in a thread of its own."""

    def send(lines: Iterable[str]) -> list[str | None]:
        with ThreadPoolExecutor(64) as threads:
            return list(threads.map(one, lines))

    return send
