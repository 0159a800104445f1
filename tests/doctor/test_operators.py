"""What `doctor` reads out of the status of a running sidecar, beside the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar import __version__
from sidecar.commands.init import _pools
from sidecar.doctor.operators import judge_status
from sidecar.doctor.pool_checks import examine_pools
from sidecar.loading.deployment import Deployment, read_deployment

CONFIGURATION = """\
synapse: {version: "1.163.2"}
workers:
  main: {endpoint: "unix:main.sock"}
  sync1: {endpoint: "unix:sync1.sock", serves: [client]}
"""


@pytest.fixture
def deployment(tmp_path: Path) -> Deployment:
    (tmp_path / "sidecar.yaml").write_text(CONFIGURATION)
    return read_deployment(str(tmp_path / "sidecar.yaml"))


def status(deployment: Deployment, **changes: Any) -> dict[str, Any]:
    """The status of one that runs by these files."""
    pools = {
        name: {"workers": list(pool.workers), "fallback": list(pool.fallback), "limit": 1}
        for name, pool in deployment.plan.pools.items()
    }
    workers = {name: {"state": "up", "reason": ""} for name in deployment.plan.workers}
    plain = {"version": __version__, "endpoints": "1.163", "pools": pools, "workers": workers, "reload": None}
    return {**plain, **changes}


def told(deployment: Deployment, **changes: Any) -> list[str]:
    return [
        f"{finding.level.value}: {finding.sentence}"
        for finding in judge_status(status(deployment, **changes), deployment)
    ]


def test_one_that_is_well_has_nothing_to_tell(deployment: Deployment) -> None:
    """It runs by these files, with this version, and all of its workers are up."""
    assert told(deployment) == []
    assert told(deployment, reload={"accepted": True, "problems": [], "changes": ["nothing is different"]}) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"version": "0.0.9"}, "warning: The running sidecar has version 0.0.9, but"),
        ({"pools": {}}, "warning: The configuration files have changed since the sidecar read them."),
        ({"endpoints": "1.150"}, "warning: The running sidecar uses the endpoints of Synapse 1.150"),
        (
            {"reload": {"accepted": False, "problems": ["a.yaml:1: x: bad"]}, "pools": {}},
            "error: The sidecar refused the last reload, and still uses the configuration before it: a.yaml:1: x: bad",
        ),
        ({"maintenance": {"text": "Back soon."}}, "warning: Maintenance mode is on: clients get 503."),
        ({"workers": {"sync1": {"state": "draining"}}}, "warning: sync1 is drained and gets no requests."),
        (
            {"workers": {"sync1": {"state": "down", "reason": "Connection refused"}}},
            "error: The sidecar cannot reach sync1: Connection refused.",
        ),
        ({"workers": {"sync1": {"state": "down"}}}, "error: The sidecar cannot reach sync1: it has not answered yet."),
    ],
)
def test_what_is_amiss(deployment: Deployment, changes: dict[str, Any], sentence: str) -> None:
    """One finding, with what to do."""
    (finding,) = told(deployment, **changes)
    assert finding.startswith(sentence)


def test_who_stands_in_and_what_nobody_serves(deployment: Deployment) -> None:
    """By the parts of pools as the running sidecar tells them; what `/ready` tells already is not repeated."""
    running = status(deployment)["pools"]

    def part(name: str, by: str, *now: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "served_by": by, "now": list(now), "open": True, "required": True, **more}

    running["sync"]["parts"] = [part("sync", "fallback", "main")]
    running["client"]["parts"] = [part("client (reading)", "fallback", "main"), part("client (writing)", "nobody")]
    running["rooms"]["parts"] = [part("rooms", "nobody", required=False)]
    running["main"]["parts"] = [part("main", "nobody", open=False, required=False)]
    assert told(deployment, pools=running) == [
        "error: No worker serves rooms now.",
        "warning: None of their own workers can serve sync, client (reading); main serves them instead.",
    ]


def test_a_writer_that_no_file_describes(tmp_path: Path) -> None:
    """Nobody serves what Synapse's files give to it, and neither `doctor` nor `init` says that somebody does."""
    (tmp_path / "homeserver.yaml").write_text(
        "server_name: example.org\nreport_stats: false\n"
        "listeners: [{type: http, path: /run/main.sock, resources: [{names: [client, federation]}]}]\n"
        "instance_map: {main: {path: /run/r.sock}, typing1: {path: /run/t.sock}}\n"
        "stream_writers: {typing: typing1}\n"
    )
    (tmp_path / "sidecar.yaml").write_text('synapse: {config: [homeserver.yaml], version: "1.163.2"}\n')
    deployment = read_deployment(str(tmp_path / "sidecar.yaml"))
    sentences = [finding.sentence for finding in examine_pools(deployment.plan, {}, None)]
    assert sentences[0].startswith("typing: no process serves it. Synapse's files assign it to typing1,")
    assert "typing: no worker: the address of typing1 is unknown" in list(_pools(deployment))
    rows = {row.endpoint.name: row.reason for row in deployment.plan.rows}
    assert rows["room_typing"].startswith("no process that can be reached serves it; it belongs to typing1")
