"""The comparison of proxies in front of one homeserver: its arithmetic, its configurations, its clients."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp", reason="aiohttp is not installed; matrix-nio brings it")

import aiohttp
from aiohttp import web

from benchmarks.__main__ import main
from benchmarks.homeserver import costs, expressions
from benchmarks.homeserver.clients import Crowd, Load, Person, Room
from benchmarks.homeserver.deployments import SIX, TWELVE, Deployment
from benchmarks.homeserver.measure import times
from benchmarks.homeserver.population import SIZES, Size, places
from benchmarks.homeserver.proxies import Variant
from benchmarks.homeserver.results import METRICS, Case, Report, Row, from_json, to_json
from benchmarks.homeserver.rules import WITHOUT
from benchmarks.homeserver.tables import plot, tables
from benchmarks.programs import ProgramError, find
from sidecar.config.load import settle
from sidecar.config.schema import Pool
from sidecar.document import parse_document

numbers = st.dictionaries(
    st.sampled_from([metric.key for metric in METRICS]),
    st.lists(st.floats(min_value=0.001, max_value=1e6), min_size=1, max_size=5).map(tuple),
)
rows = st.builds(Row, st.sampled_from(["nginx", "haproxy", "sidecar"]), numbers)
cases = st.builds(
    lambda found, rate: Case("six", "24 users", "messages", rate, tuple(found)),
    st.lists(rows, max_size=3, unique_by=lambda row: row.variant),
    st.floats(min_value=0.1, max_value=100),
)
reports = st.lists(cases, max_size=3).map(lambda found: Report({"processor": "any"}, 30.0, tuple(found)))

SAID = """\
# HELP synapse_util_caches_cache lookups
synapse_util_caches_cache{name="getEvent"} 10.0
synapse_util_caches_cache_hits{name="getEvent"} 7.0
synapse_storage_query_time_count{verb="SELECT"} 5.0
synapse_http_server_response_count_total{code="200",method="GET",servlet="SyncRestServlet"} 3.0
synapse_http_server_response_count_total{code="200",method="POST",servlet="ReplicationSendEventsRestServlet"} 2.0
synapse_http_server_response_ru_utime_seconds_total{servlet="SyncRestServlet"} 0.5
synapse_http_server_response_ru_stime_seconds_total{servlet="SyncRestServlet"} 0.25
python_gc_objects_collected_total{generation="0"} 3.0
"""


@given(reports)
def test_report_survives_json(report: Report) -> None:
    """Numbers that were written are read back unchanged."""
    assert from_json(to_json(report)) == report


@given(reports)
def test_picture_names_what_was_measured(report: Report) -> None:
    """Whatever was measured and whatever was not, the SVG can be parsed, with a bar for each variant."""
    picture = ElementTree.fromstring(plot(report))
    texts = Counter(element.text for element in picture.iter("{http://www.w3.org/2000/svg}text"))
    for variant in ("nginx", "haproxy", "sidecar"):
        assert texts[variant] == sum(bool(case.row(variant).numbers) for case in report.cases)


def test_goals_are_of_medians() -> None:
    """One disturbed round changes no verdict, and what is missed is said."""
    ours = Row("sidecar", {"synapse": (90.0, 91.0, 300.0), "send p50": (90.0,), "arrival p50": (10.0,)})
    theirs = Row("nginx", {"synapse": (100.0,), "send p50": (100.0,)})
    text = tables(Report({}, 1.0, (Case("six", "24 users", "messages", 4.0, (ours, theirs)),)))
    line = text.splitlines()[-3]
    assert [cell.strip() for cell in line.split("|")[2:5]] == ["0.910", "0.900, missed", "not measured"]


def test_failures_stand_below_the_table() -> None:
    """No number is shown without what went wrong while it was measured."""
    row = Row("nginx").with_round({"synapse": 1.0, "failed PUT send: 500": 2.0}).with_round({"synapse": 3.0})
    assert row.middle("synapse") == 2.0
    text = tables(Report({}, 1.0, (Case("six", "24 users", "messages", 4.0, (row, Row("haproxy", problem="gone"))),)))
    assert "nginx: failed PUT send: 500 2 times" in text
    assert "haproxy: gone" in text


def test_what_synapse_says_is_added_up() -> None:
    """Over processes, by kind; and what was there before is taken away."""
    both = costs.told([SAID, SAID])
    assert both.of("misses") == {"getEvent": 6.0}
    assert both.of("queries") == {"": 10.0}
    assert both.of("seconds") == {"SyncRestServlet": 1.5}
    assert both.hops == 4.0
    assert both.since(costs.told([SAID])).of("misses") == {"getEvent": 3.0}


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.name)
def test_rooms_have_their_members(size: Size) -> None:
    """Nobody is in a room twice, and nobody is left out."""
    inside = [places(size, room) for room in range(size.rooms)]
    assert all(len(set(members)) == size.members for members in inside)
    assert {user for members in inside for user in members} == set(range(size.users))


def test_every_expression_is_used() -> None:
    """What Synapse's documentation says of a worker that there is goes to it, and streams come before the rest."""
    pools = [pool for pool, _, _ in expressions.routes(TWELVE)]
    assert set(pools) == {name for name in expressions.members(TWELVE, apart=True) if name != "main"}
    assert max(pools.index(stream) for stream in TWELVE.writers) < pools.index("client")
    by_expression = {expression: pool for pool, _, expression in expressions.routes(TWELVE)}
    assert by_expression["^/_matrix/client/(r0|v3)/sync$"] == "sync"
    assert by_expression["^/_matrix/federation/v1/send/"] == "federation_send"
    assert by_expression["^/_matrix/client/(api/v1|r0|v3|unstable)/rooms/.*/send"] == "rooms"


@pytest.mark.parametrize("deployment", [SIX, TWELVE], ids=lambda found: found.topology.name)
@pytest.mark.parametrize("program", ["nginx", "haproxy"])
def test_programs_read_their_files(program: str, deployment: Deployment, tmp_path: Path) -> None:
    """nginx and HAProxy take what is written for them."""
    try:
        found = find(program)
    except ProgramError as error:
        pytest.skip(str(error))
    socket, file = (lambda name: tmp_path / f"{name}.sock"), tmp_path / program
    if program == "nginx":
        file.write_text(expressions.nginx(deployment, socket, tmp_path, 8008))
        command: list[Any] = [found, "-t", "-e", "stderr", "-p", tmp_path, "-c", file]
    else:
        file.write_text(expressions.haproxy(deployment, socket, 8008))
        command = [found, "-c", "-f", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("variant", WITHOUT, ids=lambda variant: variant.name)
def test_each_rule_can_be_switched_off(variant: Variant) -> None:
    """The sidecar takes the keys, and they change the pools that they name."""
    workers = {process.name: {"endpoint": f"unix:/{process.name}"} for process in TWELVE.topology.processes}
    text = json.dumps({"workers": workers, **variant.settings(TWELVE)})
    pools = settle(parse_document(text.encode(), "/etc/sidecar.yaml")).pools
    assert pools
    assert all(pool != Pool() for pool in pools.values())


def test_equal_workers_are_those_that_write_nothing() -> None:
    assert SIX.equals == TWELVE.equals == ("sync1", "sync2", "client1", "client2")


class Standin:
    """As much of a homeserver as the clients talk to: what is sent reaches everybody who syncs."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.events: list[dict[str, Any]] = []
        self.more = asyncio.Condition()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/_matrix/client/v3/sync", self.sync)
        app.router.add_route("*", "/{rest:.*}", self.other)
        return app

    async def sync(self, request: web.Request) -> web.Response:
        since = int(request.query.get("since", "0"))
        async with self.more:
            await self.more.wait_for(lambda: len(self.events) > since or "since" not in request.query)
        timeline = {"timeline": {"events": self.events[since:]}}
        answer = {"next_batch": str(len(self.events)), "rooms": {"join": {"!room": timeline}}}
        return web.Response(text=json.dumps(answer, separators=(",", ":")))

    async def other(self, request: web.Request) -> web.Response:
        parts = unquote(request.path).split("/")
        self.asked[parts[6] if len(parts) > 6 else parts[-1]] += 1
        if parts[6] == "send":
            async with self.more:
                self.events.append({"event_id": f"${len(self.events)}", "content": await request.json()})
                self.more.notify_all()
        return web.json_response({}, status=500 if parts[6] == "messages" else 200)


def test_crowd_measures_what_arrives() -> None:
    """Each message reaches every other member once, is read by as many as were told to, and failures are counted."""

    async def scenario() -> tuple[Crowd, Counter[str]]:
        standin = Standin()
        runner = web.AppRunner(standin.app(), handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        people = [Person(f"@u{number}:here", f"token{number}") for number in range(4)]
        load = Load(rate=200.0, readers=2, messages=2)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            crowd = Crowd(session, people, [Room("!room", people)], load)
            async with crowd.present():
                assert await crowd.paced(0.05) == 10
                await crowd.settled(10)
                while standin.asked["receipt"] < 20:
                    await asyncio.sleep(0)
        await runner.cleanup()
        return crowd, standin.asked

    crowd, asked = asyncio.run(asyncio.wait_for(scenario(), 30))
    assert len(crowd.seen.sends) == 10
    assert len(crowd.seen.arrivals) == crowd.seen.awaited == 30
    assert crowd.missing == 0
    assert asked["typing"] == asked["send"] == 10
    assert crowd.seen.failures == {"GET messages: 500": 5}
    assert times(crowd.seen)["send p50"] > 0


def test_report_is_shown_without_measuring(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--from` reads what an earlier run wrote, and writes its picture."""
    row = Row("nginx", {"synapse": (250.0, 252.0)})
    (tmp_path / "run.json").write_text(to_json(Report({}, 30.0, (Case("six", "24 users", "messages", 4.0, (row,)),))))
    assert main(["--homeserver", "--from", str(tmp_path / "run.json"), "--plot", str(tmp_path / "run.svg")]) == 0
    assert "251 (250-252)" in capsys.readouterr().out
    assert ElementTree.parse(tmp_path / "run.svg")
