"""What Prometheus is told by a whole sidecar in front of workers, and that it is what the documentation says."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import attrs
import pytest
from admin.operated import Operated, received
from net.turns import staged, turns
from pages.metrics import PAGE, main, renewed
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from test_reload import Threads

from sidecar import __version__
from sidecar.app.reload import Reload, ReloadOutcome
from sidecar.config.schema import Settings
from sidecar.metrics.catalogue import COUNTERS, LABELS, METRICS, PREFIX
from sidecar.observe.telemetry import Counters
from sidecar.records.histogram import DURATIONS
from sidecar.synapse.endpoint_rows import load_endpoints

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SYNC = b"GET /_matrix/client/v3/sync?since=1&access_token=syt_YWxpY2U_abc_123 HTTP/1.1\r\nHost: x\r\n\r\n"

WITH_LABELS = {"bytes_down", "bytes_up", "misrouted", "misroutes", "moved", "replayed"}
"""Fields of the counters that become series with labels."""


async def scraped(scene: Operated) -> str:
    status, head, text = await scene.say("GET", "/metrics")
    assert status == 200
    assert "\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n" in head
    return text


def samples(text: str) -> dict[str, list[Sample]]:
    """By the name of the series."""
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append(sample)
    return found


def value(text: str, series: str) -> float | None:
    """Of one series, written as Prometheus writes it, without the prefix."""
    line = re.search(rf"^{re.escape(PREFIX + series)} (\S+)$", text, re.MULTILINE)
    return None if line is None else float(line[1])


async def exchanged(scene: Operated, request: bytes, name: str, answer: bytes = OK) -> None:
    """One request, answered by this worker."""
    client = scene.client(request)
    connection = await scene.worker(name).connection()
    await connection.head()
    connection.send(answer)
    await received(client, lambda got: got.endswith(answer[-2:]))
    client.close()


def reloaded(scene: Operated) -> ReloadOutcome:
    """The outcome of a reload that happens now."""
    reload = next(each for each in scene.services if isinstance(each, Reload))
    reload.reactor = threads = Threads()
    reload.reload()
    threads.work()
    assert reload.outcome is not None
    return reload.outcome


@staged(Operated)
async def test_requests(scene: Operated) -> None:
    """By endpoint, pool, worker and status; a request that runs is in flight, and counted when it has ended."""
    client = scene.client(b"GET /_matrix/client/v3/pushers HTTP/1.1\r\nHost: x\r\n\r\n")
    connection = await scene.worker("main").connection()
    await connection.head()
    text = await scraped(scene)
    assert value(text, 'requests_in_flight{endpoint="pushers"}') == 1
    assert value(text, 'requests_total{code="2xx",endpoint="pushers",pool="main"}') is None
    assert value(text, 'worker_connections{state="leased",worker="main"}') == 1
    connection.send(OK)
    await received(client, lambda got: got.endswith(b"ok"))
    client.sendall(b"GET /_matrix/client/v3/pushers HTTP/1.1\r\nHost: x\r\n\r\n")
    await connection.head()
    connection.send(OK.replace(b"200 OK", b"403 No"))
    await received(client, lambda got: got.endswith(b"ok"))
    text = await scraped(scene)
    assert value(text, 'requests_in_flight{endpoint="pushers"}') == 0
    place = 'endpoint="pushers",pool="main"'
    assert value(text, f'requests_total{{code="2xx",{place}}}') == 1
    assert value(text, f'requests_total{{code="4xx",{place}}}') == 1
    assert value(text, 'worker_requests_total{code="4xx",pool="main",worker="main"}') == 1
    assert value(text, f"request_duration_seconds_count{{{place}}}") == 2
    assert value(text, 'request_duration_seconds_bucket{endpoint="pushers",le="+Inf",pool="main"}') == 2
    assert value(text, 'first_byte_seconds_count{pool="main",worker="main"}') == 2
    sent = value(text, f"request_bytes_total{{{place}}}")
    assert sent == value(text, 'transferred_bytes_total{direction="up"}')
    assert value(text, f"response_bytes_total{{{place}}}") == 2 * len(OK)
    assert value(text, "requests_begun_total") == 2
    assert value(text, "client_connections") == 1
    assert value(text, 'connects_total{worker="main"}') == value(text, 'connect_seconds_count{worker="main"}')


@staged(Operated)
async def test_refusals(scene: Operated) -> None:
    """What the sidecar answers itself has no worker; what is no request has no endpoint either."""
    client = scene.client(b"GET /_synapse/admin/v1/rooms HTTP/1.1\r\nHost: x\r\n\r\n")
    await received(client, lambda got: b"errcode" in got)
    client = scene.client(b"GET  / HTTP/1.1\r\n\r\n")
    await received(client, lambda got: b"errcode" in got)
    text = await scraped(scene)
    assert value(text, 'failures_total{pool="",reason="refuse"}') == 1
    assert value(text, 'failures_total{pool="",reason="malformed"}') == 1
    assert value(text, 'requests_total{code="4xx",endpoint="admin_list_room",pool=""}') == 1
    assert value(text, "requests_refused_total") == 2
    assert not samples(text).get(f"{PREFIX}worker_requests_total")


@staged(Operated, away=("sync1", "sync2", "typing1"), more="timeouts: {wait: 100ms}\n")
async def test_workers_that_are_away(scene: Operated) -> None:
    """They are down, their pool has nobody, and a request that waited for one in vain is a failure."""
    request = b"PUT /_matrix/client/v3/rooms/!r:x/typing/@a:x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    got = await received(scene.client(request), lambda got: b"errcode" in got)
    assert got.startswith(b"HTTP/1.1 503 ")
    text = await scraped(scene)
    assert value(text, 'worker_up{worker="typing1"}') == 0
    assert value(text, 'worker_up{worker="main"}') == 1
    assert value(text, 'worker_transitions_total{worker="typing1"}') == 1
    assert value(text, 'pool_workers{pool="sync"}') == 2
    assert value(text, 'pool_workers_up{pool="sync"}') == 0
    assert value(text, "ready") == 0
    assert value(text, 'failures_total{pool="typing",reason="no_worker"}') == 1
    assert value(text, 'queue_seconds_count{worker="typing1"}') == 1
    assert value(text, "requests_waited_total") == 1
    assert value(text, "requests_parked") == 0


@staged(Operated)
async def test_moves_and_drains(scene: Operated) -> None:
    """A key whose worker is drained goes to another one, which is told of that one."""
    for name in ("sync1", "sync2"):
        scene.sidecar.gateway.pools[name].drain()
        other = "sync2" if name == "sync1" else "sync1"
        client = scene.client(SYNC)
        connection = await scene.worker(other).connection()
        await connection.head()
        connection.send(OK)
        await received(client, lambda got: got.endswith(b"ok"))
        text = await scraped(scene)
        assert value(text, f'worker_draining{{worker="{name}"}}') == 1
        scene.sidecar.gateway.pools[name].undrain()
    moved = [sample.value for sample in samples(text)[f"{PREFIX}affinity_moves_total"]]
    assert sorted(moved) == [0, 1]


@staged(Operated)
async def test_retries(scene: Operated) -> None:
    """A request that is sent again is told of once, with the worker that answered."""
    client = scene.client(b"GET /_matrix/client/v3/pushers HTTP/1.1\r\nHost: x\r\n\r\n")
    worker = scene.worker("main")
    first = await worker.connection()
    await first.head()
    first.close()
    second = await worker.connection()
    await second.head()
    second.send(OK)
    await received(client, lambda got: got.endswith(b"ok"))
    text = await scraped(scene)
    assert value(text, 'retries_total{pool="main",worker="main"}') == 1
    assert value(text, 'cuts_total{worker="main"}') == 1
    assert value(text, 'requests_total{code="2xx",endpoint="pushers",pool="main"}') == 1


@staged(Operated, more="log: {endpoints: {snyc: none}}\n")
async def test_the_sidecar_itself(scene: Operated) -> None:
    """Versions, problems, reloads; and what any Python process tells."""
    text = await scraped(scene)
    (build,) = samples(text)[f"{PREFIX}build_info"]
    assert (build.labels["version"], build.labels["endpoints"]) == (__version__, "1.163")
    assert value(text, 'config_problems{severity="warning"}') == 1
    assert value(text, 'config_problems{severity="error"}') == 0
    assert value(text, "reload_successful") == 1
    read_at = value(text, "reload_timestamp_seconds")
    assert (value(text, "client_connections_limit") or 0) > 0
    (scene.directory / "sidecar.yaml").write_text("listen: []\n")
    assert not reloaded(scene).accepted
    text = await scraped(scene)
    assert value(text, "reload_successful") == 0
    assert value(text, "reload_timestamp_seconds") == read_at


@staged(Operated)
async def test_a_reload_forgets_what_is_gone(scene: Operated) -> None:
    """A worker that is not in the files any more has no series; the requests that it served still count."""
    for name in ("sync1", "sync2"):
        scene.sidecar.gateway.pools["sync2" if name == "sync1" else "sync1"].drain()
        await exchanged(scene, SYNC, name)
        scene.sidecar.gateway.pools["sync2" if name == "sync1" else "sync1"].undrain()
    place = 'code="2xx",endpoint="sync",pool="sync"'
    assert value(await scraped(scene), f"requests_total{{{place}}}") == 2
    path = scene.directory / "sidecar.yaml"
    text = re.sub(r"(?m)^  sync2: .*\n|^  alone: .*\n|^routes:\n  .*\n", "", path.read_text())
    path.write_text(text)
    assert reloaded(scene).accepted
    text = await scraped(scene)
    assert value(text, f"requests_total{{{place}}}") == 2
    assert "sync2" not in text
    assert value(text, 'worker_requests_total{code="2xx",pool="sync",worker="sync1"}') == 1


@staged(Operated)
async def test_targets(scene: Operated) -> None:
    """As JSON; a host that is none is refused. Workers that are stated by hand have no metrics that are known."""
    status, told, _ = await scene.ask("GET", "/metrics/targets")
    assert (status, told) == (200, [])
    assert (await scene.ask("GET", "/metrics/targets?host=matrix1"))[0] == 200
    status, told, _ = await scene.ask("GET", "/metrics/targets?host=a/b")
    assert status == 400
    assert "without a port" in told["error"]
    assert (await scene.ask("POST", "/metrics/targets"))[0] == 405
    assert (await scene.ask("POST", "/metrics"))[0] == 405
    assert (await scene.ask("GET", "/metrics/other"))[0] == 404


@staged(Operated)
async def test_all_of_the_catalogue_and_nothing_else(scene: Operated) -> None:
    """Each metric is told with its help, its kind and its labels; what else is told is any Python program's."""
    await exchanged(scene, b"GET /_matrix/client/v3/pushers HTTP/1.1\r\nHost: x\r\n\r\n", "main")
    text = await scraped(scene)
    families = {family.name: family for family in text_string_to_metric_families(text)}
    ours = {name.removeprefix(PREFIX): family for name, family in families.items() if name.startswith(PREFIX)}
    assert list(ours) == list(METRICS)
    for name, family in ours.items():
        metric = METRICS[name]
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), name
    page = PAGE.read_text()
    for name in families.keys() - {PREFIX + name for name in METRICS}:
        assert re.search(rf"`{name}(_total)?`", page), f"{name} is not in docs/metrics.md"


@staged(Operated)
async def test_series_are_bounded(scene: Operated) -> None:
    """Whatever clients send, labels have values of the table and of the configuration, and nothing that was sent."""
    paths = [f"/_matrix/client/v3/zxqv{number}/!zxqv:x" for number in range(50)]
    paths += [f"/_matrix/client/v3/rooms/!zxqv{number}:x/messages?zxqv" for number in range(50)]
    for number, path in enumerate(paths):
        method = f"ZXQV{number}" if number % 3 else "GET"
        client = scene.client(f"{method} {path} HTTP/1.1\r\nHost: zxqv\r\nConnection: close\r\n\r\n".encode())
        await turns(1)
        client.close()
    gateway = scene.sidecar.gateway
    while gateway.counters.requests < len(paths) or gateway.counters.connections_open:
        await turns(1)
    text = await scraped(scene)
    assert "zxqv" not in text.lower()
    told = samples(text)
    allowed = {
        "endpoint": {endpoint.name for endpoint in load_endpoints(None).endpoints} | {"unknown"},
        "pool": {"", *scene.sidecar.work.gates},
        "worker": set(gateway.pools),
    }
    series = [sample for name, found in told.items() if name.startswith(PREFIX) for sample in found]
    for sample in series:
        for label, values in allowed.items():
            assert sample.labels.get(label, next(iter(values))) in values
    endpoints = len({sample.labels["endpoint"] for sample in series if "endpoint" in sample.labels})
    assert endpoints <= 3
    assert len(series) < 2 * endpoints * (10 + len(DURATIONS) + 3 + 2) + 150 * len(gateway.pools) + 200


@pytest.mark.needs("promtool")
@staged(Operated)
async def test_promtool(scene: Operated) -> None:
    """Prometheus' own judge of names, kinds and helps finds nothing to say."""
    text = await scraped(scene)
    judged = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False)
    assert (judged.returncode, judged.stdout, judged.stderr) == (0, b"", b"")


def test_every_counter_is_told() -> None:
    """A counter that nobody can read is not worth its nanoseconds."""
    fields = set(attrs.fields_dict(Counters))
    assert fields == set(COUNTERS) | WITH_LABELS
    assert set(COUNTERS.values()) <= set(METRICS)


def test_labels_are_explained() -> None:
    """All of them, and no others."""
    used = {label for metric in METRICS.values() for label in metric.labels}
    assert used - {"version", "python", "twisted", "endpoints"} == set(LABELS)


def test_names() -> None:
    """As Prometheus' conventions want them: a unit in the plural where there is one, and no `_total` of our own."""
    for metric in METRICS.values():
        assert re.fullmatch(r"[a-z][a-z_]*", metric.name)
        assert not metric.name.endswith("_total")
        assert metric.help.endswith(".")
        if metric.kind == "histogram":
            assert metric.name.endswith("_seconds")
            assert metric.full_name == PREFIX + metric.name


def test_page(tmp_path: Path) -> None:
    """docs/metrics.md is what the catalogue says; `PYTHONPATH=tests python -m pages.metrics` renews it."""
    page = PAGE.read_text()
    assert renewed(page) == page
    copy = tmp_path / "metrics.md"
    copy.write_text(page.replace("matrix_sidecar_ready", "matrix_sidecar_raedy"))
    main(copy)
    assert copy.read_text() == page


def test_nothing_is_counted_for_nobody() -> None:
    """Without an operator's listener there are no tallies; the default has none."""
    assert Settings().admin is None


def test_json_of_the_page_is_valid() -> None:
    """The examples in docs/metrics.md can be read."""
    blocks = re.findall(r"```json\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        assert json.loads(block)
