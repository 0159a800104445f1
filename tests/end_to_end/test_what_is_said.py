"""What the sidecar says of itself is so, with a real Synapse: each pool is drained, killed and emptied."""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from signal import SIGKILL

import pytest
from standing import Standing, drain_all, kill_all, requests_of, sets_of

from .access_log import AccessLogs
from .children import ask
from .exact_http import exchange
from .laboratory import Gateway, Laboratory, running_sidecar
from .synapse_files import REQUEST_ID_HEADER
from .topology import SPLIT, Configuration

SETTINGS = {
    "timeouts": {"wait": "300ms", "wait_federation": "300ms", "health_interval": "500ms", "slow_start": 0},
    "operator": {"actions": "page"},
}
ABSENT = ("media1", "typing1", "event1", "accountdata1", "fed1")


@contextmanager
def said_by(laboratory: Laboratory, name: str, directory: Path, absent: Sequence[str] = ()) -> Iterator[Standing]:
    """A sidecar of its own, that does not see the files of those that are absent, and the judge of what it says."""
    layout = laboratory.layout
    workers = layout.etc / f"workers-{name}"
    shutil.copytree(layout.workers, workers)
    for worker in absent:
        (workers / f"{worker}.yaml").unlink()
    synapse = {"config": ["etc/homeserver.yaml", "etc/conf.d"], "workers": [str(workers)]}
    logs = AccessLogs({process.name: layout.log(process.name) for process in laboratory.topology.processes})
    with running_sidecar(laboratory, "three_lines", settings={**SETTINGS, "synapse": synapse}, name=name) as gateway:
        operator = layout.socket(f"sidecar.{name}")
        yield Standing(
            ask=partial(ask, operator, "GET"),
            send=lambda lines: asyncio.run(_answered(gateway, logs, lines)),
            requests=requests_of(SPLIT.event_writers, absent),
            directory=directory,
        )


async def _answered(gateway: Gateway, logs: AccessLogs, lines: Iterable[str]) -> list[str | None]:
    return list(await asyncio.gather(*(_one(gateway, logs, line) for line in lines)))


async def _one(gateway: Gateway, logs: AccessLogs, line: str) -> str | None:
    """Who answers a request, as Synapse's own access log says."""
    method, target = line.split()
    request_id = secrets.token_hex(6)
    content: dict[str, object] | None = None if method == "GET" else {}
    reply = await exchange(gateway.port, method, target, [(REQUEST_ID_HEADER, request_id)], content)
    if reply.status == 503:
        assert reply.json["errcode"] == "M_UNKNOWN", (line, reply.body)
        return None
    assert reply.status < 500, (line, reply.status, reply.body)
    return (await logs.answer(request_id)).worker


@pytest.mark.needs("promtool")
@pytest.mark.parametrize("gateways", [SPLIT.name], indirect=True)
def test_what_is_said_is_so(gateways: Mapping[Configuration, Gateway], tmp_path: Path) -> None:
    """Of drained, of empty and of killed pools, at the end of all: what is said is what requests get."""
    laboratory = gateways["three_lines"].laboratory

    def act(name: str, what: str) -> None:
        status, content = ask(laboratory.layout.socket("sidecar.said"), "POST", f"/api/workers/{name}/{what}")
        assert status == 200, content

    with said_by(laboratory, "lacking", tmp_path, ABSENT) as lacking:
        lacking.compare()
    with said_by(laboratory, "said", tmp_path) as standing:

        def gone(names: Sequence[str]) -> None:
            away = partial(_are, standing, "down", names)
            gateways["three_lines"].process.wait_until(away, 30.0)

        drain_all(standing, sets_of(SPLIT), act)
        try:
            kill_all(standing, sets_of(SPLIT), lambda name: laboratory.end(name, SIGKILL), gone)
        finally:
            laboratory.start(*(process.name for process in SPLIT.processes))
        print(f"{standing.compared} requests")


def _are(standing: Standing, state: str, names: Sequence[str]) -> bool:
    workers = standing.status()["workers"]
    return all(workers[name]["state"] == state for name in names)
