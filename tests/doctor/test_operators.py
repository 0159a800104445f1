"""What `doctor` reads out of the status of a running sidecar, beside the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sidecar import __version__
from sidecar.deployment import Deployment, read_deployment
from sidecar.doctor.operators import judge_status

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
        ({"version": "0.0.9"}, "warning: The running sidecar is 0.0.9, and this program is"),
        ({"pools": {}}, "warning: The running sidecar has read other files than are there now."),
        ({"endpoints": "1.150"}, "warning: The running sidecar routes by the endpoints of Synapse 1.150"),
        (
            {"reload": {"accepted": False, "problems": ["a.yaml:1: x: bad"]}, "pools": {}},
            "error: The last reload was refused, and the configuration before it holds: a.yaml:1: x: bad",
        ),
        ({"workers": {"sync1": {"state": "draining"}}}, "warning: sync1 is drained, and gets no requests."),
        (
            {"workers": {"sync1": {"state": "away", "reason": "Connection refused"}}},
            "error: The sidecar cannot reach sync1: Connection refused.",
        ),
        ({"workers": {"sync1": {"state": "away"}}}, "error: The sidecar cannot reach sync1: nobody has answered yet."),
    ],
)
def test_what_is_amiss(deployment: Deployment, changes: dict[str, Any], sentence: str) -> None:
    """One finding, with what to do."""
    (finding,) = told(deployment, **changes)
    assert finding.startswith(sentence)
